# SPDX-License-Identifier: Apache-2.0
"""Lookups in a file of SQLite: one row by its key, in one snapshot for all keys.

SQLite has a type for each value, so a key may stand as ``1``, ``'1'`` or ``x'31'`` and
be the same text. Each is asked for, as parameters that an index can find, and what
comes is compared here once more. Dates have no type: they are found as ``YYYY-MM-DD``.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from connectors import findings
from connectors.contract import (
    ColumnSpec,
    Finding,
    Limits,
    LookupPage,
    LookupSpec,
    SourceError,
)
from connectors.sql import quoted, text_or_bytes
from connectors.sqlite.errors import our_errors
from connectors.sqlite.file import bound, connection, name_of
from connectors.sqlite.text import text_of

KEY_TYPES = "CMINYD"
"""Items whose canonical text can be compared with any value of SQLite."""

QUESTIONS = 64
"""Statements that a session remembers."""

_OPCODES = 10_000
"""Steps of SQLite's machine between two looks at the clock."""

_LONG = 1024 * 1024
_OTHER = 4096
_TEXT = re.compile("CHAR|CLOB|TEXT", re.IGNORECASE)
"""Declared types of text affinity (datatype3.html)."""

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,18}")
_NUMBER = re.compile(r"-?[0-9]{1,38}(\.[0-9]{1,38})?")

Value = str | int | float | bytes


@contextmanager
def lookup(config: Mapping[str, Any], limits: Limits) -> Iterator[SqliteLookup]:
    """A session for lookups.

    Raises:
        SourceError: unreachable, right, failed.
    """
    with connection(config) as db:
        encoding = str(config.get("encoding", "utf-8"))
        path = Path(str(config["path"]))
        db.text_factory = lambda raw: text_or_bytes(raw, encoding)
        with our_errors():
            db.execute("select count(*) from main.sqlite_master").fetchone()
            db.execute("COMMIT")
            db.execute(f"PRAGMA busy_timeout = {limits.statement_timeout_s * 1000}")
        yield SqliteLookup(db, limits, path, _identity(path), encoding)


def _identity(path: Path) -> tuple[int, int]:
    """Which file it is: a restored one has the name of the old, and other rows.

    Raises:
        SourceError: unreachable.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 - Path.stat costs twice as much
    except OSError:
        raise SourceError("unreachable", f"there is no file {path}") from None
    return found.st_dev, found.st_ino


@dataclass
class SqliteLookup:
    """One connection; a read transaction for each fetch.

    Args:
        db: the connection.
        limits: of this session.
        path: of the file.
        identity: device and inode that were opened.
        encoding: of texts, a codec of Python.
        clock: seconds, only for the timeout.
    """

    db: sqlite3.Connection
    limits: Limits
    path: Path
    identity: tuple[int, int]
    encoding: str
    clock: Callable[[], float] = time.monotonic
    _questions: OrderedDict[LookupSpec, Question] = field(default_factory=OrderedDict)

    def fetch(self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]) -> LookupPage:
        """See the contract."""
        if _identity(self.path) != self.identity:
            raise SourceError("unreachable", f"{self.path} was replaced")
        with our_errors():
            end = self.clock() + self.limits.statement_timeout_s
            self.db.set_progress_handler(lambda: self.clock() > end, _OPCODES)
            (as_of,) = self.db.execute(
                "select strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
            ).fetchone()
            self.db.execute("BEGIN")
            try:
                question = self._question(spec)
                found = [
                    (i, row)
                    for i, key in enumerate(keys)
                    for row in self._rows(question, key)
                ]
            finally:
                self.db.rollback()
        columns = question.texts([row for _, row in found])
        return LookupPage(columns, [i for i, _ in found], str(as_of))

    def _question(self, spec: LookupSpec) -> Question:
        question = self._questions.get(spec)
        if question is None:
            bound(self.db, spec.stream)
            question = self._questions[spec] = question_of(spec, self.encoding)
            if len(self._questions) > QUESTIONS:
                self._questions.popitem(last=False)
        return question

    def _rows(
        self, question: Question, key: tuple[str, ...]
    ) -> Iterator[tuple[Any, ...]]:
        """At most two rows whose key is this one."""
        values = question.parameters(key)
        if values is None:
            return
        left = 2
        for row in self.db.execute(question.sql, values):
            if question.same(row, key):
                yield row
                left -= 1
                if not left:
                    return


@dataclass(frozen=True)
class Question:
    """The statement of a spec.

    Args:
        sql: for one key.
        columns: of the answer.
        keys: places of the key columns.
        encoding: of texts, a codec of Python.
    """

    sql: str
    columns: tuple[ColumnSpec, ...]
    keys: tuple[int, ...]
    encoding: str

    def parameters(self, key: tuple[str, ...]) -> list[Value] | None:
        """The statement's parameters, or None if nothing can have this key."""
        found: list[Value] = []
        for text in key:
            forms = _forms(text, self.encoding)
            if forms is None:
                return None
            found += forms
        return found

    def same(self, row: tuple[Any, ...], key: tuple[str, ...]) -> bool:
        """Whether a row's key is exactly the one that was asked."""
        return all(
            _same(row[place], text, self.columns[place].type)
            for place, text in zip(self.keys, key, strict=True)
        )

    def texts(self, rows: Sequence[tuple[Any, ...]]) -> list[list[str | bytes | None]]:
        """The columns of some rows, as the contract wants their values."""
        return [
            [_told(row[i], spec.type) for row in rows]
            for i, spec in enumerate(self.columns)
        ]


def question_of(spec: LookupSpec, encoding: str) -> Question:
    """How a spec is asked.

    Raises:
        SourceError: type: a key item that SQLite cannot compare exactly.
    """
    columns = spec.stream.columns
    places = {c.name: i for i, c in enumerate(columns)}
    keys = tuple(places[name] for name in spec.keys)
    for i in keys:
        if columns[i].type not in KEY_TYPES:
            raise SourceError(
                "type",
                f"{name_of(spec.stream)}.{columns[i].name}: expected a key of the types"
                f" {' '.join(KEY_TYPES)}, got {columns[i].type}",
            )
    chosen = ", ".join(_bounded(c) for c in columns)
    where = " and ".join(
        f"t.{quoted(columns[i].name)} in (cast(? as text), ?, ?, ?)" for i in keys
    )
    table = f"main.{quoted(name_of(spec.stream))}"
    sql = f"select {chosen} from {table} as t where {where}"  # noqa: S608
    return Question(sql, columns, keys, encoding)


def _bounded(spec: ColumnSpec) -> str:
    """A column, its texts and bytes cut where they are too long in any encoding."""
    at = f"t.{quoted(spec.name)}"
    data = f"cast({at} as blob)"
    if spec.type == "G":
        most, cut = _LONG, f"substr({data}, 1, {_LONG + 1})"
    elif spec.type in "CM":
        most = 2 * _LONG + 8 if spec.type == "M" else 4 * (spec.length or 0) + 4
        cut = f"substr({data}, 1, {most})"
        cut = f"case typeof({at}) when 'text' then cast({cut} as text) else {cut} end"
    else:
        most, cut = _OTHER, "'?'"  # so long it is no number and no date
    long = f"typeof({at}) in ('text', 'blob') and length({data}) > {most}"
    return f"case when {long} then {cut} else {at} end"


def _forms(text: str, encoding: str) -> list[Value] | None:
    """Four values of SQLite that may be this text, or None if none can be.

    Texts stand in the file in their own encoding, bytes that are texts in UTF-8.
    """
    if "\0" in text:
        return None
    try:
        stored, plain = text.encode(encoding), text.encode()
    except UnicodeError:
        return None
    forms: list[Value] = [text if encoding == "utf-8" else stored, plain]
    if _NUMBER.fullmatch(text):
        if _INTEGER.fullmatch(text) and -(2**63) <= int(text) < 2**63:
            forms.append(int(text))
        if len(text) < 40:
            forms.append(float(text))
    return [*forms, *[plain] * (4 - len(forms))]


def _told(value: object, letter: str) -> str | bytes | None:
    if isinstance(value, bytes):
        return value
    text = text_of(value)
    return text.encode() if letter == "G" and text is not None else text


def _same(value: object, text: str, letter: str) -> bool:
    """Whether a value is this canonical text."""
    if value is None:
        return False
    if isinstance(value, bytes):
        try:
            value = value.decode()
        except UnicodeDecodeError:
            return False
    own = text_of(value)
    if letter in "CMD":
        return own == text
    if own is None or not _NUMBER.fullmatch(text):
        return False
    try:
        return Decimal(own) == Decimal(text)
    except InvalidOperation:
        return False


def check(config: Mapping[str, Any], specs: Sequence[LookupSpec]) -> list[Finding]:
    """Findings about the keys of lookups; see the contract."""
    found: list[Finding] = []
    for spec in specs:
        try:
            with connection(config) as db, our_errors():
                found += _check(db, spec)
        except SourceError as e:
            found.append(findings.from_error(e))
    return found


def _check(db: sqlite3.Connection, spec: LookupSpec) -> Iterator[Finding]:
    table = name_of(spec.stream)
    declared = bound(db, spec.stream)
    question = question_of(spec, "utf-8")
    for name, place in zip(spec.keys, question.keys, strict=True):
        letter = question.columns[place].type
        if letter in "INY" and _TEXT.search(declared[name].declared):
            yield findings.lookup_key_text(table, name, letter)
    parameters = [""] * (4 * len(spec.keys))
    plan = db.execute(f"explain query plan {question.sql}", parameters)
    if any(str(row[3]).startswith("SCAN") for row in plan):
        listed = ", ".join(quoted(key) for key in spec.keys)
        name = quoted(f"{table}_fep_{'_'.join(spec.keys)}")
        create = f"CREATE INDEX {name} ON {quoted(table)} ({listed});"
        yield findings.lookup_no_index(table, ", ".join(spec.keys), create)
