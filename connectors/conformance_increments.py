# SPDX-License-Identifier: Apache-2.0
"""The rules of increments, for connectors that promise them; beside conformance.py.

Each rule is a function of a Subject that can ``begin`` a transaction. They write while
they read: what a cursor on the largest number or time loses must not be lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from random import Random
from threading import Event
from typing import Any

from connectors.conformance import (
    ID,
    NOTE,
    SAMPLES,
    BrokenRule,
    Row,
    Subject,
    Transaction,
    _pages,
    _read,
    _rows,
    require,
)
from connectors.contract import (
    FrontierLost,
    IncrementalSession,
    Limits,
    StreamSpec,
)


def late_commits_come(subject: Subject) -> None:
    """A row that is committed after a later one was read comes with the next increment.

    Its transaction began, and its number and its time were taken, before (rule 13).
    """
    stream, begin = _changing(subject, "conf_late")
    late, early = begin(), begin()
    late.put(stream.table, (1, "late"))
    early.put(stream.table, (2, "early"))
    early.commit()
    since, copy = _increment(subject, stream, None)
    late.commit()
    since, more = _increment(subject, stream, since)
    require(copy == {2: "early"}, f"the full read gives {copy}")
    require(more.get(1) == "late", "a row that was committed late is lost")


def late_updates_come(subject: Subject) -> None:
    """So does an update, also one behind a savepoint that was undone in between."""
    stream, begin = _changing(subject, "conf_late_update", (1, "a"), (2, "a"), (3, "a"))
    since, _ = _increment(subject, stream, None)
    late = begin()
    late.put(stream.table, (1, "b"))
    late.save()
    late.put(stream.table, (2, "undone"))
    late.undo()
    late.save()
    late.put(stream.table, (3, "b"))
    other = begin()
    other.put(stream.table, (4, "new"))
    other.commit()
    since, _ = _increment(subject, stream, since)
    late.commit()
    _, more = _increment(subject, stream, since)
    require((more.get(1), more.get(3)) == ("b", "b"), f"got {more}")
    require(more.get(2, "a") == "a", "a row that was undone came")


def undone_rows_never_come(subject: Subject) -> None:
    """What was rolled back, or is not committed, is in no increment (rule 13)."""
    stream, begin = _changing(subject, "conf_undone", (1, "a"))
    since, _ = _increment(subject, stream, None)
    gone, waits = begin(), begin()
    gone.put(stream.table, (1, "gone"))
    gone.put(stream.table, (2, "gone"))
    waits.put(stream.table, (3, "waits"))
    since, first = _increment(subject, stream, since)
    gone.rollback()
    _, second = _increment(subject, stream, since)
    waits.rollback()
    for got in (first, second):
        require(not {"gone", "waits"} & set(got.values()), f"got {got}")


def nothing_waits_for_a_forgotten_session(subject: Subject) -> None:
    """Rows come although another transaction stays open for a long time (rule 13)."""
    stream, begin = _changing(subject, "conf_forgotten", (1, "a"))
    forgotten = begin()
    forgotten.put(stream.table, (2, "forgotten"))
    since, copy = _increment(subject, stream, None)
    subject.add(stream.table, [(3, "c")])
    for _ in range(3):
        since, more = _increment(subject, stream, since)
        copy |= more
    forgotten.rollback()
    require(copy.get(3) == "c", "a row waits for a transaction of somebody else")


def increments_can_be_resumed(subject: Subject) -> None:
    """The pages of an increment are in key order and can be resumed after (rule 13)."""
    stream, _ = _changing(subject, "conf_increment_pages")
    since, _ = _increment(subject, stream, None)
    subject.add(stream.table, [(i * 7919 % 101, str(i)) for i in range(60)])
    with _incremental(subject, page_rows=7) as session:
        until = session.frontier(stream).value
        pages = list(session.changes(stream, since, until))
        whole = _rows(pages)
        require(whole == sorted(whole), "an increment is out of order")
        require(len(whole) == 60, f"{len(whole)} rows of 60 came")
        require(len(pages) > 1, "one page only, so nothing to resume")
        done = pages[0].rows.num_rows
        rest = _rows(session.changes(stream, since, until, pages[0].token))
    require(whole[done:] == rest, "resuming loses rows or gives them twice")


def what_changed_is_read_alike(subject: Subject) -> None:
    """Values and types of an increment are those of a full read (rule 13)."""
    for letter, (column, values) in SAMPLES.items():
        stream = subject.stream(f"conf_changed_{letter.lower()}", (ID, column), [])
        since, _ = _increment(subject, stream, None)
        subject.add(stream.table, list(enumerate((*values, None))))
        with _incremental(subject) as session:
            until = session.frontier(stream).value
            increment = list(session.changes(stream, since, until))
            full = list(_read(session, stream))
        got, wanted = map(repr, (_rows(increment), _rows(full)))
        require(got == wanted, f"type {letter}: {got} and in full {wanted}")
        types = [page.rows.schema for page in increment]
        require(types == [page.rows.schema for page in full], f"types of {letter}")


def a_foreign_frontier_is_refused(subject: Subject) -> None:
    """A frontier that cannot be read, or another table's, is told as lost (rule 14)."""
    stream, _ = _changing(subject, "conf_lost", (1, "a"))
    for since in ("", "{}", "null", "nonsense", "[1]", "12"):
        try:
            _increment(subject, stream, since)
        except FrontierLost as e:
            require(e.reason == "unreadable", f"reason {e.reason} for {since!r}")
        else:
            raise BrokenRule(f"an increment goes on from {since!r}")


def a_table_made_anew_is_noticed(subject: Subject) -> None:
    """After a table was dropped and made again, it is read whole (rule 14)."""
    stream, _ = _changing(subject, "conf_anew", (1, "a"))
    since, _ = _increment(subject, stream, None)
    subject.stream("conf_anew", (ID, NOTE), [(2, "b")])
    try:
        _, more = _increment(subject, stream, since)
    except FrontierLost:
        return
    require(more == {2: "b"}, f"got {more} and no word of the rebuilt table")


def many_writers_lose_nothing(subject: Subject) -> None:
    """Increments beside writers that commit out of order add up to the table.

    Half of the transactions undo a savepoint, a fifth is rolled back (rule 13).
    """
    stream, begin = _changing(subject, "conf_writers", *((i, "0") for i in range(20)))
    since, copy = _increment(subject, stream, None)
    stop = Event()
    with ThreadPoolExecutor(4) as threads:
        busy = [
            threads.submit(_write_on, begin, stream.table, Random(seed), seed, stop)  # noqa: S311 - no secret
            for seed in range(4)
        ]
        for _ in range(12):
            stop.wait(0.15)
            since, more = _increment(subject, stream, since)
            copy |= more
        stop.set()
        written = sum(writer.result() for writer in busy)
    for _ in range(2):
        since, more = _increment(subject, stream, since)
        copy |= more
    table = dict(_rows(_pages(subject, stream)))
    wrong = {k for k in table.keys() | copy.keys() if table.get(k) != copy.get(k)}
    require(written > 40, f"only {written} transactions were written")
    require(not wrong, f"{len(wrong)} of {len(table)} rows are lost, stale or wrong")


def _write_on(
    begin: Callable[[], Transaction],
    table: tuple[str, ...],
    chance: Random,
    number: int,
    stop: Event,
) -> int:
    """Transactions of one writer until told to stop; how many."""
    done = 0
    while not stop.is_set():
        done += 1
        one = begin()
        one.put(table, (1000 * (number + 1) + done, f"{number}.{done}"))
        stop.wait(chance.choice((0.0, 0.0, 0.05, 0.4)))
        if chance.random() < 0.5:
            one.save()
            one.put(table, (number * 5 + chance.randrange(5), "undone"))
            one.undo()
        one.save()
        one.put(table, (number * 5 + chance.randrange(5), f"{number}.{done}"))
        if chance.random() < 0.2:
            one.rollback()
        else:
            one.commit()
    return done


INCREMENT_RULES: tuple[Callable[[Subject], None], ...] = (
    late_commits_come,
    late_updates_come,
    undone_rows_never_come,
    nothing_waits_for_a_forgotten_session,
    increments_can_be_resumed,
    what_changed_is_read_alike,
    a_foreign_frontier_is_refused,
    a_table_made_anew_is_noticed,
    many_writers_lose_nothing,
)
"""Rules for connectors that promise increments; the subject needs ``begin``."""


def _changing(
    subject: Subject, name: str, *rows: Row
) -> tuple[StreamSpec, Callable[[], Transaction]]:
    """A new table whose increments are promised, and what opens transactions."""
    stream = subject.stream(name, (ID, NOTE), rows)
    caps = subject.connector.capabilities(subject.config, stream)
    require(caps.increments is not None, "no increments are promised")
    if subject.begin is None:
        raise BrokenRule("the subject cannot begin a transaction")
    return stream, subject.begin


@contextmanager
def _incremental(
    subject: Subject, page_rows: int = 65_536
) -> Iterator[IncrementalSession]:
    limits = Limits(page_rows=page_rows)
    with subject.connector.open(subject.config, limits) as session:
        if not isinstance(session, IncrementalSession):
            raise BrokenRule("increments are promised, but there is no changes()")
        yield session


def _increment(
    subject: Subject, stream: StreamSpec, since: str | None
) -> tuple[str, dict[Any, Any]]:
    """The next frontier and the rows up to it by key; all rows without ``since``."""
    with _incremental(subject) as session:
        until = session.frontier(stream).value
        if since is None:
            return until, dict(_rows(_read(session, stream)))
        return until, dict(_rows(session.changes(stream, since, until)))
