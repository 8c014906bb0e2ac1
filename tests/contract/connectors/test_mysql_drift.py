# SPDX-License-Identifier: Apache-2.0
"""Tables of MariaDB that somebody alters between two runs."""

from __future__ import annotations

import pytest

from agent.model.column import Column
from agent.pipeline.flow.drift import changes
from connectors.contract import ColumnSpec, DescribingSession, Limits, StreamSpec
from connectors.mysql import CONNECTOR
from tests.support.mariadb import Mariadb

pytestmark = pytest.mark.contract

BOUND = ("id", "name", "pay", "born")
STREAM = StreamSpec(
    ("town", "drifting"),
    tuple(ColumnSpec(n, "C", 20, None, key=n == "id") for n in BOUND),
)


def described(server: Mariadb) -> tuple[Column, ...]:
    """The table as a session sees it."""
    with CONNECTOR.open(server.config(), Limits()) as session:
        assert isinstance(session, DescribingSession)
        return tuple(
            Column(c.name, c.native, c.type, c.length, c.scale, c.nullable, c.key)
            for c in session.describe(STREAM)
        )


@pytest.mark.parametrize(
    ("statement", "what", "safe"),
    [
        ("add column phone varchar(20)", ["added"], True),
        ("modify name varchar(40)", ["widened"], True),
        ("modify name longtext", ["widened"], True),
        ("modify id bigint not null", ["widened"], True),
        ("modify born datetime(6)", ["widened"], True),
        ("modify name varchar(10)", ["narrowed"], False),
        ("modify pay decimal(10,4)", ["narrowed"], False),
        ("modify id int unsigned not null", ["type"], False),
        ("modify name varchar(20) not null", ["not-null"], False),
        ("drop column born", ["dropped"], False),
        ("change name full_name varchar(20)", ["renamed"], False),
        ("drop primary key", ["key"], False),
    ],
)
def test_an_alteration_is_told_and_judged(
    mariadb: Mariadb, statement: str, what: list[str], safe: bool
) -> None:
    """What ALTER TABLE does, in one word each, and whether a run may go on."""
    mariadb.sql(
        "create or replace table drifting (id int not null primary key,"
        " name varchar(20), pay decimal(10,2), born datetime)"
    )
    before = described(mariadb)
    mariadb.sql(f"alter table drifting {statement}")
    found = changes(before, described(mariadb), bound=BOUND)
    assert [change.what for change in found] == what
    assert all(change.safe for change in found) is safe
