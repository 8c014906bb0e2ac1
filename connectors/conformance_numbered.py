# SPDX-License-Identifier: Apache-2.0
"""The rules of numbers, for connectors whose sessions are a NumberedSession."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from connectors.conformance import (
    CODE,
    ID,
    BrokenRule,
    Row,
    Subject,
    _rows,
    require,
)
from connectors.contract import (
    FrontierLost,
    Highest,
    Limits,
    NumberedSession,
    SourceError,
    StreamSpec,
)


def windows_give_their_rows(subject: Subject) -> None:
    """Those of the windows and no others, in key order; resuming loses none (16)."""
    rows = [(i * 7919 % 101, f"{i:03}") for i in range(101)]
    stream = _numbered(subject, "conf_windows", rows)
    windows = ((3, 5), (40, 40), (90, None))
    wanted = sorted(code for n, code in rows if n in (3, 4, 5, 40) or n >= 90)
    with _session(subject, page_rows=4) as session:
        session.frontier(stream)
        subject.add(stream.table, [(95, "later"), (200, "later")])
        pages = list(session.numbered(stream, windows))
        rest = _rows(session.numbered(stream, windows, pages[0].token))
    whole = [code for (code,) in _rows(pages)]
    require(whole == wanted, f"got {whole}, expected {wanted}")
    require(len(pages) > 1, "one page only, so nothing to resume")
    done = pages[0].rows.num_rows
    require([c for (c,) in rest] == whole[done:], "resuming loses rows or repeats them")


def the_highest_number_is_told(subject: Subject) -> None:
    """Also of an empty table, and whether a row has none."""
    stream = _numbered(subject, "conf_highest", [])
    grown: list[tuple[Row, Highest]] = [
        ((7, "a"), Highest(7, False)),
        ((-9, "b"), Highest(7, False)),
        ((None, "c"), Highest(7, True)),
    ]
    with _session(subject) as session:
        require(session.highest(stream) == Highest(None, False), "an empty table")
    for row, wanted in grown:
        subject.add(stream.table, [row])
        with _session(subject) as session:
            got = session.highest(stream)
        require(got == wanted, f"got {got}, expected {wanted}")


def no_writer_is_older_than_told(subject: Subject) -> None:
    """One that is open began at the told instant or later, or nobody tells (15)."""
    stream = _numbered(subject, "conf_writers", [])
    if subject.begin is None:
        raise BrokenRule("the subject cannot begin a transaction")
    writer = subject.begin()
    writer.put(stream.table, (1, "open"))
    with _session(subject) as session:
        begun = session.server_time()
        oldest = session.oldest_writer(stream)
    writer.commit()
    late = oldest is not None and _instant(oldest) > _instant(begun)
    require(not late, f"a writer was open at {begun}, and {oldest} is told")


def writers_are_asked_for_before_the_snapshot(subject: Subject) -> None:
    """Afterwards the answer would come too late, and is refused."""
    stream = _numbered(subject, "conf_before", [(1, "a")])
    with _session(subject) as session:
        session.frontier(stream)
        try:
            session.oldest_writer(stream)
        except SourceError as e:
            require(e.kind == "failed", f"the kind is {e.kind}")
        else:
            raise BrokenRule("the oldest writer is told after the snapshot")


def a_column_that_is_no_number_is_refused(subject: Subject) -> None:
    """A missing column, or one of another type, is told before a row is read."""
    stream = _numbered(subject, "conf_no_number", [(1, "a")])
    for name, kind in (("absent", "missing"), ("code", "type")):
        wrong = replace(stream, number=name)
        for ask in (_highest, _rest):
            with _session(subject) as session:
                got = _kind_of(ask, session, wrong)
            require(got == kind, f"{name}: the kind is {got}, expected {kind}")


def a_source_that_went_on_is_known(subject: Subject) -> None:
    """Two frontiers of one source go on; a text that is none does not (rule 14)."""
    stream = _numbered(subject, "conf_goes_on", [(1, "a")])
    with _session(subject) as session:
        since = session.frontier(stream).value
    with _session(subject) as session:
        until = session.frontier(stream).value
        session.goes_on(since, until)
        try:
            session.goes_on("{}", until)
        except FrontierLost as e:
            require(e.reason == "unreadable", f"the reason is {e.reason}")
        else:
            raise BrokenRule("an unreadable frontier goes on")


NUMBER_RULES: tuple[Callable[[Subject], None], ...] = (
    windows_give_their_rows,
    the_highest_number_is_told,
    no_writer_is_older_than_told,
    writers_are_asked_for_before_the_snapshot,
    a_column_that_is_no_number_is_refused,
    a_source_that_went_on_is_known,
)
"""Rules for connectors with numbered sessions; the subject needs ``begin``."""


def _numbered(subject: Subject, name: str, rows: Sequence[Row]) -> StreamSpec:
    """A table whose number is not among the columns that are read."""
    stream = subject.stream(name, (ID, CODE), rows)
    return replace(stream, columns=(CODE,), number="id")


@contextmanager
def _session(subject: Subject, page_rows: int = 65_536) -> Iterator[NumberedSession]:
    limits = Limits(page_rows=page_rows)
    with subject.connector.open(subject.config, limits) as session:
        if not isinstance(session, NumberedSession):
            raise BrokenRule("the session knows no numbers")
        yield session


def _highest(session: NumberedSession, stream: StreamSpec) -> object:
    return session.highest(stream)


def _rest(session: NumberedSession, stream: StreamSpec) -> object:
    return list(session.numbered(stream, ((1, None),)))


def _kind_of(
    ask: Callable[[NumberedSession, StreamSpec], object],
    session: NumberedSession,
    stream: StreamSpec,
) -> str:
    try:
        ask(session, stream)
    except SourceError as e:
        return e.kind
    return "none"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
