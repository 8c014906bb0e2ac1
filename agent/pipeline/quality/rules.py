# SPDX-License-Identifier: Apache-2.0
"""What a rule finds wrong in a column of typed text; null is never wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agent.catalog import codes, identifiers
from agent.model.marking import MARKING
from agent.pipeline.quality import reasons
from agent.values.columns import (
    Column,
    Faults,
    Mask,
    truth,
)
from agent.wire.texts import lengths, text_bytes

Judge = Callable[[Any], Faults]
"""A column of text -> reason -> rows; disjoint."""

_STAR = "★".encode()
_PIECE = 128 * 1024
_SIZE = 18
_ZERO = ord("0")
_REGION_SIZE = 6
_IS_PROVINCE = np.array([f"{n:02}" in codes.PROVINCES for n in range(100)])
_Codes = npt.NDArray[np.uint8]


def judge(rule: str) -> Judge:
    """The judge of a rule as a resource document writes it.

    Raises:
        ValueError: no such rule.
    """
    name, _, table = rule.partition(":")
    if name == "code" and table in codes.NAMES:
        return _region if table == codes.REGION else _listed(codes.TABLES[table])
    if rule == "citizen_id":
        return _citizen_id
    if rule == "uscc":
        return _uscc
    raise ValueError(f"no such rule: {rule[:64]}")


def marked(text: Column) -> Mask | None:
    """Rows with a secrecy marking such as 机密★; None if there are none.

    Nearly no text has a star, so its bytes are looked for first.
    """
    data = text_bytes(text)
    if not _has_star(data):
        return None
    found = truth(pc.match_substring_regex(text, MARKING))
    return found if found.any() else None


def _has_star(data: _Codes) -> bool:
    """Looked for piece by piece: what is compared stays in the processor's cache."""
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE + 2]
        begins = piece[:-2] == _STAR[0]
        if begins.any():
            at = np.flatnonzero(begins)
            if ((piece[at + 1] == _STAR[1]) & (piece[at + 2] == _STAR[2])).any():
                return True
    return False


def _listed(table: Iterable[str]) -> Judge:
    allowed = pa.array(list(table), pa.string())

    def wrong(text: Column) -> Faults:
        known = truth(pc.is_in(text, allowed))
        if known.all():
            return {}
        return _one(reasons.CODE_LIST, ~known & truth(text.is_valid()))

    return wrong


def _region(text: Column) -> Faults:
    """Six digits of a known province.

    All rows are judged at once; where one is wrong, each of the few regions is, once.
    """
    if _all_regions(text):
        return {}
    found = text.dictionary_encode()
    known = [_is_region(value) for value in found.dictionary.to_pylist()]
    good = pc.take(pa.array(known, pa.bool_()), found.indices)
    return _one(reasons.CODE_LIST, ~truth(pc.or_kleene(good, text.is_null())))


def _all_regions(text: Column) -> bool:
    known = text.drop_null() if text.null_count else text
    if (lengths(known) != _REGION_SIZE).any():
        return False
    digits = text_bytes(known).reshape(-1, _REGION_SIZE) - np.uint8(_ZERO)
    if digits.max(initial=0) > 9:  # below 0 it wraps
        return False
    return bool(_IS_PROVINCE[digits[:, 0] * 10 + digits[:, 1]].all())


def _is_region(value: str) -> bool:
    shaped = len(value) == 6 and value.isascii() and value.isdigit()
    return shaped and value[:2] in codes.PROVINCES


def _one(reason: str, mask: Mask) -> Faults:
    return {reason: mask} if mask.any() else {}


# --- identifiers: 18 ASCII characters are judged as a matrix, the rest one by one -----


def _citizen_id(text: Column) -> Faults:
    return _identifiers(text, _citizen_rows, _citizen_reason)


def _uscc(text: Column) -> Faults:
    return _identifiers(text, _uscc_rows, _uscc_reason)


def _identifiers(
    text: Column,
    good: Callable[[_Codes], Mask],
    reason: Callable[[str], str | None],
) -> Faults:
    sized = lengths(text) == _SIZE
    if text.null_count:
        sized &= truth(text.is_valid())
    fine = np.zeros(len(text), np.bool_)
    fine[sized] = good(_matrix(text, sized))
    doubtful = np.flatnonzero(~fine & truth(text.is_valid()))
    found: Faults = {}
    if not len(doubtful):
        return found
    values = text.take(doubtful).to_pylist()
    for row, value in zip(doubtful, values, strict=True):
        why = reason(value)
        if why:
            found.setdefault(why, np.zeros(len(text), np.bool_))[row] = True
    return found


def _matrix(text: Column, sized: Mask) -> _Codes:
    """The characters of the values of 18 bytes, one row each."""
    data = text_bytes(text)
    if not sized.all():
        ends = np.cumsum(lengths(text), dtype=np.int64)[sized]
        data = data[(ends - _SIZE)[:, None] + np.arange(_SIZE)]
    chars: _Codes = data.reshape(-1, _SIZE)
    return chars


_CITIZEN_CHECK = np.frombuffer(identifiers.CITIZEN_CHECK.encode(), np.uint8)
_LEAP_DAY = 229
_DAYS_OF_YEAR = frozenset(
    month * 100 + day
    for month, days in enumerate(
        (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31), start=1
    )
    for day in range(1, days + 1)
)
"""Month and day as four digits, of any year."""


def _sums(weights: Mapping[int, int]) -> npt.NDArray[np.float32]:
    """A column of a matrix that weighs 18 characters; its sums are exact in float32."""
    column = np.zeros(_SIZE, np.float32)
    column[list(weights)] = list(weights.values())
    return column


_CITIZEN_SUMS = np.stack(
    [
        _sums(dict(enumerate(identifiers.CITIZEN_WEIGHTS))),
        _sums({6: 1000, 7: 100, 8: 10, 9: 1}),
        _sums({10: 1000, 11: 100, 12: 10, 13: 1}),
    ],
    axis=1,
)
"""Characters to the sum that is checked, the year, and month and day: each the number
that its digits mean, and :data:`_CITIZEN_OVER` more, for a digit is its character less
``0``."""
_CITIZEN_OVER = (_ZERO * _CITIZEN_SUMS.sum(axis=0)).astype(np.int32)
_CITIZEN_MOST = (255 * _CITIZEN_SUMS.sum(axis=0)).astype(np.int32)


def _table(of: int, values: Callable[[npt.NDArray[np.int32]], Any]) -> Any:
    """What follows from each sum that may come."""
    return values(np.arange(_CITIZEN_MOST[of] + 1, dtype=np.int32) - _CITIZEN_OVER[of])


_CHECK_OF = _table(0, lambda total: _CITIZEN_CHECK[total % 11])
_IS_DAY = _table(2, lambda day: np.isin(day, list(_DAYS_OF_YEAR)))


def _citizen_rows(chars: _Codes) -> Mask:
    sums = (chars.astype(np.float32) @ _CITIZEN_SUMS).T.astype(np.int32)
    good: Mask = _CHECK_OF.take(sums[0]) == chars[:, 17]
    odd = chars - np.uint8(_ZERO) > 9
    if np.count_nonzero(odd) > np.count_nonzero(odd[:, 17]):
        good &= ~odd[:, :17].any(axis=1)
    return good & _dates(sums)


def _dates(sums: npt.NDArray[np.int32]) -> Mask:
    """Of the sums of digits."""
    good: Mask = _IS_DAY.take(sums[2])
    good &= sums[1] > _CITIZEN_OVER[1]  # there was no year 0
    leap_days = np.flatnonzero(sums[2] == _LEAP_DAY + _CITIZEN_OVER[2])
    year = sums[1][leap_days] - _CITIZEN_OVER[1]
    good[leap_days] &= (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    return good


def _citizen_reason(value: str) -> str | None:
    if identifiers.is_citizen_id(value):
        return None
    tidy = identifiers.tidy(value)
    if identifiers.is_first_generation(tidy):
        return reasons.CITIZEN_ID_15
    if identifiers.is_citizen_id(tidy):
        return reasons.CITIZEN_ID_FORM
    return reasons.CITIZEN_ID


_USCC_WEIGHTS = np.array(identifiers.USCC_WEIGHTS, np.float32)
_USCC_VALUES = np.full(256, 255, np.uint8)
_USCC_VALUES[list(identifiers.USCC_ALPHABET.encode())] = np.arange(31)


def _uscc_rows(chars: _Codes) -> Mask:
    values = _USCC_VALUES[chars]
    total = (values[:, :17].astype(np.float32) @ _USCC_WEIGHTS).astype(np.int32)
    good: Mask = (-total % 31) == values[:, 17]
    good &= values.max(axis=1, initial=0) < 31
    return good


def _uscc_reason(value: str) -> str | None:
    if identifiers.is_uscc(value):
        return None
    if identifiers.is_uscc(identifiers.tidy(value)):
        return reasons.USCC_FORM
    return reasons.USCC
