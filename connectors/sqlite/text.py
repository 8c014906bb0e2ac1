# SPDX-License-Identifier: Apache-2.0
"""The text of a value; without Arrow, which lookups have no need of."""

from __future__ import annotations

from decimal import Decimal


def text_of(value: object) -> str | None:
    """A value that is not bytes as text: rule 2 of ``values``."""
    if value is None or isinstance(value, str):
        return value
    text = repr(value)
    return format(Decimal(text), "f") if "e" in text else text
