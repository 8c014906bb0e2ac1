# SPDX-License-Identifier: Apache-2.0
"""A department whose parts can be broken and mended, one after the other.

Two tables in SQLite and one in PostgreSQL, an agent that reads them and an exchange.
:meth:`Department.renew` changes every table, so that there is always something that
must still arrive; :meth:`Department.arrived` says whether the centre has what the
sources have.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import FepError, all_errors
from agent.local.client import LocalClient
from tests.support.agent_process import PERMITS, PERSONS, AgentProcess
from tests.support.chain import faults, links
from tests.support.postgres import Server, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

FIRMS = "101001/000003"
TABLES = {PERSONS: "person", PERMITS: "permit", FIRMS: "firm"}
PASSWORD = "correct horse 电池"
ROWS = 20
PATIENCE_S = 60.0

_HBA = "local all postgres trust\nlocal all all scram-sha-256\n"
_SOURCE = """\
[sources.firms]
connector = "postgres"
host = "{host}"
port = {port}
database = "postgres"
user = "reader"
password = {{ file = "secret" }}
"""

_CLASSES = {cls.code: cls for cls in all_errors()}


@dataclass(frozen=True)
class Department:
    """See the module."""

    agent: AgentProcess
    sandbox: SandboxProcess
    server: Server

    # --- what can be broken ---------------------------------------------------------

    @property
    def secret(self) -> Path:
        """The file with the password of PostgreSQL."""
        return self.agent.folder / "secret"

    @property
    def line(self) -> Path:
        """The folder in which the agent looks for PostgreSQL's socket."""
        return self.agent.folder / "pg"

    def write_secret(self, text: str) -> None:
        """Another password for the agent, not for the server."""
        self.secret.unlink(missing_ok=True)
        self.secret.write_text(text, "utf-8")
        self.secret.chmod(0o400)

    def renew(self, word: str) -> None:
        """A row more and a row changed in every table; a name has 20 characters."""
        word = word[:20]
        with closing(sqlite3.connect(self.agent.source)) as db:
            for table in ("person", "permit"):
                db.execute(f"INSERT INTO {table} (name) VALUES (?)", (word,))
                db.execute(f"UPDATE {table} SET name = ? WHERE id = 2", (word,))
            db.commit()
        self.server.sql(
            f"INSERT INTO firm SELECT max(id) + 1, '{word}' FROM firm;"
            f" UPDATE firm SET name = '{word}' WHERE id = 2"
        )

    # --- what is asked and seen -----------------------------------------------------

    @property
    def client(self) -> LocalClient:
        """The daemon's socket."""
        return LocalClient(self.agent.folder / "run" / "fep.sock")

    def ask(self, resource: str) -> None:
        """``fep pull RESOURCE``."""
        self.client.post("/v1/pull", {"resource": resource})

    def status(self, resource: str) -> dict[str, Any]:
        """``fep status RESOURCE``, of this resource alone."""
        found = self.client.get("/v1/status", {"resource": resource})
        shown: dict[str, Any] = found["resources"][0]
        return shown

    def until_trouble(self, resource: str, code: str) -> dict[str, Any]:
        """The trouble of this code, once status shows it."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found = self.status(resource)
            trouble: dict[str, Any] | None = found["trouble"]
            if trouble is not None and trouble["code"] == code:
                return trouble
            assert time.monotonic() < until, (found, self.agent.tail())
            time.sleep(0.05)

    def until_told(self, event: str, **fields: object) -> dict[str, Any]:
        """The newest event of this name and these fields, once there is a new one."""

        def all_of() -> list[dict[str, Any]]:
            found = self.agent.events(event)
            return [body for body in found if fields.items() <= body.items()]

        seen, until = len(all_of()), time.monotonic() + PATIENCE_S
        while len(all_of()) == seen:
            assert time.monotonic() < until, self.agent.tail()
            time.sleep(0.05)
        return all_of()[-1]

    def until_read(self, resource: str) -> dict[str, Any]:
        """The newest run, once all of it is registered for sending."""
        until = time.monotonic() + PATIENCE_S
        while True:
            found = self.status(resource)
            run: dict[str, Any] | None = found["run"]
            if run is not None and run["state"] == "read":
                return run
            assert time.monotonic() < until, (found, self.agent.tail())
            time.sleep(0.05)

    def until_delivered(self, resource: str) -> None:
        """Until the newest run is loaded and nothing troubles the resource."""
        until = time.monotonic() + PATIENCE_S
        while not _delivered(found := self.status(resource)):
            assert time.monotonic() < until, (found, self.agent.tail())
            time.sleep(0.05)

    def until_arrived(self, *resources: str) -> None:
        """Once nothing troubles these resources the centre has what the sources have,
        in whole chains."""
        for resource in resources:
            self.until_delivered(resource)
            assert self.centre(resource) == self.source(resource)
        for chain in links(self.sandbox.database).values():
            assert faults(chain) == []

    def told_to_people(self, resource: str, code: str) -> dict[str, str]:
        """Language -> what of title, code and next step ``fep status`` does not say."""
        cls: type[FepError] = _CLASSES[code]
        missing = {}
        for lang in ("en", "zh"):
            done = self.agent.run("status", resource, "--lang", lang)
            assert done.returncode == 1, done.stdout
            shown = "".join(done.stdout.split())
            words = (getattr(cls.title, lang), f"[{code}]", getattr(cls.remedy, lang))
            lacking = [w for w in words if "".join(w.split()) not in shown]
            if lacking:
                missing[lang] = f"{lacking} in {done.stdout}"
        return missing

    # --- rows -----------------------------------------------------------------------

    def source(self, resource: str) -> list[tuple[Any, ...]]:
        """Rows of a resource's table at the source, in key order."""
        table = TABLES[resource]
        query = f"SELECT id, name FROM {table} ORDER BY id"
        if resource == FIRMS:
            lines = self.server.sql(query).splitlines()
            pairs = (line.split("|") for line in lines)
            return [(int(key), name) for key, name in pairs]
        with closing(sqlite3.connect(self.agent.source)) as db:
            return db.execute(query).fetchall()

    def centre(self, resource: str) -> list[tuple[Any, ...]]:
        """Rows of a resource at the centre, in key order."""
        table = resource.replace("/", "_")
        return self.sandbox.rows(f"SELECT id, name FROM '{table}' ORDER BY id")


def _delivered(found: dict[str, Any]) -> bool:
    run = found["run"]
    whole = run is not None and run["state"] == "read" and run["delivered"]
    return bool(found["healthy"] and whole and found["state"] == "idle")


@contextmanager
def running_department(folder: Path, settings: str = "") -> Iterator[Department]:
    """A department whose rows are all at the centre, its daemon running.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.
        settings: more sections of ``agent.toml``.

    Raises:
        RuntimeError: PostgreSQL is not installed or did not start.
    """
    with ExitStack() as stack:
        server = stack.enter_context(private_server(hba=_HBA))
        sandbox = stack.enter_context(running_sandbox(folder / "centre"))
        found = Department(
            AgentProcess(folder / "agent", sandbox, rows=ROWS), sandbox, server
        )
        _furnish(found, settings)
        found.agent.fep("enrol")
        stack.enter_context(found.agent.running())
        for resource in TABLES:
            found.ask(resource)
        found.until_arrived(*TABLES)
        yield found


def _furnish(found: Department, settings: str) -> None:
    """The table in PostgreSQL, its reader, and what the agent knows of them."""
    agent, server = found.agent, found.server
    server.sql(
        "CREATE TABLE firm (id int PRIMARY KEY, name text);"
        f" INSERT INTO firm SELECT i, 'firm' || i FROM generate_series(1, {ROWS}) i;"
        f" CREATE ROLE reader LOGIN PASSWORD '{PASSWORD}';"
        " GRANT SELECT ON firm TO reader"
    )
    found.line.symlink_to(server.socket_folder)
    found.write_secret(PASSWORD)
    source = _SOURCE.format(host=found.line, port=server.port)
    text = agent.config.read_text("utf-8")
    text = text.replace("[push]", source + "[push]") + settings
    agent.config.write_text(text, "utf-8")
    agent.document(FIRMS, "企业", "firm")
    document = agent.folder / "catalog" / "firm.toml"
    text = document.read_text("utf-8").replace('source = "rsj"', 'source = "firms"')
    document.write_text(text, "utf-8")
