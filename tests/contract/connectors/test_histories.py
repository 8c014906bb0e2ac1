# SPDX-License-Identifier: Apache-2.0
"""Clocks that jump, MariaDB servers that are put back: found, or named, never lost."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from connectors.contract import FrontierLost
from tests.support.databases import Maria
from tests.support.histories import Clock, MariaHistory
from tests.support.late_commits import (
    Found,
    SessionReader,
    Source,
    compared,
    department,
)

pytestmark = pytest.mark.contract

SAME = Found(0, 0, 0)


@pytest.fixture
def clock() -> Iterator[Clock]:
    """A clock that a server's account can read."""
    with tempfile.TemporaryDirectory(prefix="clock") as folder:
        Path(folder).chmod(0o755)
        yield Clock(Path(folder) / "offset")


def write(source: Source, number: int) -> None:
    """A new row and a changed one, committed."""
    run, close = source.connect()
    run(f"insert into work (id, note) values ({number}, 'new')")
    run(f"update work set note = 'changed {number}' where id = {number % 600}")
    close()


def lost(reader: SessionReader) -> str:
    """The reason why the next increment is refused."""
    with pytest.raises(FrontierLost) as caught:
        reader.step()
    return str(caught.value.reason)


@pytest.mark.parametrize("offset", ["+1d", "-1d"])
@pytest.mark.parametrize("stamp", [None, "changed"])
def test_postgres_loses_nothing_when_its_clock_jumps(
    clock: Clock, offset: str, stamp: str | None, tmp_path: Path
) -> None:
    """Ids know no clock, and a floor of times is not used across a jump."""
    with department("postgres", env=clock.env) as source:
        reader = SessionReader(source, tmp_path / "copy.db", stamp=stamp)
        reader.step()
        write(source, 1001)
        clock.set(offset)
        write(source, 1002)
        reader.step()
        write(source, 1003)
        clock.set("+0")
        write(source, 1004)
        reader.step()
        assert compared(source, reader.kept()) == SAME


def test_mariadb_loses_nothing_when_its_clock_goes_forward(
    clock: Clock, tmp_path: Path
) -> None:
    """A row that a long transaction wrote before the jump comes after it."""
    with department("mariadb", env=clock.env) as source:
        reader = SessionReader(source, tmp_path / "copy.db", stamp=None)
        reader.step()
        run, close = source.connect()
        run("begin")
        run("insert into work (id, note) values (1001, 'before the jump')")
        clock.set("+1d")
        write(source, 1002)
        reader.step()
        run("commit")
        close()
        reader.step()
        assert compared(source, reader.kept()) == SAME


def test_mariadb_names_a_clock_that_went_back(clock: Clock, tmp_path: Path) -> None:
    """New rows bear times before the frontier: the increment is refused."""
    with department("mariadb", env=clock.env) as source:
        reader = SessionReader(source, tmp_path / "copy.db", stamp=None)
        reader.step()
        clock.set("-1h")
        write(source, 1001)
        assert lost(reader) == "clock"


def test_mariadb_names_another_time_zone(tmp_path: Path) -> None:
    """The server's zone is part of what a time without zone means."""
    with department("mariadb") as source:
        reader = SessionReader(source, tmp_path / "copy.db", stamp=None)
        reader.step()
        run, close = source.connect()
        run("set global time_zone = '+09:00'")
        close()
        write(source, 1001)
        assert lost(reader) == "clock"


def test_mariadb_names_yesterdays_files(tmp_path: Path) -> None:
    """The log went back, although the server is the same."""
    with department("mariadb") as source, ExitStack() as stack:
        assert isinstance(source, Maria)
        history = stack.enter_context(closing(MariaHistory(source.server)))
        yesterday = history.kept_now("yesterday")
        reader = SessionReader(source, tmp_path / "copy.db", stamp=None)
        for number in range(1001, 1101):
            write(source, number)
        reader.step()
        history.back_to(yesterday)
        write(source, 1200)
        assert lost(reader) == "restored"


def test_mariadb_names_a_dump_in_another_server(tmp_path: Path) -> None:
    """The same rows on another server are another history."""
    with department("mariadb") as source, department("mariadb") as other:
        assert isinstance(source, Maria)
        assert isinstance(other, Maria)
        reader = SessionReader(source, tmp_path / "copy.db", stamp=None)
        reader.step()
        dump = subprocess.run(
            ["mariadb-dump", "-S", str(source.server.socket), "-u", "root", "town"],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["mariadb", "-S", str(other.server.socket), "-u", "root", "town"],
            check=True, input=dump.stdout,
        )  # fmt: skip
        reader.moved(other)
        assert lost(reader) == "other-source"
