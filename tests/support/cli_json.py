# SPDX-License-Identifier: Apache-2.0
"""Hold real JSON answers to ``docs/cli-json.md``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DOCUMENT = Path(__file__).parents[2] / "docs" / "cli-json.md"
_ROW = re.compile(r"\| `([^`]+)` \| ([a-z-]+)(\??) \|")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
_OPTIONAL = {"daemon", "jws", "manifest", "since", "next_try", "error.faults[]"}
_SCALARS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "time": str,
}

Members = dict[str, tuple[str, bool]]


def sections() -> dict[str, Members]:
    """Heading -> member -> (type, whether null is allowed)."""
    found: dict[str, Members] = {}
    heading = ""
    for line in DOCUMENT.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading = line[3:]
            found[heading] = {}
        elif match := _ROW.match(line):
            found[heading][match[1]] = (match[2], bool(match[3]))
    return found


def shape(name: str) -> Members:
    """The members of a shape."""
    return sections()[f"Shape `{name}`"]


def faults(members: Members, body: Any) -> list[str]:
    """Where an answer and the document differ; nothing if they agree."""
    return list(_faults(members, body, ""))


def _faults(members: Members, body: Any, at: str) -> Iterator[str]:
    seen: set[str] = set()
    for member, value in _flat(body, members, ""):
        if member not in members:
            yield f"{at}{member}: not documented"
            continue
        seen.add(member)
        yield from _fits(f"{at}{member}", value, *members[member])
    empty = {name.split("[]")[0] for name in members if "[]" in name}
    for member in members.keys() - seen - _OPTIONAL:
        if not any(member.startswith(e) for e in empty):
            yield f"{at}{member}: documented, but not there"


def _flat(body: Any, members: Members, at: str) -> Iterator[tuple[str, Any]]:
    """Members of an object, inner objects by dots unless they are documented whole."""
    for name, value in body.items():
        path = f"{at}{name}"
        if path in members:
            yield path, value
        elif isinstance(value, dict):
            yield from _flat(value, members, f"{path}.")
        elif isinstance(value, list):
            for entry in value:
                if f"{path}[]" not in members and isinstance(entry, dict):
                    yield from _flat(entry, members, f"{path}[].")
                else:
                    yield f"{path}[]", entry
        else:
            yield path, value


def _fits(at: str, value: Any, kind: str, null: bool) -> Iterator[str]:
    if value is None:
        if not null:
            yield f"{at}: null is not documented"
    elif kind == "map":
        if not all(isinstance(v, int) for v in value.values()):
            yield f"{at}: expected a map of integers"
    elif kind in _SCALARS:
        fits = isinstance(value, _SCALARS[kind])
        if kind == "time":
            fits = fits and bool(_TIME.fullmatch(value))
        if not fits or (kind == "integer" and isinstance(value, bool)):
            yield f"{at}: expected {kind}, got {value!r}"
    elif kind != "any":
        yield from _faults(shape(kind), value, f"{at}.")
