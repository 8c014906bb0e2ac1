# SPDX-License-Identifier: Apache-2.0
"""What the daemon and a source's lookup worker say to each other.

One socket, one JSON object a line, at most ``LINE_CAP`` bytes. The daemon's first line
is an :class:`Opening`, which holds the source's secrets. Then, in any number: a
:class:`Shape` gives a number to a form of question, a :class:`Query` asks many keys of
one shape. The worker answers each query, in any order, with one or more
:class:`Found`, the last of which says so, or with one :class:`Fault`. Several asks may
share a query; what each found stays apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from agent.lookup.query.ask import BAD, MOST_KEYS, TWICE
from agent.model.item import Item, ItemType
from agent.model.job import LINE_CAP, BoundItem
from agent.wire.text import LONG_CAP

LANES = 4
"""Queries that a worker answers at a time, each in a session of its own."""

NOBODY = 0
"""In place of a query's id: the worker cannot serve at all, and goes."""

SLOTS = 256
"""Shapes that a worker knows at a time."""

PAGE_CAP = 32 * 1024 * 1024
"""Aim for the bytes of all values that a query may find."""

LARGE = "large"
"""In place of an ask's rows: they are longer than a line."""

_HEAD = 256
"""Bytes of a line of rows beside the rows."""


@dataclass(frozen=True)
class Opening:
    """How the source is reached.

    Args:
        connector: name in the connector registry.
        config: the source's settings, secrets included. Never logged.
        statement_s: longest time for a statement, seconds.
        timezone: IANA name for source times without zone.
    """

    connector: str
    config: Mapping[str, Any] = field(repr=False)
    statement_s: int
    timezone: str


@dataclass(frozen=True, eq=False)
class Shape:
    """A form of question: everything but the keys. Equal only to itself.

    Args:
        table: schema-qualified name, outermost first.
        items: what to answer, with their columns.
        keys: names of the items that are compared.
    """

    table: tuple[str, ...]
    items: tuple[BoundItem, ...]
    keys: tuple[str, ...]

    @cached_property
    def most_keys(self) -> int:
        """Keys that a query may have, so that what it finds fits in memory."""
        row = sum(_bytes(bound.item) for bound in self.items)
        return max(1, min(MOST_KEYS, PAGE_CAP // (2 * row)))


def _bytes(item: Item) -> int:
    """Most bytes of a value in UTF-8."""
    if item.type in (ItemType.M, ItemType.G):
        return LONG_CAP
    return 4 * (item.length or 0) if item.type is ItemType.C else 64


@dataclass(frozen=True)
class Query:
    """Keys of one shape.

    Args:
        id: the daemon's, unique among those under way.
        slot: the shape's number.
        split: how many keys each ask has, in order.
        keys: of all asks.
    """

    id: int
    slot: int
    split: tuple[int, ...]
    keys: Sequence[Sequence[str]] = field(repr=False)


@dataclass(frozen=True)
class Found:
    """What some asks of a query found.

    Args:
        id: of the query.
        last: nothing more comes for it.
        as_of: the source's clock.
        size: bytes of the line.
        asks: for each ask the rows of its keys, or :data:`LARGE`; a row is its texts,
            None, or ``TWICE``.
    """

    id: int
    last: bool
    as_of: str
    size: int
    asks: Sequence[Any] = field(repr=False)


@dataclass(frozen=True)
class Fault:
    """A query failed; ``code`` is the code of a class in ``agent.errors``."""

    id: int
    code: str
    detail: str


# --- the daemon's lines -----------------------------------------------------------


def opening_line(opening: Opening) -> bytes:
    """The first line."""
    return _line(asdict(opening))


def opening_of(line: bytes) -> Opening:
    """The opening of a line.

    Raises:
        ValueError: not one that :func:`opening_line` makes.
    """
    try:
        return Opening(**json.loads(line))
    except TypeError:
        raise ValueError("not an opening") from None


def shape_line(slot: int, shape: Shape) -> bytes:
    """The line that puts a shape into a slot."""
    return _line({"shape": slot, **asdict(shape)})


def query_line(query: Query) -> bytes:
    """The line that asks."""
    keys = json.dumps(query.keys, ensure_ascii=False, separators=(",", ":"))
    split = ",".join(map(str, query.split))
    head = f'{{"id":{query.id},"slot":{query.slot},"split":[{split}],"keys":'
    return f"{head}{keys}}}\n".encode("utf-8", "surrogatepass")


def asked_of(line: bytes) -> tuple[int, Shape] | Query:
    """A line of the daemon's after the first.

    Raises:
        ValueError: not one that this module makes.
    """
    body = json.loads(line.decode("utf-8", "surrogatepass"))
    try:
        if "id" in body:
            split, keys = tuple(body["split"]), body["keys"]
            return Query(body["id"], body["slot"], split, keys)
        items = tuple(_bound(b) for b in body["items"])
        shape = Shape(tuple(body["table"]), items, tuple(body["keys"]))
        return body["shape"], shape
    except (KeyError, TypeError) as e:
        raise ValueError(f"not a line of the daemon's: {e}") from e


def _bound(body: dict[str, Any]) -> BoundItem:
    item = {**body["item"], "type": ItemType(body["item"]["type"])}
    return BoundItem(Item(**item), body["column"], encoding=body["encoding"])


# --- the worker's lines -----------------------------------------------------------


def found_lines(
    query: Query, as_of: str, asks: Sequence[Sequence[Any]]
) -> Iterator[bytes]:
    """The lines that answer a query; an ask that fits in none is :data:`LARGE`."""
    parts: list[bytes] = []
    size = _HEAD
    for ask in asks:
        part = _rows_text(ask)
        if size + len(part) + 1 > LINE_CAP:
            if parts:
                yield _found(query.id, as_of, parts, last=False)
            parts, size = [], _HEAD
            if size + len(part) + 1 > LINE_CAP:
                part = f'"{LARGE}"'.encode()
        parts.append(part)
        size += len(part) + 1
    yield _found(query.id, as_of, parts, last=True)


def _rows_text(rows: Sequence[Any]) -> bytes:
    text = json.dumps(rows, ensure_ascii=False, separators=(",", ":"), default=_odd)
    return text.encode()


def _odd(value: object) -> object:
    """``BAD`` is false and ``TWICE`` is true on the line."""
    if value is BAD:
        return False
    if value is TWICE:
        return True
    raise TypeError(type(value).__name__)


def _found(number: int, as_of: str, parts: Sequence[bytes], *, last: bool) -> bytes:
    done = "true" if last else "false"
    head = f'{{"id":{number},"last":{done},"as_of":"{as_of}","asks":['
    return b"".join((head.encode(), b",".join(parts), b"]}\n"))


def fault_line(fault: Fault) -> bytes:
    """The line that says why a query failed."""
    return _line(asdict(fault))


def answer_of(line: bytes) -> Found | Fault:
    """A line of the worker's.

    Raises:
        ValueError: not one that this module makes.
    """
    body = json.loads(line)
    try:
        if "code" in body:
            return Fault(body["id"], str(body["code"]), str(body["detail"]))
        asks, last = body["asks"], body["last"] is True
        return Found(int(body["id"]), last, str(body["as_of"]), len(line), asks)
    except (KeyError, TypeError) as e:
        raise ValueError("not a line of the worker's") from e


def row_of(found: Any) -> Any:
    """A row of a line with the values of ``ask`` in it."""
    if found is None:
        return None
    if found is True:
        return TWICE
    return tuple(BAD if v is False else v for v in found)


def _line(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, default=str).encode() + b"\n"
