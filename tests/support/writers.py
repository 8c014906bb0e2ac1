# SPDX-License-Identifier: Apache-2.0
"""Writers that commit out of order.

Twelve writers each insert and update in transactions of 0 to 3 s; a third sets
savepoints and undoes some, a fifth is rolled back, and where the database can, a fourth
is committed in two phases, now and then by another session.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from threading import Event
from typing import Any, Protocol

ROWS_EACH = 50
WRITERS = 12

Execute = Callable[[str], Any]


class Database(Protocol):
    """What the writers need of a database."""

    @property
    def two_phase(self) -> bool:
        """Whether it commits in two phases."""
        ...

    def connect(self) -> tuple[Execute, Callable[[], None]]:
        """A session in autocommit: what runs a statement, and what closes it."""
        ...

    def prepared(self, name: str) -> tuple[str, str, str]:
        """Statements that prepare this transaction, commit and roll it back."""
        ...


@dataclass(frozen=True)
class Written:
    """What a writer did."""

    committed: int
    undone: int
    prepared: int


def write_on(database: Database, number: int, seed: int, stop: Event) -> Written:
    """Transactions of one writer until told to stop.

    Rows 1 to ROWS_EACH * WRITERS are there already; each writer updates its own.
    """
    chance, at = Random(seed * 1000 + number), [0, 0, 0]
    new = 1_000_000 * (number + 1)
    run, close = database.connect()
    try:
        while not stop.is_set():
            new += 1
            run("begin")
            _one(run, chance, number, new)
            stop.wait(chance.choice((0, 0, 0.01, 0.1, 0.5, 1.5, 3.0)))
            _one(run, chance, number, None)
            at[_ended(database, run, chance, f"t{number}_{new}")] += 1
    finally:
        close()
    return Written(*at)


def add_on(database: Database, number: int, seed: int, stop: Event) -> Written:
    """As :func:`write_on`, with rows that are only added; the database numbers them."""
    chance, at = Random(seed * 1000 + number), [0, 0, 0]
    run, close = database.connect()
    try:
        while not stop.is_set():
            text = f"{number}.{sum(at)}"
            run("begin")
            run(f"insert into work (note) values ('{text}')")
            stop.wait(chance.choice((0, 0, 0.01, 0.1, 0.5, 1.5, 3.0)))
            if chance.random() < 0.34:
                run("savepoint a")
                run("insert into work (note) values ('undone')")
                run("rollback to savepoint a")
            run(f"insert into work (note) values ('{text} more')")
            at[_ended(database, run, chance, f"t{number}_{sum(at)}")] += 1
    finally:
        close()
    return Written(*at)


def _ended(database: Database, run: Execute, chance: Random, name: str) -> int:
    """End a transaction; 0 it was committed, 1 undone, 2 prepared."""
    kind = chance.random()
    if database.two_phase and kind > 0.75:
        _in_two_phases(database, run, chance, name)
        return 2
    run("rollback" if kind < 0.2 else "commit")
    return int(kind < 0.2)


def _one(run: Execute, chance: Random, number: int, new: int | None) -> None:
    """An insert or update, perhaps beside one that is undone."""
    own = number * ROWS_EACH + chance.randrange(ROWS_EACH)
    text = f"{chance.randrange(10**9)}"
    nested = chance.random() < 0.34
    if nested:
        run("savepoint a")
        run(f"update work set note = 'undone' where id = {own}")
        run("rollback to savepoint a")
        run("savepoint b")
    if new is None:
        run(f"update work set note = '{text}' where id = {own}")
    else:
        run(f"insert into work (id, note) values ({new}, '{text}')")


def _in_two_phases(database: Database, run: Execute, chance: Random, name: str) -> None:
    prepare, commit, undo = database.prepared(name)
    run(prepare)
    time.sleep(chance.choice((0, 0.2, 1.0)))
    other, close = database.connect()
    try:
        other(undo if chance.random() < 0.2 else commit)
    finally:
        close()


Write = Callable[[Database, int, int, Event], Written]
"""What a writer does."""


@contextmanager
def writing(
    database: Database, seed: int, write: Write = write_on
) -> Iterator[Callable[[], list[Written]]]:
    """Writers at work; calling what is given stops them and tells what they did."""
    stop = Event()
    with ThreadPoolExecutor(WRITERS) as threads:
        busy = [
            threads.submit(write, database, number, seed, stop)
            for number in range(WRITERS)
        ]

        def end() -> list[Written]:
            stop.set()
            return [writer.result() for writer in busy]

        try:
            yield end
        finally:
            stop.set()
