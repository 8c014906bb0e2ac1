# SPDX-License-Identifier: Apache-2.0
"""Whether a float is the number that a text names; without Arrow, for lookups too."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

SURE = 15
"""So many digits, without an exponent, any float keeps (DBL_DIG of C)."""

_MOST = 800
"""No float has more digits than 767."""


def carries(value: float, text: str) -> bool:
    """Whether the text is the float, written with as many digits as the text has.

    So ``0.1`` and every text that a database prints for a float is carried, and
    ``9007199254740993`` is not: the float next to it is another whole number.

    Args:
        value: the float nearest to the text, finite.
        text: a decimal number, perhaps with an exponent.
    """
    mantissa = text.lower().partition("e")[0].lstrip("+-").replace(".", "")
    digits = len(mantissa.strip("0")) or 1
    if digits > _MOST:
        return False
    try:
        wanted = Decimal(text)
    except InvalidOperation:  # an exponent beyond all bounds
        return False
    return wanted in (Decimal(f"{value:.{digits - 1}e}"), Decimal(repr(value)))
