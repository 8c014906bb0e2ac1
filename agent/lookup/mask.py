# SPDX-License-Identifier: Apache-2.0
"""Masks (脱敏): what is left of a value. Pure.

Rules

1. A mask keeps what its row of :data:`KEEPS` says and nothing else: two values that
   agree in that give the same text, whatever their hidden parts are.
2. A value of another form than the kind expects is hidden wholly. So is one of which
   the mask would keep everything.
3. Digits and letters of numbers are ASCII; look-alikes are another form.
4. NULL stays NULL, except with ``hide``, which tells nothing at all.

Masking is not anonymising: whoever knows the person may still recognise the rest.
Sources: DB34/T 4631.2-2023 政务数据脱敏 and the practice of departments; no national
rule says how many characters to keep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from agent.errors import Text
from agent.model.treatment import MaskKind

HIDDEN = "***"
"""What stands for a value that is hidden wholly; its length says nothing."""

KEEPS: Mapping[MaskKind, Text] = {
    MaskKind.NAME: Text("first character, the dot, the length", "首字、间隔号、长度"),
    MaskKind.CITIZEN_ID: Text("first 3, last 4", "前 3 位、后 4 位"),
    MaskKind.CITIZEN_ID_STRICT: Text("first 1, last 1", "前 1 位、后 1 位"),
    MaskKind.MOBILE: Text("first 3, last 4", "前 3 位、后 4 位"),
    MaskKind.LANDLINE: Text("area code, last 2", "区号、后 2 位"),
    MaskKind.BANK_CARD: Text("first 6, last 4", "前 6 位、后 4 位"),
    MaskKind.ADDRESS: Text("down to the district or county", "至区县"),
    MaskKind.EMAIL: Text("first letter, the domain", "首字母、域名"),
    MaskKind.YEAR: Text("the year", "年份"),
    MaskKind.PLATE: Text("first 3, last 1", "前 3 位、后 1 位"),
    MaskKind.HIDE: Text("nothing", "不保留"),
}
"""What each kind keeps, for people."""


def apply(kind: MaskKind | str, text: str | None) -> str | None:
    """What is left of a value.

    Args:
        kind: a kind of mask.
        text: canonical text of the value, or None for NULL.

    Raises:
        ValueError: there is no such kind; ``load`` lets none through.
    """
    known = MaskKind(kind)
    if known is MaskKind.HIDE:
        return HIDDEN
    if text is None:
        return None
    left = _KINDS[known](text)
    return HIDDEN if left is None or left == text else left


_DOTS = "·•・‧"
"""Dots in names of minorities: U+00B7 is the canonical one, the others occur."""


def _name(text: str) -> str | None:
    if not 2 <= len(text) <= 50 or not text[0].isalpha():
        return None
    if not all(c.isalpha() or c in _DOTS for c in text):
        return None
    return text[0] + "".join(c if c in _DOTS else "*" for c in text[1:])


def _ends(form: str, first: int, last: int) -> Callable[[str], str | None]:
    """A mask that keeps both ends of a text of some form."""
    compiled = re.compile(form)

    def mask(text: str) -> str | None:
        if not compiled.fullmatch(text) or len(text) <= first + last:
            return None
        stars = "*" * (len(text) - first - last)
        return text[:first] + stars + text[-last:]

    return mask


_LANDLINE = re.compile(
    r"(?P<area>0(?:10|2[0-9]|[3-9][0-9]{2})|0[0-9]{2,3}(?=-))(?P<dash>-?)"
    r"(?P<number>[0-9]{7,8})"
)


def _landline(text: str) -> str | None:
    found = _LANDLINE.fullmatch(text)
    if found is None:
        return None
    number = found["number"]
    return found["area"] + found["dash"] + "*" * (len(number) - 2) + number[-2:]


_EMAIL = re.compile(
    r"(?P<first>[0-9A-Za-z])[0-9A-Za-z._%+-]{1,63}"
    r"@(?P<domain>[0-9A-Za-z-]{1,63}(?:\.[0-9A-Za-z-]{1,63}){1,8})"
)


def _email(text: str) -> str | None:
    found = _EMAIL.fullmatch(text)
    return None if found is None else f"{found['first']}{HIDDEN}@{found['domain']}"


_YEAR = re.compile(
    r"(?P<year>[0-9]{4})(?:-[0-9]{2}-[0-9]{2}|[0-9]{4})"
    r"(?:T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z)?"
)


def _year(text: str) -> str | None:
    found = _YEAR.fullmatch(text)
    return None if found is None else found["year"]


_STREET = "路街道巷弄里号楼栋幢座室单元层村屯组社园场院厂店校馆站库景病小镇乡"
"""Characters that, in what would be kept, speak of more than a district."""
_HAN = rf"(?:(?![省市区县旗{_STREET}])[\u4e00-\u9fff])"
_PROVINCE = rf"(?:{_HAN}{{2,3}}省|{_HAN}{{2,6}}自治区|{_HAN}{{2}}特别行政区)"
_CITY = rf"(?:{_HAN}{{2,6}}(?:市|地区|盟)|{_HAN}{{2,9}}自治州)"
_DISTRICT = rf"{_HAN}{{1,12}}(?:自治县|自治旗|区|县|旗|市)"
_ADDRESS = re.compile(
    rf"(?P<kept>(?:{_PROVINCE}{_CITY}?|{_CITY}){_DISTRICT})"
    rf"(?![{_STREET}])[^\x00-\x1f]+",
)


def _address(text: str) -> str | None:
    found = _ADDRESS.fullmatch(text)
    return None if found is None else found["kept"] + HIDDEN


_PLATE = re.compile(
    r"(?P<head>[\u4e00-\u9fff][A-Z])(?P<dot>·?)(?P<third>[0-9A-Z])"
    r"(?P<rest>[0-9A-Z]{3,4})(?P<last>[0-9A-Z学警港澳挂])"
)


def _plate(text: str) -> str | None:
    found = _PLATE.fullmatch(text)
    if found is None:
        return None
    head = found["head"] + found["dot"] + found["third"]
    return head + "*" * len(found["rest"]) + found["last"]


_CITIZEN = r"[0-9]{17}[0-9Xx]|[0-9]{15}"

_KINDS: Mapping[MaskKind, Callable[[str], str | None]] = {
    MaskKind.NAME: _name,
    MaskKind.CITIZEN_ID: _ends(_CITIZEN, 3, 4),
    MaskKind.CITIZEN_ID_STRICT: _ends(_CITIZEN, 1, 1),
    MaskKind.MOBILE: _ends(r"1[0-9]{10}", 3, 4),
    MaskKind.LANDLINE: _landline,
    MaskKind.BANK_CARD: _ends(r"[0-9]{16,19}", 6, 4),
    MaskKind.ADDRESS: _address,
    MaskKind.EMAIL: _email,
    MaskKind.YEAR: _year,
    MaskKind.PLATE: _plate,
}
"""Kind -> what is left of a text, or None for another form."""
