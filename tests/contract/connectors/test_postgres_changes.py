# SPDX-License-Identifier: Apache-2.0
"""Increments of PostgreSQL through what happens to a database in its life."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
import pytest

from connectors.contract import (
    ColumnSpec,
    FrontierLost,
    IncrementalSession,
    Limits,
    SourceError,
    StreamSpec,
)
from connectors.postgres import CONNECTOR
from connectors.postgres.catalog import bound
from connectors.postgres.changes import judge, parsed, stamp_floor
from connectors.postgres.health import health
from connectors.postgres.login import connection
from connectors.postgres.session import incremental
from tests.support.histories import PostgresHistory
from tests.support.postgres import Server, private_server

pytestmark = pytest.mark.contract

COLUMNS = (
    ColumnSpec("id", "I", None, None, key=True),
    ColumnSpec("note", "C", 200, None, key=False),
)
CHANGED = StreamSpec(("public", "changed"), COLUMNS)
STAMPED = StreamSpec(("public", "changed"), COLUMNS, "touched")
SETTINGS = {"max_prepared_transactions": "20", "autovacuum": "off"}


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    with private_server(settings=SETTINGS) as found:
        yield found


@pytest.fixture
def town(own: Server) -> Server:
    """A table of five rows, its stamp set by the database."""
    make(own)
    return own


def make(server: Server) -> None:
    server.sql(
        "drop table if exists changed cascade;"
        " create table changed (id int primary key, note text,"
        " touched timestamptz not null default now());"
        " create index on changed (touched);"
        " create or replace function touch() returns trigger language plpgsql as"
        " $$ begin new.touched := now(); return new; end $$;"
        " create trigger touch before update on changed for each row"
        " execute function touch();"
        " insert into changed select i, 'old' from generate_series(1, 5) i"
    )


def frontier(server: Server, stream: StreamSpec = CHANGED, **config: Any) -> str:
    with CONNECTOR.open({**server.config(), **config}, Limits()) as session:
        return session.frontier(stream).value


def increment(
    server: Server, since: str, stream: StreamSpec = CHANGED, **config: Any
) -> tuple[str, list[int]]:
    """The next frontier, and the numbers of the rows that changed."""
    with CONNECTOR.open({**server.config(), **config}, Limits()) as session:
        assert isinstance(session, IncrementalSession)
        until = session.frontier(stream).value
        pages = list(session.changes(stream, since, until))
    return until, [i for page in pages for i in page.rows.column(0).to_pylist()]


def connect(server: Server) -> psycopg.Connection[Any]:
    return psycopg.connect(
        host=str(server.socket_folder),
        port=server.port,
        user="postgres",
        dbname=server.database,
    )


def test_a_quiet_table_gives_nothing(town: Server) -> None:
    """Without a change there is no row, however many other transactions there were."""
    since = frontier(town)
    town.sql("create temp table other (i int); insert into other values (1)")
    assert increment(town, since)[1] == []


def test_each_version_comes_once(town: Server) -> None:
    """While no transaction stays open, a changed row is in exactly one increment."""
    since = frontier(town)
    town.sql("update changed set note = 'new' where id in (2, 4)")
    since, first = increment(town, since)
    _, second = increment(town, since)
    assert (first, second) == ([2, 4], [])


def test_a_prepared_transaction_counts_as_open(town: Server) -> None:
    """What a two-phase commit prepared comes after it was committed, days later too."""
    since = frontier(town)
    town.sql("begin; insert into changed values (6, 'p'); prepare transaction 'a'")
    town.sql("insert into changed values (7, 'early')")
    since, first = increment(town, since)
    town.sql("commit prepared 'a'")
    _, second = increment(town, since)
    assert 6 not in first
    assert 6 in second


def test_a_savepoint_of_an_older_transaction_is_not_lost(town: Server) -> None:
    """A row below a savepoint has an id of its own, above that of its transaction."""
    with connect(town) as db:
        db.execute("insert into changed values (6, 'top')")
        for i in range(7, 100):  # more than a backend's cache of subtransactions
            db.execute("savepoint s")
            db.execute("insert into changed values (%s, 'sub')", [i])
        since = frontier(town)
        town.sql("insert into changed values (200, 'early')")
        since, first = increment(town, since)
        db.commit()
    assert 6 not in first
    assert set(increment(town, since)[1]) >= set(range(6, 100))


def test_vacuum_full_cluster_and_freeze_change_nothing(town: Server) -> None:
    """Rewriting and freezing leave a row's xmin: only what changed comes."""
    since = frontier(town)
    town.sql("update changed set note = 'new' where id = 3")
    for rewrite in ("vacuum full changed", "cluster changed using changed_pkey",
                    "vacuum freeze changed", "reindex table changed"):  # fmt: skip
        town.sql(rewrite)
        assert increment(town, since)[1] == [3], rewrite


def test_an_altered_type_gives_every_row_again(town: Server) -> None:
    """A statement that writes every row anew gives every row anew."""
    since = frontier(town)
    town.sql("alter table changed alter note type varchar(77) using note || '!'")
    assert increment(town, since)[1] == [1, 2, 3, 4, 5]


def test_a_truncated_and_filled_table_gives_every_row(town: Server) -> None:
    """Rows that were loaded anew come, whatever their numbers."""
    since = frontier(town)
    town.sql("truncate changed; insert into changed values (1, 'again')")
    assert increment(town, since)[1] == [1]


def test_a_partition_attached_with_old_rows_is_read_whole(own: Server) -> None:
    """Rows of a table come when it becomes a partition, although they are older."""
    own.sql(
        "drop table if exists parted, before_it, later cascade;"
        " create table before_it (id int primary key, note text);"
        " insert into before_it select i, 'old' from generate_series(10, 12) i;"
        " create table parted (id int primary key, note text) partition by range (id);"
        " create table parted_a partition of parted for values from (0) to (10);"
        " insert into parted values (1, 'a')"
    )
    stream = StreamSpec(("public", "parted"), COLUMNS)
    since = frontier(own, stream)
    own.sql(
        "alter table parted attach partition before_it for values from (10) to (20);"
        " create table later partition of parted for values from (20) to (30);"
        " insert into parted values (2, 'b'), (20, 'c')"
    )
    since, found = increment(own, since, stream)
    assert found == [2, 10, 11, 12, 20]
    assert increment(own, since, stream)[1] == []


def test_no_increment_of_a_view_is_promised(town: Server) -> None:
    """Rows of a view have no transaction id: nothing is promised, and asking fails."""
    town.sql("create view seen as select id, note from changed")
    stream = StreamSpec(("public", "seen"), COLUMNS)
    assert CONNECTOR.capabilities(town.config(), stream).increments is None
    with pytest.raises(SourceError) as caught:
        increment(town, frontier(town, stream), stream)
    assert caught.value.kind == "type"


# --- the floor of a stamp --------------------------------------------------------


def plan_of(server: Server, since: str) -> str:
    """The condition that the stamp's floor gives."""
    with CONNECTOR.open(server.config(), Limits()) as session:
        until = session.frontier(STAMPED).value
    with connection(server.config(), Limits()) as db:
        table = incremental(db, bound(db, STAMPED), STAMPED)
    return stamp_floor(table, "touched", parsed(since), parsed(until))


def test_a_stamp_narrows_to_the_oldest_transaction(town: Server) -> None:
    """With a stamp the floor is the oldest open start, which an index serves."""
    with connect(town) as old:
        (began,) = old.execute("select now()").fetchone() or (None,)
        since = frontier(town, STAMPED)
        old.execute("update changed set note = 'late' where id = 2")
        old.commit()
    assert datetime.fromisoformat(json.loads(since)["floor"]) <= began
    assert "touched" in plan_of(town, since)
    assert increment(town, since, STAMPED)[1] == [2]


def test_a_stamp_promises_under_assumptions(town: Server) -> None:
    """What a stamp rests on is named; without one nothing is assumed."""
    caps = CONNECTOR.capabilities(town.config(), STAMPED)
    assert caps.increments is not None
    assert caps.increments.assumes == ("database-sets=touched", "clock-steps<1h")
    caps = CONNECTOR.capabilities(town.config(), CHANGED)
    assert caps.increments is not None
    assert caps.increments.assumes == ()


def test_there_is_no_floor_beside_a_prepared_transaction(town: Server) -> None:
    """Nobody tells when a prepared transaction began, so nothing is left out."""
    town.sql("begin; insert into changed values (6, 'p', '2001-01-01');"
             " prepare transaction 'b'")  # fmt: skip
    since = frontier(town, STAMPED)
    town.sql("commit prepared 'b'")
    assert json.loads(since)["floor"] is None
    assert plan_of(town, since) == ""
    assert increment(town, since, STAMPED)[1] == [6]


def test_there_is_no_floor_without_the_right_to_see_sessions(town: Server) -> None:
    """An account that does not see others' transactions reads without a floor."""
    town.sql("drop role if exists blind; create role blind login;"
             " grant select on changed to blind")  # fmt: skip
    since = frontier(town, STAMPED, user="blind")
    assert json.loads(since)["floor"] is None
    assert increment(town, since, STAMPED, user="blind")[1] == []


def test_there_is_no_floor_beside_a_session_that_is_not_tracked(town: Server) -> None:
    """With track_activities off nobody tells when its transaction began."""
    with psycopg.connect(
        host=str(town.socket_folder), port=town.port, user="postgres",
        dbname=town.database, options="-c track_activities=off",
    ) as late:  # fmt: skip
        late.execute("insert into changed values (6, 'late', '2001-01-01')")
        since = frontier(town, STAMPED)
    assert json.loads(since)["floor"] is None
    assert increment(town, since, STAMPED)[1] == [6]


def test_a_clock_that_went_back_takes_the_floor_away(town: Server) -> None:
    """After a step back of the server's clock no row is left out by its stamp."""
    since = json.loads(frontier(town, STAMPED))
    since["as_of"] = "2999-01-01T00:00:00.000000Z"
    town.sql("update changed set note = 'x' where id = 1")
    assert plan_of(town, json.dumps(since)) == ""
    assert increment(town, json.dumps(since), STAMPED)[1] == [1]


def remedies(server: Server, stream: StreamSpec, user: str) -> dict[str, str]:
    config = {**server.config(), "user": user}
    found = CONNECTOR.check(config, [stream])
    assert not [f for f in found if f.severity == "error"]
    return {f.code: f.remedy for f in found if f.remedy}


def test_check_names_what_an_increment_needs_besides(town: Server) -> None:
    """Running what check prints makes increments work, and then fast."""
    town.sql("drop role if exists narrow; create role narrow login;"
             " grant select (id, note) on changed to narrow;"
             " drop index changed_touched_idx")  # fmt: skip
    since = frontier(town, STAMPED, user="narrow")
    with pytest.raises(SourceError) as caught:
        increment(town, since, STAMPED, user="narrow")
    assert caught.value.kind == "right"
    found = remedies(town, STAMPED, "narrow")
    assert set(found) == {
        "increment-grant-missing",
        "sessions-hidden",
        "stamp-not-indexed",
    }
    for statement in found.values():
        town.sql(statement)
    assert remedies(town, STAMPED, "narrow") == {}
    since = frontier(town, STAMPED, user="narrow")
    assert json.loads(since)["floor"] is not None
    assert increment(town, since, STAMPED, user="narrow")[1] == []


def test_a_stamp_that_is_none_is_an_error(town: Server) -> None:
    """A stamp that is not there, or is no time, is told by check and by changes."""
    since = frontier(town)
    for stamp, kind in (("absent", "missing"), ("note", "type")):
        stream = StreamSpec(CHANGED.table, CHANGED.columns, stamp)
        found = CONNECTOR.check(town.config(), [stream])
        assert kind in [f.code for f in found if f.severity == "error"]
        with pytest.raises(SourceError) as caught:
            increment(town, since, stream)
        assert caught.value.kind == kind


# --- other histories ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"system": "1"}, "other-source"),
        ({"database": 1}, "other-source"),
        ({"timeline": 2}, "failover"),
        ({"lsn": 2**60}, "restored"),
        ({"xmin": 2**60, "xmax": 2**60}, "restored"),
        ({"table": 1}, "recreated"),
    ],
)
def test_a_frontier_of_another_history_is_refused(
    town: Server, change: dict[str, Any], reason: str
) -> None:
    """Each sign that ids mean something else has its own name."""
    since = {**json.loads(frontier(town)), **change}
    with pytest.raises(FrontierLost) as caught:
        increment(town, json.dumps(since))
    assert caught.value.reason == reason


def test_a_window_of_half_the_ring_is_refused(town: Server) -> None:
    """From 2^31 transactions on, ids cannot be told apart: read in full."""
    until = parsed(frontier(town))
    far = parsed(json.dumps({**json.loads(until.text()), "xmax": until.xmin + 2**31}))
    with pytest.raises(FrontierLost) as caught:
        judge(until, far)
    assert caught.value.reason == "too-old"


def test_a_replica_behind_the_frontier_is_waited_for(town: Server) -> None:
    """A replica that has not caught up yet fails; nothing is read anew."""
    until = json.loads(frontier(town))
    behind = parsed(json.dumps({**until, "lsn": until["lsn"] - 1, "standby": True}))
    with pytest.raises(SourceError) as caught:
        judge(parsed(json.dumps(until)), behind)
    assert not isinstance(caught.value, FrontierLost)


@contextmanager
def stoppable() -> Iterator[PostgresHistory]:
    with private_server(settings=SETTINGS) as server:
        make(server)
        yield PostgresHistory(server)


def test_a_server_put_back_to_yesterday_is_noticed() -> None:
    """Yesterday's files under the same name: ids and log went back, in full then."""
    with stoppable() as machine:
        yesterday = machine.kept_now("yesterday")
        machine.server.sql("insert into changed values (6, 'gone')")
        since = frontier(machine.server)
        machine.back_to(yesterday)
        with pytest.raises(FrontierLost) as caught:
            increment(machine.server, since)
    assert caught.value.reason == "restored"


def test_a_failover_to_a_replica_with_fewer_ids_is_noticed() -> None:
    """A promoted replica that missed transactions uses their ids again: in full."""
    with stoppable() as machine:
        replica = machine.kept_now("replica")
        machine.server.sql("insert into changed values (6, 'lost with the primary')")
        since = frontier(machine.server)
        machine.fail_over(replica)
        machine.server.sql("insert into changed values (7, 'after')")
        for _ in range(50):  # ids overtake the old frontier
            machine.server.sql("update changed set note = 'x' where id = 1")
        with pytest.raises(FrontierLost) as caught:
            increment(machine.server, since)
    assert caught.value.reason == "failover"


def test_a_replica_does_not_tell_of_the_writers_of_the_primary() -> None:
    """A floor by its own sessions would leave out what commits late; there is none."""
    with stoppable() as machine:
        assert json.loads(frontier(machine.server, STAMPED))["floor"] is not None
        machine.stand_by(machine.kept_now("replica"))
        assert json.loads(frontier(machine.server, STAMPED))["floor"] is None
        lag_is_not_guessed(machine.server)


def lag_is_not_guessed(fed_from_an_archive: Server) -> None:
    """A quiet primary would look like a replica that is ever further behind."""
    found = health(fed_from_an_archive.config())
    assert (found.replica_lag_s, found.hidden) == (None, ("replica_lag_s",))


def test_transaction_ids_may_wrap_around() -> None:
    """Increments go on while the 32-bit ids of rows start again from the beginning."""
    with stoppable() as machine:
        server = machine.server
        machine.near_wraparound()
        since = frontier(server)
        before = json.loads(since)["xmin"]
        seen = []
        for i in range(100, 200):
            server.sql(f"insert into changed values ({i}, 'new')")
            if i % 10 == 9:
                since, found = increment(server, since)
                seen += found
        after = json.loads(since)["xmin"]
        low = server.sql("select count(*) from changed where xmin::text::int8 < 1000")
    assert before < 2**32 < after
    assert int(low) > 20
    assert seen == list(range(100, 200))
