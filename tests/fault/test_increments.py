# SPDX-License-Identifier: Apache-2.0
"""What happens to databases in their lives, while an agent follows one by increments.

After each of them the centre's table is the source's, row by row, by a comparison that
imports nothing of this project. What increments cannot go on across is named in the log
and read in full, by itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest

from tests.support.databases import Maria, Postgres
from tests.support.histories import Clock, MariaHistory, PostgresHistory
from tests.support.late_commits import Found, Source, department, race
from tests.support.pushing import WORK, AgentReader, PushingAgent, pushing

pytestmark = pytest.mark.fault

SAME = Found(0, 0, 0)
BOTH = pytest.mark.parametrize("kind", ["postgres", "mariadb"])


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that any account can read."""
    with tempfile.TemporaryDirectory(prefix="clock") as folder:
        Path(folder).chmod(0o755)
        yield Clock(Path(folder) / "offset")


class Town:
    """One agent for each kind of database, which follows the test's server."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._agents: dict[str, PushingAgent] = {}

    def follows(self, source: Source) -> PushingAgent:
        """An agent that has read all rows of a server."""
        kind = type(source).__name__
        if kind in self._agents:
            self._agents[kind].moved(source)
        else:
            self._agents[kind] = self._stack.enter_context(pushing(source))
        self._agents[kind].full()
        return self._agents[kind]


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    with ExitStack() as stack:
        yield Town(stack)


def write(source: Source, number: int, *, rows: int = 1) -> None:
    """New rows and a changed one, committed."""
    run, close = source.connect()
    for new in range(number, number + rows):
        run(f"insert into work (id, note) values ({new}, 'new')")
    run(f"update work set note = 'changed {number}' where id = {number % 600}")
    close()


def history_of(source: Source, stack: ExitStack) -> PostgresHistory | MariaHistory:
    """The server's data folder, to be put back."""
    if isinstance(source, Postgres):
        return PostgresHistory(source.server)
    return stack.enter_context(closing(MariaHistory(source.server)))


def only_changes(agent: PushingAgent, rows: int) -> None:
    """The next increment is one, of so many rows, and the centre is the source."""
    report = agent.increment()
    assert (report["kind"], report["read"]) == ("incremental", rows)
    assert agent.found() == SAME


def settled(agent: PushingAgent) -> None:
    """Increments, and what they lead to, make the centre the source again."""
    agent.increment()
    agent.settled()
    assert agent.found() == SAME


# --- what increments go on across ----------------------------------------------------


@BOTH
def test_a_transaction_that_stays_open_across_many_increments(
    town: Town, kind: str
) -> None:
    """Its rows come when it commits; what commits meanwhile does not wait for it."""
    with department(kind) as source:
        agent = town.follows(source)
        run, close = source.connect()
        run("begin")
        run("insert into work (id, note) values (1000001, 'late')")
        run("update work set note = 'late' where id = 599")
        for number in range(1001, 1004):
            write(source, number)
            agent.increment()
            assert agent.found() == SAME
        run("commit")
        close()
        agent.increment()
        assert (agent.found(), agent.named()) == (SAME, [])


def test_a_two_phase_commit_days_later(town: Town, clock: Clock) -> None:
    """What was prepared comes once it is committed, by another session, days later."""
    with department("postgres", env=clock.env) as source:
        agent = town.follows(source)
        run, close = source.connect()
        run("begin")
        run("insert into work (id, note) values (1000001, 'prepared')")
        run("prepare transaction 'late'")
        close()
        write(source, 1001)
        agent.increment()
        clock.set("+3d")
        agent.increment()
        run, close = source.connect()
        run("commit prepared 'late'")
        close()
        agent.increment()
        assert (agent.found(), agent.named()) == (SAME, [])


def test_vacuum_full_freeze_and_cluster(town: Town) -> None:
    """A table that is written anew is not read anew: only the changed rows come."""
    with department("postgres") as source:
        assert isinstance(source, Postgres)
        agent = town.follows(source)
        for number, rewrite in enumerate(
            ("vacuum full work", "vacuum freeze work", "cluster work using work_pkey")
        ):
            write(source, 2000 + number)
            source.server.sql(rewrite)
            only_changes(agent, 2)
        assert agent.named() == []


def test_transaction_ids_that_wrap_around(town: Town) -> None:
    """Increments go on while the 32-bit ids of rows begin anew."""
    with department("postgres") as source:
        assert isinstance(source, Postgres)
        PostgresHistory(source.server).near_wraparound()
        agent = town.follows(source)
        for number in range(2000, 2100, 20):
            write(source, number, rows=20)
            only_changes(agent, 21)
        low = source.rows("select count(*) from work where xmin::text::int8 < 1000")
        assert int(low[0][0]) > 20
        assert agent.named() == []


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
def test_a_clock_of_the_database_that_jumps(
    town: Town, clock: Clock, offset: str
) -> None:
    """PostgreSQL's increments know no clock."""
    with department("postgres", env=clock.env) as source:
        agent = town.follows(source)
        for number, at in enumerate((offset, "+0")):
            clock.set(at)
            write(source, 1001 + number)
            only_changes(agent, 2)
        assert agent.named() == []


def test_another_time_zone_of_a_postgres_database(town: Town) -> None:
    """It changes how times are printed, not which rows changed."""
    with department("postgres") as source:
        assert isinstance(source, Postgres)
        agent = town.follows(source)
        source.server.sql(
            "alter system set timezone = 'Asia/Tokyo'; select pg_reload_conf()"
        )
        write(source, 1001)
        only_changes(agent, 2)
        assert agent.named() == []


class Killed(AgentReader):
    """An agent that is killed at every step, somewhere in an increment."""

    def __init__(self, agent: PushingAgent, chance: Random) -> None:
        super().__init__(agent)
        self._agent, self._chance = agent, chance
        self._steps = 0

    def step(self) -> None:
        """Everything first; then an increment, a kill, and a new start."""
        self._steps += 1
        if self._steps == 1:
            super().step()
            return
        self._agent.asked_increment()
        time.sleep(self._chance.uniform(0.0, 1.5))
        self._agent.stop(signal.SIGKILL)
        self._agent.start()


@BOTH
def test_an_agent_that_is_killed_in_every_increment(kind: str) -> None:
    """A frontier moves with the batch that it belongs to, or not at all."""
    seed = int(os.environ.get("FEP_SEED") or time.time_ns() % 10**6)
    with department(kind) as source, pushing(source) as agent:
        reader = Killed(agent, Random(seed))
        done = race(source, {"killed": reader}, seconds=6, seed=seed)
        assert done.found["killed"] == SAME, f"FEP_SEED={seed} {done} {agent.tail()}"
        assert agent.named() == []


# --- what is named and read in full --------------------------------------------------


@BOTH
def test_a_database_put_back_to_yesterday(town: Town, kind: str) -> None:
    """Rows that are gone at the source go at the centre; new ones come."""
    with department(kind) as source, ExitStack() as stack:
        history = history_of(source, stack)
        write(source, 1001)
        yesterday = history.kept_now("yesterday")
        agent = town.follows(source)
        write(source, 1002, rows=20)
        agent.increment()
        history.back_to(yesterday)
        write(source, 1030)
        settled(agent)
        assert agent.named() == ["restored"]


def test_a_restore_that_takes_many_rows_away_waits_for_a_person(town: Town) -> None:
    """The exchange counts what came by increments, too: nothing goes unconfirmed."""
    with department("postgres") as source:
        assert isinstance(source, Postgres)
        history = PostgresHistory(source.server)
        yesterday = history.kept_now("yesterday")
        agent = town.follows(source)
        write(source, 2000, rows=1500)
        agent.increment()
        history.back_to(yesterday)
        agent.increment()
        assert agent.named() == ["restored"]
        assert agent.held()["stream"]["halted"] == "mass-delete"
        assert agent.found() == Found(0, 1500, 1)
        agent.fep("pull", WORK, "--confirm-deletes", "--wait")
        assert agent.found() == SAME


@BOTH
def test_a_dump_restored_into_a_new_server(town: Town, kind: str) -> None:
    """The settings lead to another server: its ids and logs mean something else."""
    with department(kind) as source, department(kind) as other:
        agent = town.follows(source)
        write(source, 1001)
        agent.increment()
        copied(source, other)
        write(other, 1002)
        agent.moved(other)
        settled(agent)
        assert agent.named() == ["other-source"]


def copied(source: Source, other: Source) -> None:
    """Dump the table, and restore it in another server."""
    if isinstance(source, Maria) and isinstance(other, Maria):
        at = ["-S", str(source.server.socket), "-u", "root", "town"]
        dump, read = ["mariadb-dump", *at], ["mariadb", *at]
        read[2] = str(other.server.socket)
    else:
        assert isinstance(source, Postgres)
        assert isinstance(other, Postgres)
        other.server.sql("drop table work; drop function touch")
        at = source.server.psql_command()
        dump = [at[0].replace("psql", "pg_dump"), *at[1:9]]
        read = other.server.psql_command()
    text = subprocess.run(dump, check=True, capture_output=True).stdout
    subprocess.run(read, check=True, input=text, stdout=subprocess.DEVNULL)


def test_a_failover_to_a_replica_with_lower_transaction_ids(town: Town) -> None:
    """The new primary gives out ids again that the old one had used."""
    with department("postgres") as source:
        assert isinstance(source, Postgres)
        history = PostgresHistory(source.server)
        replica = history.kept_now("replica")
        agent = town.follows(source)
        write(source, 1001, rows=20)
        agent.increment()
        history.fail_over(replica)
        write(source, 1030, rows=40)  # ids overtake those of the old frontier
        settled(agent)
        assert agent.named() == ["failover"]


def test_a_clock_of_a_mariadb_server_that_goes_forward_and_back(
    town: Town, clock: Clock
) -> None:
    """Forward nothing is lost; back, new rows bear old times, and that is noticed."""
    with department("mariadb", env=clock.env) as source:
        agent = town.follows(source)
        clock.set("+1d")
        write(source, 1001)
        agent.increment()
        assert (agent.found(), agent.named()) == (SAME, [])
        clock.set("+0")
        write(source, 1002)
        settled(agent)
        assert agent.named() == ["clock"]
        write(source, 1003)
        agent.increment()
        assert agent.found() == SAME


def test_another_time_zone_of_a_mariadb_server(town: Town) -> None:
    """The zone is part of what its times mean: it is read anew."""
    with department("mariadb") as source:
        assert isinstance(source, Maria)
        agent = town.follows(source)
        source.server.sql("set global time_zone = '+09:00'")
        write(source, 1001)
        settled(agent)
        assert agent.named() == ["clock"]


@BOTH
def test_a_table_that_was_dropped_and_made_again(town: Town, kind: str) -> None:
    """Rows that were loaded with old times or few ids are not taken for known ones."""
    with department(kind) as source:
        agent = town.follows(source)
        run, close = source.connect()
        time.sleep(1.1)  # MariaDB knows the second in which a table was made, no more
        run("create table other as select * from work")
        run("drop table work")
        run(
            "create table work (id bigint primary key, note varchar(200), changed"
            " timestamp(6) not null default current_timestamp(6)"
            " on update current_timestamp(6))"
            if kind == "mariadb"
            else "create table work (id bigint primary key, note text, changed"
            " timestamptz not null default now())"
        )
        run("insert into work select * from other")
        close()
        write(source, 1001)
        settled(agent)
        assert agent.named() == ["recreated"]


# --- the agent's own clock -----------------------------------------------------------


@BOTH
def test_a_clock_of_the_agent_that_jumps(kind: str, clock: Clock) -> None:
    """Frontiers are the database's: what waited is sent when the clock is right."""
    with department(kind) as source, pushing(source, env=clock.env) as agent:
        agent.full()
        for number, offset in enumerate(("+1d", "-1d")):
            write(source, 1001 + 2 * number)
            clock.set(offset)
            agent.asked_increment()
            write(source, 1002 + 2 * number)
            clock.set("+0")
            agent.settled()
        agent.increment()
        assert (agent.found(), agent.named()) == (SAME, [])
