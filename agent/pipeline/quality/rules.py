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
    truth,
)
from agent.wire.texts import lengths, text_bytes
from connectors.native.rules import (
    MOST,
    doubtful_citizen_ids,
    doubtful_credit_codes,
    unlisted,
)

Judge = Callable[[Any], Faults]
"""A column of text -> reason -> rows; disjoint."""

_STAR = "★".encode()
_PIECE = 128 * 1024
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
    if len(allowed) > MOST:
        raise ValueError(f"expected at most {MOST} codes, got {len(allowed)}")

    def wrong(text: Column) -> Faults:
        found = unlisted(text, allowed)
        return {} if found is None else {reasons.CODE_LIST: found}

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


# --- identifiers: all are judged at once in C, what it doubts one by one --------------


def _citizen_id(text: Column) -> Faults:
    return _identifiers(text, doubtful_citizen_ids(text), _citizen_reason)


def _uscc(text: Column) -> Faults:
    return _identifiers(text, doubtful_credit_codes(text), _uscc_reason)


def _identifiers(
    text: Column, doubtful: Mask | None, reason: Callable[[str], str | None]
) -> Faults:
    found: Faults = {}
    if doubtful is None:
        return found
    rows = np.flatnonzero(doubtful)
    for row, value in zip(rows, text.take(rows).to_pylist(), strict=True):
        why = reason(value)
        if why:
            found.setdefault(why, np.zeros(len(text), np.bool_))[row] = True
    return found


def _citizen_reason(value: str) -> str | None:
    if identifiers.is_citizen_id(value):
        return None
    tidy = identifiers.tidy(value)
    if identifiers.is_first_generation(tidy):
        return reasons.CITIZEN_ID_15
    if identifiers.is_citizen_id(tidy):
        return reasons.CITIZEN_ID_FORM
    return reasons.CITIZEN_ID


def _uscc_reason(value: str) -> str | None:
    if identifiers.is_uscc(value):
        return None
    if identifiers.is_uscc(identifiers.tidy(value)):
        return reasons.USCC_FORM
    return reasons.USCC
