# SPDX-License-Identifier: Apache-2.0
"""Change the centre's rows behind the exchange's back, for tests of reconciling.

What nobody sealed: a program with a password, a restored table, a disk that lied. The
exchange's own records stay as they are.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from agent.model.item import Item, ItemType
from agent.wire.members import Members
from sandbox import columns
from sandbox.accept import Refused
from sandbox.store import Store

MARK = "behind its back"
"""What altered and added texts begin with."""
MOST = 1_000_000
"""Most rows to change at once."""


@dataclass(frozen=True)
class Tampering:
    """So many rows of a resource are changed, in the order of the table."""

    resource: str
    alter: int
    remove: int
    add: int


def read(members: Members) -> Tampering:
    """What a body asks for.

    Raises:
        MalformedMessage: a member does not fit.
    """
    counts = {n: members.integer(n, most=MOST) for n in ("alter", "remove", "add")}
    return Tampering(members.text("resource"), **counts)


def tamper(store: Store, wanted: Tampering) -> None:
    """Change the rows in one transaction.

    Raises:
        Refused: nothing is loaded, or its items cannot be changed this way.
    """
    stream = store.stream(wanted.resource)
    if stream.catalog is None:
        raise Refused("not-found", "nothing is loaded")
    items = store.items(stream.catalog)
    table = columns.quoted(store.table(wanted.resource))
    with store.transaction():
        _alter(store.connection, table, items, wanted)
        _remove(store.connection, table, items, wanted)
        _add(store.connection, table, items, wanted.add)


def _alter(
    db: sqlite3.Connection, table: str, items: tuple[Item, ...], wanted: Tampering
) -> None:
    texts = [i for i in items if i.type is ItemType.C and not i.key]
    if not texts:
        raise Refused("malformed", "no item of type C to alter")
    name = columns.quoted(texts[0].name)
    some = _some(table, items)
    sql = f"update {table} set {name} = ? where {some}"  # noqa: S608 - quoted
    db.execute(sql, [MARK, wanted.alter, 0])


def _remove(
    db: sqlite3.Connection, table: str, items: tuple[Item, ...], wanted: Tampering
) -> None:
    sql = f"delete from {table} where {_some(table, items)}"  # noqa: S608 - quoted
    db.execute(sql, [wanted.remove, wanted.alter])


def _some(table: str, items: tuple[Item, ...]) -> str:
    """So many rows in the order of the key, after so many others."""
    keys = columns.names(columns.keys(items))
    return (
        f"({keys}) in (select {keys} from {table}"  # noqa: S608 - quoted
        f" order by {keys} limit ? offset ?)"
    )


def _add(db: sqlite3.Connection, table: str, items: tuple[Item, ...], n: int) -> None:
    key, *more = columns.keys(items)
    if more or key.type not in (ItemType.I, ItemType.C):
        raise Refused("malformed", "one key item of type I or C to add rows")
    values = [-i if key.type is ItemType.I else f"{MARK} {i}" for i in range(1, n + 1)]
    name = columns.quoted(key.name)
    db.executemany(
        f"insert into {table} ({name}) values (?)",  # noqa: S608 - quoted
        [(value,) for value in values],
    )
