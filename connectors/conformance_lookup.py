# SPDX-License-Identifier: Apache-2.0
"""What a connector that answers lookups runs against itself, beside ``conformance``.

Each of :data:`LOOKUP_RULES` takes the same ``Subject`` as the rules there; numbers in
brackets are those of the contract's rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any

from connectors.conformance import (
    AS_OF,
    CANARY,
    CODE,
    ID,
    NOTE,
    SAMPLES,
    Subject,
    fails,
    require,
    value_of,
)
from connectors.contract import (
    ColumnSpec,
    Limits,
    LookupConnector,
    LookupPage,
    LookupSession,
    LookupSpec,
    StreamSpec,
    offers_lookup,
)

SAFE = "'; drop table conf_lookup_sql; --"
HOSTILE = (
    "%",
    "_",
    "*",
    "A%",
    "a'",
    '"',
    "\\",
    "\\'",
    "{a,b}",
    "a,b",
    "(",
    "$1",
    ":k",
    "?",
    "NULL",
    "null",
    "' or '1'='1",
    "x' union select password from users --",
    SAFE,
    "\\x41",
    "e'\\x41'",
    "\r\n",
    "\t",
    "\u202e",
    "１２３",
    "0x41",
    "1e0",
    "+1",
    "01",
    " 1",
    "1 ",
    "1.0",
)
"""Texts that mean something to some parser; here they mean themselves."""

IMPOSSIBLE = (
    "\0",
    "a\0b",
    "\ud800",
    "9" * 400,
    "-" + "9" * 30,
    "1e999",
    "NaN",
    "Infinity",
    "٣",
    "字" * 4000,
    "9999-99-99",
    "2023-02-30",
    "true",
    "{}",
)
"""Texts that no whole number, date or short text is, and that some cannot even hold."""


def _spec(stream: StreamSpec, *keys: str) -> LookupSpec:
    return LookupSpec(stream, keys)


def _connector(subject: Subject) -> LookupConnector:
    connector = subject.connector
    if not offers_lookup(connector):
        raise TypeError(f"{connector.name} answers no lookups")
    return connector


def _fetch(
    subject: Subject, spec: LookupSpec, *keys: tuple[str, ...], timeout_s: int = 60
) -> LookupPage:
    limits = Limits(statement_timeout_s=timeout_s)
    with _connector(subject).lookup(subject.config, limits) as session:
        return _checked(session, spec, keys)


def _checked(
    session: LookupSession, spec: LookupSpec, keys: Sequence[tuple[str, ...]]
) -> LookupPage:
    """A page whose form is right."""
    page = session.fetch(spec, keys)
    width = len(spec.stream.columns)
    require(len(page.columns) == width, f"{len(page.columns)} columns, not {width}")
    sizes = {len(column) for column in page.columns}
    require(sizes == {len(page.which)}, "columns and numbers of keys differ in length")
    require(list(page.which) == sorted(page.which), "keys are out of order")
    require(all(0 <= i < len(keys) for i in page.which), "a key that was not asked")
    most = max((list(page.which).count(i) for i in page.which), default=0)
    require(most <= 2, f"{most} rows of one key")
    require(AS_OF.fullmatch(page.as_of), f"as_of breaks the grammar: {page.as_of}")
    kinds = {type(v) for column in page.columns for v in column}
    require(kinds <= {str, bytes, type(None)}, f"values of {kinds}")
    return page


def _exact(page: LookupPage, place: int, asked: Sequence[str]) -> list[list[str]]:
    """Notes (the last column) of the rows whose key is the asked text, key by key."""
    found: list[list[str]] = [[] for _ in asked]
    for i, key, note in zip(
        page.which, page.columns[place], page.columns[-1], strict=True
    ):
        if key == asked[i]:
            found[i].append(str(note))
    return found


def texts_are_found_exactly(subject: Subject) -> None:
    """Case, width, blanks and accents make other keys; each finds its own row (8)."""
    codes = ["a", "A", "a ", " a", "ａ", "á", "a\u0301", "", "张", "𠮷", "1", "01"]
    absent = ["b", "AA", "张 ", "\u3000张", "１", "1.0", "a%", "null"]
    stream = subject.stream(
        "conf_lookup_text", (CODE, NOTE), [(c, f"n{i}") for i, c in enumerate(codes)]
    )
    asked = codes + absent
    page = _fetch(subject, _spec(stream, "code"), *[(k,) for k in asked])
    expected = [[f"n{i}"] for i in range(len(codes))] + [[] for _ in absent]
    require(_exact(page, 0, asked) == expected, "a text finds another row or none")


def texts_are_no_statements(subject: Subject) -> None:
    """Wildcards, quotes and statements are keys like any other (8, 10)."""
    rows = [(text, f"n{i}") for i, text in enumerate(HOSTILE) if i % 2]
    stream = subject.stream("conf_lookup_sql", (CODE50, NOTE), rows)
    page = _fetch(subject, _spec(stream, "code"), *[(k,) for k in HOSTILE])
    expected = [[f"n{i}"] if i % 2 else [] for i in range(len(HOSTILE))]
    require(_exact(page, 0, HOSTILE) == expected, "a key was more than a text")
    again = _fetch(subject, _spec(stream, "code"), (HOSTILE[1],))
    require(len(again.which) == 1, "the table is not what it was")


CODE50 = ColumnSpec("code", "C", 50, None, key=True)


def numbers_are_found_exactly(subject: Subject) -> None:
    """A whole number and a decimal are found by their canonical text (8)."""
    amount = ColumnSpec("n", "N", 18, 4, key=False)
    rows = [
        (1, Decimal("100.1"), "a"),
        (-7, Decimal(0), "b"),
        (2**53 + 1, Decimal(-1), "c"),
    ]
    rows += [(2**63 - 1, Decimal("0.0001"), "d"), (11, Decimal("100.1001"), "e")]
    stream = subject.stream("conf_lookup_number", (ID, amount, NOTE), rows)
    asked = ["1", "-7", str(2**53 + 1), str(2**53), str(2**63 - 1), "111", "0"]
    page = _fetch(subject, _spec(stream, "id"), *[(k,) for k in asked])
    expected = [["a"], ["b"], ["c"], [], ["d"], [], []]
    require(_exact(page, 0, asked) == expected, "a whole number finds another row")
    decimals = ["100.1", "0", "-1", "0.0001", "100.1001", "100.10", "100"]
    page = _fetch(subject, _spec(stream, "n"), *[(k,) for k in decimals])
    notes = [
        [
            str(note)
            for i, got, note in zip(
                page.which, page.columns[1], page.columns[2], strict=True
            )
            if i == place and value_of(got, "N") == Decimal(key)
        ]
        for place, key in enumerate(decimals)
    ]
    require(notes[:5] == [["a"], ["b"], ["c"], ["d"], ["e"]], f"decimals find {notes}")
    require(notes[6] == [], "a decimal finds another row")


def dates_are_found_exactly(subject: Subject) -> None:
    """A day is found as ``YYYY-MM-DD`` (8)."""
    day = ColumnSpec("d", "D", None, None, key=False)
    rows = [(date(1990, 3, 7), "a"), (date(1, 1, 1), "b"), (date(9999, 12, 31), "c")]
    stream = subject.stream("conf_lookup_date", (day, NOTE), rows)
    asked = ["1990-03-07", "0001-01-01", "9999-12-31", "1990-03-08", "1990-3-7"]
    page = _fetch(subject, _spec(stream, "d"), *[(k,) for k in asked])
    expected = [["a"], ["b"], ["c"], [], []]
    require(_exact(page, 0, asked) == expected, "a day finds another row or none")


def all_keys_must_fit(subject: Subject) -> None:
    """Of several key columns all are equal, not some (8)."""
    rows = [(1, "a", "1a"), (1, "b", "1b"), (2, "a", "2a"), (None, "a", "-a")]
    stream = subject.stream("conf_lookup_two", (ID, CODE, NOTE), rows)
    asked = [("a", "1"), ("b", "1"), ("b", "2"), ("a", "2"), ("a", "3")]
    page = _fetch(subject, _spec(stream, "code", "id"), *asked)
    found = [(i, note) for i, note in zip(page.which, page.columns[2], strict=True)]
    require(found == [(0, "1a"), (1, "1b"), (3, "2a")], f"two keys find {found}")


def null_is_never_found(subject: Subject) -> None:
    """A row whose key is NULL is found by no text (8)."""
    rows = [(None, "x", "a"), (1, None, "b"), (2, "", "c")]
    stream = subject.stream("conf_lookup_null", (ID, CODE, NOTE), rows)
    asked = ["", "null", "NULL", "None", "x "]
    page = _fetch(subject, _spec(stream, "code"), *[(k,) for k in asked])
    require(_exact(page, 1, asked)[0] == ["c"], "the empty text finds another row")
    require(not any(_exact(page, 1, asked)[1:]), "NULL was found")


def two_rows_tell_that_a_key_is_double(subject: Subject) -> None:
    """Of many rows with one key two come; of the next key its one (9)."""
    rows = [("twice", str(i)) for i in range(50)] + [("once", "x"), ("Twice", "y")]
    stream = subject.stream("conf_lookup_double", (CODE, NOTE), rows)
    asked = ["twice", "once", "twice"]
    page = _fetch(subject, _spec(stream, "code"), *[(k,) for k in asked])
    sizes = [len(notes) for notes in _exact(page, 0, asked)]
    require(sizes == [2, 1, 2], f"expected 2, 1 and 2 rows, got {sizes}")


def impossible_keys_find_nothing(subject: Subject) -> None:
    """What a column cannot hold fails nobody, and the keys beside it are found (10)."""
    day = ColumnSpec("d", "D", None, None, key=False)
    rows = [(7, "seven", date(2024, 2, 29), "a")]
    stream = subject.stream("conf_lookup_odd", (ID, CODE, day, NOTE), rows)
    for name, good, place in (
        ("id", "7", 0),
        ("code", "seven", 1),
        ("d", "2024-02-29", 2),
    ):
        asked = [good, *IMPOSSIBLE, good]
        page = _fetch(subject, _spec(stream, name), *[(k,) for k in asked])
        found = [i for i, notes in enumerate(_exact(page, place, asked)) if notes]
        require(found == [0, len(asked) - 1], f"key {name}: {found} of {len(asked)}")
    page = _fetch(subject, _spec(stream, "code"), *[(k,) for k in IMPOSSIBLE])
    require(not page.which, "an impossible key finds a row")


def values_are_those_of_a_read(subject: Subject) -> None:
    """Every value arrives as the text that means it, or as its bytes (11)."""
    for letter, (column, values) in SAMPLES.items():
        rows = list(enumerate((*values, None)))
        name = f"conf_lookup_{letter.lower()}"
        stream = subject.stream(name, (ID, column), rows)
        keys = [(str(i),) for i, _ in rows]
        page = _fetch(subject, _spec(stream, "id"), *keys)
        require(list(page.which) == list(range(len(rows))), f"type {letter}: rows lack")
        for sent, got in zip((*values, None), page.columns[1], strict=True):
            same = repr(value_of(got, letter)) == repr(value_of(sent, letter))
            require(same, f"type {letter}: sent {sent!r}, got {got!r}")


def long_values_stay_too_long(subject: Subject) -> None:
    """A text longer than its item allows is still too long when it arrives (11)."""
    rows = [(1, "字" * 200), (2, "字" * 7), (3, "字" * 8)]
    stream = subject.stream("conf_lookup_long", (ID, NOTE), rows)
    short = ColumnSpec("note", "C", 7, None, key=False)
    spec = _spec(StreamSpec(stream.table, (ID, short)), "id")
    page = _fetch(subject, spec, ("1",), ("2",), ("3",))
    sizes = [len(str(text)) for text in page.columns[1]]
    require(sizes[1] == 7 and sizes[0] > 7 and sizes[2] > 7, f"texts of {sizes}")


def only_asked_columns_come(subject: Subject) -> None:
    """The answer has the stream's columns in its order, and no others (2, 11)."""
    columns = (ID, NOTE, ColumnSpec("hidden", "C", 20, None, key=False))
    stream = subject.stream("conf_lookup_cols", columns, [(1, "a", CANARY)])
    spec = _spec(StreamSpec(stream.table, (NOTE, ID)), "id")
    page = _fetch(subject, spec, ("1",), ("2",))
    require([list(c) for c in page.columns] == [["a"], ["1"]], "other columns came")


def each_fetch_sees_what_is_committed(subject: Subject) -> None:
    """A session that is open for long sees new rows, and no old ones (12)."""
    stream = subject.stream("conf_lookup_live", (ID, NOTE), [(1, "old")])
    spec = _spec(stream, "id")
    with _connector(subject).lookup(subject.config, Limits()) as session:
        require(not _checked(session, spec, [("2",)]).which, "a row came too early")
        subject.add(stream.table, [(2, "new")])
        page = _checked(session, spec, [("2",), ("1",)])
        require(list(page.which) == [0, 1], "a committed row is not seen")


def many_keys_are_answered_at_once(subject: Subject) -> None:
    """A thousand keys are one fetch; forms of question may change (12)."""
    rows = [(i, f"c{i}", str(i)) for i in range(0, 1000, 2)]
    stream = subject.stream("conf_lookup_many", (ID, CODE, NOTE), rows)
    with _connector(subject).lookup(subject.config, Limits()) as session:
        page = _checked(session, _spec(stream, "id"), [(str(i),) for i in range(1000)])
        require(list(page.which) == list(range(0, 1000, 2)), "rows are missing")
        for width in (1, 2, 3):
            part = StreamSpec(stream.table, stream.columns[:width])
            for key, text in (("id", "4"), ("code", "c4"))[:width]:
                page = _checked(session, LookupSpec(part, (key,)), [(text,)])
                require(page.columns[0] == ["4"], f"{width} columns by {key}")


def lookups_never_write(subject: Subject) -> None:
    """Nothing that is asked changes the table (8, 12)."""
    stream = subject.stream("conf_lookup_write", (CODE50, NOTE), [("a", "x")])
    texts = ["'; update conf_lookup_write set note = 'y'; --", "'; commit; --", "a"]
    page = _fetch(subject, _spec(stream, "code"), *[(t,) for t in texts])
    require(_exact(page, 0, texts) == [[], [], ["x"]], "the table was changed")


def lookup_faults_are_source_errors(subject: Subject) -> None:
    """Failures are SourceErrors of their kind, and tell no key and no secret (5)."""
    stream = subject.stream("conf_lookup_fault", (ID, NOTE), [(1, "a")])
    absent = ColumnSpec("absent", "C", 20, None, key=False)
    connector = _connector(subject)
    wrong: Mapping[str, StreamSpec] = {
        "id": StreamSpec((*stream.table[:-1], "conf_no_such_table"), (ID,)),
        "absent": StreamSpec(stream.table, (ID, absent)),
    }
    for key, broken in wrong.items():
        with connector.lookup(subject.config, Limits()) as session:
            spec = _spec(broken, key)
            fails("missing", subject.config, partial(session.fetch, spec, [(CANARY,)]))
    for kind, config in subject.broken.items():

        def enter(config: Mapping[str, Any] = config) -> None:
            with connector.lookup(config, Limits()):
                pass

        fails(kind, config, enter)


def keys_without_equality_are_refused(subject: Subject) -> None:
    """Bytes and floats are no keys: ``type``, and not a row that was missed (8)."""
    for letter in "GB":
        column, values = SAMPLES[letter]
        name = f"conf_lookup_no_{letter.lower()}"
        stream = subject.stream(name, (ID, column), [(1, values[0])])
        with _connector(subject).lookup(subject.config, Limits()) as session:
            spec = _spec(stream, column.name)
            fails("type", subject.config, partial(session.fetch, spec, [(CANARY,)]))


def a_scan_for_each_key_is_told(subject: Subject) -> None:
    """``check_lookup`` warns of a key without index, and finds no error beside it."""
    stream = subject.stream("conf_lookup_scan", (CODE, NOTE), [("a", "x")])
    found = _connector(subject).check_lookup(subject.config, [_spec(stream, "code")])
    codes = {f.code: f for f in found if f.severity != "ok"}
    require(set(codes) == {"lookup-no-index"}, f"check_lookup finds {sorted(codes)}")
    finding = codes["lookup-no-index"]
    require(finding.remedy and finding.en and finding.zh, "no remedy in two languages")
    column, _ = SAMPLES["G"]
    bad = _spec(StreamSpec(stream.table, (CODE, column)), column.name)
    found = _connector(subject).check_lookup(subject.config, [bad])
    require(any(f.severity == "error" for f in found), "check_lookup finds no error")


LOOKUP_RULES: tuple[Callable[[Subject], None], ...] = (
    texts_are_found_exactly,
    texts_are_no_statements,
    numbers_are_found_exactly,
    dates_are_found_exactly,
    all_keys_must_fit,
    null_is_never_found,
    two_rows_tell_that_a_key_is_double,
    impossible_keys_find_nothing,
    values_are_those_of_a_read,
    long_values_stay_too_long,
    only_asked_columns_come,
    each_fetch_sees_what_is_committed,
    many_keys_are_answered_at_once,
    lookups_never_write,
    lookup_faults_are_source_errors,
    keys_without_equality_are_refused,
    a_scan_for_each_key_is_told,
)
"""All rules of lookups; each is a function of a ``Subject``."""
