# SPDX-License-Identifier: Apache-2.0
"""Numbers of persons and organisations: their checks.

Sources: GB 11643-1999 (公民身份号码), GB 32100-2015 (统一社会信用代码). A region is not
compared with today's list: numbers keep the codes of abolished counties.
"""

from __future__ import annotations

import re
import unicodedata
from calendar import monthrange

CITIZEN_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
CITIZEN_CHECK = "10X98765432"
"""Check character by weighted sum mod 11."""

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
"""Letters I, O, S, V and Z are not used."""
USCC_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))

_CITIZEN = re.compile(r"[0-9]{17}[0-9X]")
_FIRST_GENERATION = re.compile(r"[0-9]{15}")
_USCC = re.compile(f"[{USCC_ALPHABET}]{{18}}")


def tidy(text: str) -> str:
    """Half-width, capitals, no blanks: how a number should have been written."""
    return "".join(unicodedata.normalize("NFKC", text).split()).upper()


def citizen_check(first17: str) -> str:
    """Check character of 17 digits."""
    total = sum(int(d) * w for d, w in zip(first17, CITIZEN_WEIGHTS, strict=True))
    return CITIZEN_CHECK[total % 11]


def is_citizen_id(text: str) -> bool:
    """Whether a text is exactly a valid number of 18 characters."""
    if not _CITIZEN.fullmatch(text) or not _is_date(text[6:14]):
        return False
    return citizen_check(text[:17]) == text[17]


def is_first_generation(text: str) -> bool:
    """Whether a text is exactly a number of 15 digits, as issued until 1999."""
    return bool(_FIRST_GENERATION.fullmatch(text)) and _is_date("19" + text[6:12])


def uscc_check(first17: str) -> str:
    """Check character of the first 17 of a credit code.

    Raises:
        ValueError: a character outside of the alphabet.
    """
    total = sum(
        USCC_ALPHABET.index(c) * w for c, w in zip(first17, USCC_WEIGHTS, strict=True)
    )
    return USCC_ALPHABET[-total % 31]


def is_uscc(text: str) -> bool:
    """Whether a text is exactly a valid credit code.

    Licences with a wrong check character are in use, so a failure is a remark and no
    proof of an error.
    """
    return bool(_USCC.fullmatch(text)) and uscc_check(text[:17]) == text[17]


def _is_date(digits: str) -> bool:
    year, month, day = int(digits[:4]), int(digits[4:6]), int(digits[6:])
    if not (year and 1 <= month <= 12):
        return False
    return 1 <= day <= monthrange(year, month)[1]
