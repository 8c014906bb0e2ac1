# SPDX-License-Identifier: Apache-2.0
"""Tables of PostgreSQL that somebody alters between two runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agent.model.column import Column
from agent.pipeline.flow.drift import changes
from connectors.contract import (
    ColumnSpec,
    DescribingSession,
    Limits,
    SourceError,
    StreamSpec,
)
from connectors.postgres import CONNECTOR
from tests.support.postgres import Server

pytestmark = pytest.mark.contract

BOUND = ("id", "name", "pay", "born", "code")
STREAM = StreamSpec(
    ("drift", "person"),
    tuple(ColumnSpec(n, "C", 20, None, key=n == "id") for n in BOUND),
)


@pytest.fixture
def town(server: Server) -> Iterator[Server]:
    server.sql(
        "create schema drift; create domain drift.code as varchar(6);"
        "create table drift.person (id int primary key, name varchar(20) not null,"
        " pay numeric(10,2), born timestamp(6), code drift.code, note varchar(10))"
    )
    yield server
    server.sql("drop schema drift cascade")


def described(server: Server) -> tuple[Column, ...]:
    """The table as a session sees it."""
    with CONNECTOR.open(server.config("postgres"), Limits()) as session:
        assert isinstance(session, DescribingSession)
        return tuple(
            Column(c.name, c.native, c.type, c.length, c.scale, c.nullable, c.key)
            for c in session.describe(STREAM)
        )


@pytest.mark.parametrize(
    ("statement", "what", "safe"),
    [
        ("add column phone varchar(20)", ["added"], True),
        ("add column n int not null default 0", ["added"], True),
        ("alter column name type varchar(40)", ["widened"], True),
        ("alter column name type text", ["widened"], True),
        ("alter column id type bigint", ["widened"], True),
        ("alter column pay type numeric(12,4)", ["widened"], True),
        ("alter column name drop not null", ["nullable"], True),
        ("drop column note", ["other"], True),
        ("rename column note to remark", ["other", "added"], True),
        ("alter column note type int using 1", ["other"], True),
        ("alter column name type varchar(10)", ["narrowed"], False),
        ("alter column pay type numeric(10,4)", ["narrowed"], False),
        ("alter column born type timestamp(0)", ["narrowed"], False),
        ("alter column born type date", ["type"], False),
        ("alter column born type timestamptz(6)", ["type"], False),
        ("alter column id type text", ["type"], False),
        ("alter column pay set not null", ["not-null"], False),
        ("alter column code type varchar(6)", ["type"], False),
        ("drop column born", ["dropped"], False),
        ("rename column name to full_name", ["renamed"], False),
        ("drop constraint person_pkey", ["key"], False),
    ],
)
def test_an_alteration_is_told_and_judged(
    town: Server, statement: str, what: list[str], safe: bool
) -> None:
    """What ALTER TABLE does, in one word each, and whether a run may go on."""
    before = described(town)
    town.sql(f"alter table drift.person {statement}")
    found = changes(before, described(town), bound=BOUND)
    assert [change.what for change in found] == what
    assert all(change.safe for change in found) is safe


def test_a_table_that_is_gone_is_missing(town: Server) -> None:
    """Not a table without columns."""
    town.sql("drop table drift.person")
    with pytest.raises(SourceError, match=r"missing: there is no table drift\.person"):
        described(town)
