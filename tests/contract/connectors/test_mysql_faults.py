# SPDX-License-Identifier: Apache-2.0
"""What the MySQL connector says when something is wrong, and what it then assumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

import pytest

from connectors.contract import (
    ColumnSpec,
    Finding,
    FrontierLost,
    Limits,
    SourceError,
    StreamSpec,
)
from connectors.mysql import CONNECTOR, changes
from connectors.mysql.login import connection
from tests.support.mariadb import Mariadb, private_mariadb

pytestmark = pytest.mark.contract

PASSWORD = "pa ss'w\\ord=\"x"
CANARY = "110101199003070011"
COLUMNS = (
    ColumnSpec("id", "I", None, None, key=True),
    ColumnSpec("note", "C", 200, None, key=False),
)
PERSON = StreamSpec(("town", "person"), COLUMNS)
NAMED = StreamSpec(PERSON.table, COLUMNS, "changed")
STAMP = (
    "changed timestamp(6) not null default current_timestamp(6)"
    " on update current_timestamp(6)"
)


@pytest.fixture
def town(mariadb: Mariadb) -> Mariadb:
    mariadb.sql(
        "create or replace user agent identified by 'pa ss\\'w\\\\ord=\"x'",
        "create database if not exists `empty`",
        "drop table if exists person",
        f"create table person (id int primary key, note varchar(200), {STAMP})",
        f"insert into person (id, note) values (1, '{CANARY}'), (2, 'b')",
    )
    return mariadb


def agent(server: Mariadb, **changed: Any) -> dict[str, Any]:
    return {**server.config("agent", password=PASSWORD), **changed}


def problems(
    config: Mapping[str, Any], stream: StreamSpec = PERSON
) -> dict[str, Finding]:
    found = CONNECTOR.check(config, [stream])
    return {f.code: f for f in found if f.severity != "ok"}


def pull(config: Mapping[str, Any], stream: StreamSpec = PERSON, **limits: Any) -> int:
    with CONNECTOR.open(config, Limits(**limits)) as session:
        return sum(
            page.rows.num_rows
            for part in session.plan(stream)
            for page in session.read(part)
        )


def frontier(server: Mariadb, stream: StreamSpec = PERSON) -> dict[str, Any]:
    with CONNECTOR.open(server.config(), Limits()) as session:
        found: dict[str, Any] = json.loads(session.frontier(stream).value)
    return found


def increment(
    server: Mariadb, since: Mapping[str, Any], stream: StreamSpec = PERSON
) -> list[int]:
    with CONNECTOR.open(server.config(), Limits()) as session:
        until = session.frontier(stream).value
        pages = session.changes(stream, json.dumps(since), until)  # type: ignore[attr-defined]
        return [i for page in pages for i in page.rows.column(0).to_pylist()]


def test_each_remedy_removes_its_cause(town: Mariadb) -> None:
    """Running what check prints, one after the other, ends in a quiet check."""
    seen = []
    config = agent(town)
    town.sql("grant usage on town.* to agent", "grant select on `empty`.* to agent",
             "grant select (id) on town.person to agent")  # fmt: skip
    for _ in range(9):
        found = problems(config, NAMED)
        if not found:
            break
        code, finding = next(iter(found.items()))
        seen.append(code)
        town.sql((finding.remedy or "").rstrip(";"))
    assert seen == ["grant-missing", "transactions-hidden", "stamp-not-indexed"]
    assert pull(config) == 2


def test_without_the_right_it_says_what_it_assumes(town: Mariadb) -> None:
    """An account that sees no transactions promises under a named assumption."""
    town.sql("grant select on town.* to agent")
    caps = CONNECTOR.capabilities(agent(town), PERSON)
    assert caps.increments is not None
    assert "max-transaction=600s" in caps.increments.assumes
    found = problems(agent(town))["transactions-hidden"]
    assert found.remedy == "GRANT PROCESS ON *.* TO 'agent'@'%';"
    town.sql(found.remedy)
    caps = CONNECTOR.capabilities(agent(town), PERSON)
    assert caps.increments is not None
    assert caps.increments.assumes == ("database-sets=changed", "clock-steps<3s")


def test_an_account_that_may_write_is_warned_about(town: Mariadb) -> None:
    """Check warns of rights beyond reading and prints the REVOKE."""
    town.sql("grant process on *.* to agent",
             "grant select, delete on town.person to agent")  # fmt: skip
    found = problems(agent(town))["can-write"]
    town.sql((found.remedy or "").rstrip(";"))
    assert "can-write" not in problems(agent(town))


@pytest.mark.parametrize(
    ("changed", "kind", "remedy"),
    [
        ({"password": "wrong"}, "login", "ALTER USER"),
        ({"user": "nobody-here"}, "login", "ALTER USER"),
        ({"database": "absent"}, "right", "GRANT SELECT"),
        ({"port": 1}, "unreachable", "bind_address"),
        ({"host": "/nonexistent"}, "unreachable", "bind_address"),
        ({"host": "no-such-host.invalid"}, "unreachable", "bind_address"),
    ],
)
def test_a_refused_connection_says_what_to_do(
    town: Mariadb, changed: Mapping[str, Any], kind: str, remedy: str
) -> None:
    """Each way to be refused has its kind and its remedy, and tells no password."""
    config = agent(town, **changed)
    with pytest.raises(SourceError) as caught:
        pull(config)
    assert caught.value.kind == kind, caught.value.detail
    (found,) = problems(config).values()
    assert remedy in (found.remedy or "")
    assert PASSWORD not in repr((found, caught.value.args, caught.value.__cause__))


def test_a_statement_that_takes_too_long_is_cancelled(town: Mariadb) -> None:
    """The statement timeout of the session ends the read as ``timeout``."""
    town.sql("create or replace view slow as select seq as id,"
             " concat(sleep(0.01), seq) as note from seq_1_to_100000")  # fmt: skip
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        pull(town.config(), StreamSpec(("slow",), COLUMNS), statement_timeout_s=1)
    assert caught.value.kind == "timeout"
    assert time.monotonic() - began < 10


def read_and_kill(config: Mapping[str, Any], pid: int) -> None:
    with CONNECTOR.open(config, Limits(page_rows=1000)) as session:
        (part,) = session.plan(PERSON)
        for i, _ in enumerate(session.read(part)):
            if i == 3:
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.2)


def test_a_server_killed_in_the_middle_is_unreachable() -> None:
    """A read whose server dies ends as ``unreachable``; closing works."""
    with private_mariadb() as server:
        server.sql("create table person (id int primary key, note varchar(200))",
                   "insert into person select seq, repeat('x', 200)"
                   " from seq_1_to_200000")  # fmt: skip
        pid = int((server.data.parent / "pid").read_text())
        with pytest.raises(SourceError) as caught:
            read_and_kill(server.config(), pid)
    assert caught.value.kind == "unreachable"


def test_what_is_read_of_a_closed_session_is_an_error(town: Mariadb) -> None:
    """Rows that are still to come are never taken for the end of the table."""
    town.sql("create or replace view many as select seq as id, repeat('x', 99) as note"
             " from seq_1_to_200000")  # fmt: skip
    with CONNECTOR.open(town.config(), Limits(page_rows=1000)) as session:
        (part,) = session.plan(StreamSpec(("many",), COLUMNS))
        reading = iter(session.read(part))
        next(reading)
    with pytest.raises(SourceError, match="closed"):
        list(reading)


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"server": "another"}, "other-source"),
        ({"log": 2**62}, "restored"),
        ({"made": 1}, "recreated"),
        ({"stamp": "other"}, "rebound"),
        ({"now": "2999-01-01 00:00:00"}, "clock"),
        ({"offset_s": 3600}, "clock"),
    ],
)
def test_a_frontier_of_another_history_is_refused(
    town: Mariadb, changed: dict[str, Any], reason: str
) -> None:
    """Each sign that times mean something else has its own name."""
    with pytest.raises(FrontierLost) as caught:
        increment(town, {**frontier(town), **changed})
    assert caught.value.reason == reason


def test_a_table_restored_from_a_dump_is_noticed(town: Mariadb) -> None:
    """Rows with old times behind the frontier: the new definition gives them away."""
    since = frontier(town)
    dump = subprocess.run(
        ["mariadb-dump", "--no-defaults", f"--socket={town.socket}", "-uroot", "town",
         "person"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    time.sleep(1.1)  # the catalogue's times are whole seconds
    subprocess.run(["mariadb", "--no-defaults", f"--socket={town.socket}", "-uroot",
                    "town"], input=dump, check=True)  # fmt: skip
    with pytest.raises(FrontierLost) as caught:
        increment(town, since)
    assert caught.value.reason == "recreated"


def test_an_update_that_waits_for_a_lock_is_not_lost(town: Mariadb) -> None:
    """A statement bears its start as time, though its transaction begins far later.

    It waits for the table's definition, so the server lists no transaction of it yet.
    """
    with town.connect() as blocker, town.connect() as waiter:
        with blocker.cursor() as cursor:
            cursor.execute("lock tables person write")
        text = "update person set note = 'late' where id = 2"
        thread = waiter.thread_id()
        waiter._execute_command(3, text)  # the answer is read below
        time.sleep(7)  # longer than the margin
        since = frontier(town)
        with blocker.cursor() as cursor:
            cursor.execute("unlock tables")
        waiter._read_query_result()
        waiter.commit()
    assert thread
    assert 2 in increment(town, since)


def test_a_prepared_transaction_without_a_session_holds_the_frontier(
    town: Mariadb,
) -> None:
    """What was prepared (XA) and left is counted with a day's margin, and said."""
    db = town.connect()
    with db.cursor() as cursor:
        for text in ("xa start 'x'", "insert into person (id) values (9)",
                     "xa end 'x'", "xa prepare 'x'"):  # fmt: skip
            cursor.execute(text)
    db.close()
    since = frontier(town)
    caps = CONNECTOR.capabilities(town.config(), PERSON)
    town.sql("xa commit 'x'")
    assert caps.increments is not None
    assert "xa-prepared<86400s" in caps.increments.assumes
    assert 9 in increment(town, since)


def test_a_stale_list_of_transactions_is_asked_for_again(town: Mariadb) -> None:
    """A list in which we do not stand ourselves is the server's old copy: wait."""
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        time.sleep(seconds)

    for _ in range(5):  # each is given the copy that was made for the one before
        with connection(town.config(), Limits()) as db:
            assert changes.activity(db, sleep=wait).told
    assert waits


def test_no_increment_of_a_table_without_transactions_is_promised(
    town: Mariadb,
) -> None:
    """MyISAM and views have no snapshot: nothing is promised, and asking fails."""
    town.sql("drop table if exists flat",
             f"create table flat (id int primary key, note varchar(9), {STAMP})"
             " engine = MyISAM",
             "create or replace view seen as select * from person")  # fmt: skip
    for name in ("flat", "seen"):
        stream = StreamSpec(("town", name), COLUMNS)
        caps = CONNECTOR.capabilities(town.config(), stream)
        assert caps.increments is None
        with pytest.raises(SourceError) as caught:
            increment(town, frontier(town, stream), stream)
        assert caught.value.kind == "type"


def test_times_of_a_server_in_another_zone_are_compared_rightly() -> None:
    """With the server, and the stamp, in Chinese time the frontier is the same."""
    with private_mariadb({"default-time-zone": "+08:00"}) as server:
        server.sql(
            "create table person (id int primary key, note varchar(9), changed"
            " datetime(6) not null default current_timestamp(6) on update"
            " current_timestamp(6))",
            "insert into person (id, changed) values (1, '2020-01-01'), (2, now())",
        )
        with server.connect() as late, late.cursor() as cursor:
            cursor.execute("update person set note = 'late' where id = 2")
            time.sleep(7)
            since = frontier(server)
            late.commit()
        assert increment(server, since) == [2]
        caps = CONNECTOR.capabilities(server.config(), PERSON)
        assert caps.increments is not None
        assert "writers-zone=server" in caps.increments.assumes


def test_an_abandoned_read_ends_its_session(town: Mariadb) -> None:
    """After a read was given up, a second one of the session is refused."""
    with CONNECTOR.open(town.config(), Limits(page_rows=1)) as session:
        (part,) = session.plan(PERSON)
        next(iter(session.read(part)))
        with pytest.raises(SourceError) as caught:
            list(session.read(part))
    assert caught.value.kind == "failed"
