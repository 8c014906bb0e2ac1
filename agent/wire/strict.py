# SPDX-License-Identifier: Apache-2.0
"""JSON as the wire format allows it (wire.md §1), and nothing else.

- UTF-8 without BOM, no lone surrogates, written or escaped.
- The top value is an object and counts as depth 1; the cap is 8.
- Every number is an integer without fraction or exponent, |n| < 2^53.
- No member twice at any level; no NaN, no Infinity.
"""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

from agent.errors import MalformedMessage

DEPTH = 8
"""Deepest nesting of a message."""
LIMIT = 1 << 53
"""Bound of every number: |n| < LIMIT."""

_TOKEN = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
"""A string or a bracket; possessive, so that no text takes quadratic time."""
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def loads(data: bytes, *, depth: int = DEPTH) -> dict[str, Any]:
    """The object that a payload holds.

    Args:
        data: bytes as received.
        depth: deepest nesting allowed.

    Raises:
        MalformedMessage: anything that the rules above do not allow.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise MalformedMessage(f"JSON: expected UTF-8, byte {e.start} is not") from e
    _check_depth(text, depth)
    try:
        obj = _DECODER.decode(text)
    except json.JSONDecodeError as e:
        raise MalformedMessage(f"JSON: {e.msg} at character {e.pos}") from e
    if not isinstance(obj, dict):
        raise MalformedMessage("JSON: expected an object at the top")
    if _ESCAPED_HALF.search(text):  # UTF-8 has none, only escapes can write one
        _check_text(obj)
    return obj


def dumps(obj: dict[str, Any]) -> bytes:
    """Compact UTF-8 JSON of an object, members in their order."""
    return _ENCODER.encode(obj).encode("utf-8")


def _check_depth(text: str, cap: int) -> None:
    """Refuse deep nesting before the parser would recurse into it."""
    if text.count("{") + text.count("[") <= cap:  # most messages: not one too many
        return
    depth = 0
    for token in _TOKEN.finditer(text):
        first = token[0][0]
        if first in "[{":
            depth += 1
            if depth > cap:
                raise MalformedMessage(f"JSON: expected at most {cap} levels")
        elif first in "]}":
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    obj = dict(pairs)
    if len(obj) != len(pairs):
        raise MalformedMessage("JSON: expected every member once, got one twice")
    return obj


def _integer(digits: str) -> int:
    if len(digits) > 17 or abs(int(digits)) >= LIMIT:
        raise MalformedMessage("JSON: expected integers below 2^53")
    return int(digits)


def _no_fraction(_: str) -> NoReturn:
    raise MalformedMessage("JSON: expected integers, got a fraction or an exponent")


def _no_constant(name: str) -> NoReturn:
    raise MalformedMessage(f"JSON: expected a number, got {name}")


def _check_text(value: Any) -> None:
    """Refuse lone surrogates, which escapes can write."""
    if isinstance(value, str):
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as e:
            raise MalformedMessage("JSON: expected no lone surrogates") from e
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_text(name)
            _check_text(member)
    elif isinstance(value, list):
        for member in value:
            _check_text(member)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_DECODER = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_no_fraction,
    parse_constant=_no_constant,
)
