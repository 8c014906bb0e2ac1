# SPDX-License-Identifier: Apache-2.0
"""What a rule finds wrong in a column of typed text; null is never wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable
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
    lengths,
    text_bytes,
    truth,
)

Judge = Callable[[Any], Faults]
"""A column of text -> reason -> rows; disjoint."""

_STAR = "★".encode()
_SIZE = 18
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
    first = np.flatnonzero(data[:-2] == _STAR[0])
    if not (
        len(first)
        and ((data[first + 1] == _STAR[1]) & (data[first + 2] == _STAR[2])).any()
    ):
        return None
    found = truth(pc.match_substring_regex(text, MARKING))
    return found if found.any() else None


def _listed(table: Iterable[str]) -> Judge:
    allowed = pa.array(list(table), pa.string())

    def wrong(text: Column) -> Faults:
        known = pc.is_in(text, allowed)
        return _one(reasons.CODE_LIST, ~truth(pc.or_(known, text.is_null())))

    return wrong


def _region(text: Column) -> Faults:
    """Six digits of a known province; there are few regions, so each is judged once."""
    found = text.dictionary_encode()
    known = [_is_region(value) for value in found.dictionary.to_pylist()]
    good = pc.take(pa.array(known, pa.bool_()), found.indices)
    return _one(reasons.CODE_LIST, ~truth(pc.or_kleene(good, text.is_null())))


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


_CITIZEN_WEIGHTS = np.array(identifiers.CITIZEN_WEIGHTS, np.float32)
_CITIZEN_CHECK = np.frombuffer(identifiers.CITIZEN_CHECK.encode(), np.uint8)
_MONTH_DAYS = np.array([0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31], np.uint8)


def _citizen_rows(chars: _Codes) -> Mask:
    digits = chars[:, :17] - np.uint8(ord("0"))
    total = (digits.astype(np.float32) @ _CITIZEN_WEIGHTS).astype(np.int32)
    good: Mask = _CITIZEN_CHECK[total % 11] == chars[:, 17]
    good &= digits.max(axis=1, initial=0) <= 9
    return good & _dates(digits[:, 6:14].astype(np.uint16))


def _dates(digits: npt.NDArray[np.uint16]) -> Mask:
    d = digits.T
    year = d[0] * 1000 + d[1] * 100 + d[2] * 10 + d[3]
    month, day = d[4] * 10 + d[5], d[6] * 10 + d[7]
    most = _MONTH_DAYS[np.minimum(month, 12)]
    good: Mask = (year >= 1) & (month >= 1) & (month <= 12) & (day >= 1) & (day <= most)
    leap_day = (month == 2) & (day == 29)
    if leap_day.any():
        leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
        good &= leap | ~leap_day
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
