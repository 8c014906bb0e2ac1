# SPDX-License-Identifier: Apache-2.0
"""What changed in a source's table since the last run, and whether it is safe; pure.

Rules

1. Only columns that the document binds, and the primary key, can hold a run: of the
   others no value ever travels. What changes of those is told.
2. Safe is what can hold every value that was there before and more: a longer text, more
   digits, a wider whole number, a column that may be empty now. A new column is safe.
3. Everything else is not: narrower, another type, gone, another key. A value might be
   cut or mean something else, and nobody would see it.
4. A document of a higher version, or of another table, says that a person has looked:
   what is there then counts as seen.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from agent.model.column import Column

_WHOLE = ("tinyint", "smallint", "mediumint", "int", "bigint")
_UNSIGNED = tuple(f"{name} unsigned" for name in _WHOLE)
_TEXTS = ("text", "mediumtext", "longtext")
_SECONDS = ("datetime", "timestamp", "time")
"""Of MySQL: no number means whole seconds. Elsewhere it means no bound."""
_ALIASES = {
    "int2": "smallint",
    "int4": "int",
    "integer": "int",
    "int8": "bigint",
    "character varying": "varchar",
    "character": "char",
    "bpchar": "char",
    "decimal": "numeric",
    "float4": "real",
    "float8": "double precision",
    "double": "double precision",
}
_WIDER = {
    *(("varchar", text) for text in _TEXTS),
    ("real", "double precision"),
    *(pair for row in (_WHOLE, _UNSIGNED, _TEXTS) for pair in combinations(row, 2)),
}
"""Base type -> one that holds all of its values as they are."""
_SIZE = re.compile(r"\(\s*(\d+)\s*(?:,\s*(-?\d+)\s*)?\)")


@dataclass(frozen=True)
class Change:
    """One difference.

    Args:
        column: its name; of a rename the old one.
        what: ``added``, ``widened``, ``nullable``, ``narrowed``, ``not-null``,
            ``type``, ``dropped``, ``renamed``, ``key``; ``other`` of a column that is
            not bound.
        before: as it was, or None.
        after: as it is, or None.
    """

    column: str
    what: str
    before: str | None
    after: str | None

    @property
    def safe(self) -> bool:
        """Whether a run may go on."""
        return self.what in {"added", "widened", "nullable", "other"}

    def __str__(self) -> str:
        """On one line, as a diff is read."""
        match self.before, self.after:
            case None, after:
                return f"+ {self.column} {after}"
            case before, None:
                return f"- {self.column} {before}"
            case before, after:
                return f"~ {self.column} {before} -> {after} ({self.what})"


def changes(
    before: Sequence[Column], after: Sequence[Column], *, bound: Collection[str]
) -> tuple[Change, ...]:
    """All differences of a table, by the order of its columns.

    Args:
        before: columns that the last run saw.
        after: columns of now.
        bound: names of those that the document reads.
    """
    old, new = {c.name: c for c in before}, {c.name: c for c in after}
    found = [*_columns(old, new, bound), *_key(before, after)]
    return tuple(_renamed(found, old, new))


def _columns(
    old: dict[str, Column], new: dict[str, Column], bound: Collection[str]
) -> Iterator[Change]:
    for name, was in old.items():
        now = new.get(name)
        if now is None:
            what = "dropped" if name in bound else "other"
            yield Change(name, what, _shown(was), None)
        elif name in bound:
            judged = _judged(was, now)
            if judged is not None:
                yield Change(name, judged, _shown(was), _shown(now))
        elif _shown(was) != _shown(now):
            yield Change(name, "other", _shown(was), _shown(now))
    for name, now in new.items():
        if name not in old:
            yield Change(name, "added", None, _shown(now))


def _key(before: Sequence[Column], after: Sequence[Column]) -> Iterator[Change]:
    was = ", ".join(c.name for c in before if c.key)
    now = ", ".join(c.name for c in after if c.key)
    if was != now:
        yield Change("PRIMARY KEY", "key", f"({was})", f"({now})")


def _renamed(
    found: Sequence[Change], old: dict[str, Column], new: dict[str, Column]
) -> Iterator[Change]:
    """One column gone and one like it come: most likely it has another name now."""
    gone = [c for c in found if c.what == "dropped"]
    come = [c for c in found if c.what == "added"]
    pairs = {
        (a.column, b.column)
        for a in gone
        for b in come
        if _shown(old[a.column]) == _shown(new[b.column])
    }
    names = dict(pairs) if len(pairs) == len(gone) == len(come) else {}
    for change in found:
        if change.column in names and change.what == "dropped":
            new_name = names[change.column]
            yield Change(change.column, "renamed", change.before, f"as {new_name}")
        elif change.what != "added" or change.column not in names.values():
            yield change


def _judged(was: Column, now: Column) -> str | None:
    """What became of a bound column, the worst of it; None if nothing did."""
    found = _type(was, now)
    if found in {None, "widened"} and was.nullable != now.nullable:
        return "nullable" if now.nullable else "not-null"
    return found


def _type(was: Column, now: Column) -> str | None:
    old, new = _base(was.native), _base(now.native)
    if old != new:
        return "widened" if (old, new) in _WIDER else "type"
    if was.native.lower() == now.native.lower() or new in (*_WHOLE, *_UNSIGNED):
        return None  # the number behind a whole number is how wide it is shown
    unsaid = 0 if old in _SECONDS else None
    (a, b), (c, d) = _size(was.native, unsaid), _size(now.native, unsaid)
    if c is None:
        return "widened"
    if a is None or c - d < a - b or d < b:
        return "narrowed"
    return "widened" if (a, b) != (c, d) else "type"


def _base(native: str) -> str:
    """The type without its size, by one name."""
    name = " ".join(_SIZE.sub(" ", native.lower()).split())
    return _ALIASES.get(name, name)


def _size(native: str, unsaid: int | None) -> tuple[int | None, int]:
    """(length or digits, digits after the point); ``unsaid`` if nothing is said."""
    found = _SIZE.search(native)
    return (unsaid, 0) if found is None else (int(found[1]), int(found[2] or 0))


def _shown(column: Column) -> str:
    return f"{column.native or '?'}{'' if column.nullable else ' NOT NULL'}"
