# SPDX-License-Identifier: Apache-2.0
"""An agent as a process, with a small department, at a running exchange.

::

    agent = AgentProcess(tmp_path / "agent", sandbox)
    agent.fep("enrol")
    with agent.running():
        agent.fep("pull", PERSONS, "--wait")
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agent.local.client import LocalClient
from tests.support.sandbox_process import SandboxProcess

NODE = "11990100MB0000018H/rsj-fep1"
PERSONS = "101001/000001"
PERMITS = "101001/000002"
FEP = "from agent.cli.main import main; main()"
START_S = 60.0

_SETTINGS = """\
[agent]
node = "{node}"
[paths]
state = "state"
run = "run"
[exchange]
aud = "{aud}"
url = "{url}"
ca_sha256 = "{ca_sha256}"
kid = "{kid}"
retry_base_s = 0.2
retry_cap_s = 1.0
[sources.rsj]
connector = "sqlite"
path = "rsj.db"
[push]
poll_s = 0.1
batch_raw_mb = 1
max_rows_per_batch = {batch_rows}
"""

_DOCUMENT = """\
code = "{code}"
name = "{name}"
version = 1
push = {push}
share_type = "unconditional"
share_method = "database"
secrecy_level = "unclassified"
abstract = "试验数据"
provider_name = "云溪市人力资源和社会保障局"
provider_code = "11990100MB0000018H"
responsible_party = "信息中心"
resource_class_path = ["基础信息资源", "人口"]
format_category = "database"
format_type = "sqlite"
update_cycle = "daily"
open_to_public = false
[secrecy_review]
reviewer = "办公室"
on = 2026-08-20
[binding]
source = "rsj"
table = "{table}"
[[items]]
name = "id"
title = "编号"
type = "I"
key = true
[[items]]
name = "name"
title = "名称"
type = "C"
length = 20
required = true
"""


class AgentProcess:
    """Settings, catalog, source and the daemon's process in one folder.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.
        sandbox: the exchange; what it says goes into the settings.
        rows: rows of each of the two tables.
        batch_rows: most rows of a batch.
        node: who it is.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: SandboxProcess,
        *,
        rows: int = 100,
        batch_rows: int = 1000,
        node: str = NODE,
    ) -> None:
        self.folder = folder
        self.node = node
        self.config = folder / "agent.toml"
        self.source = folder / "rsj.db"
        self.log = folder / "agent.log"
        self.process: subprocess.Popen[bytes] | None = None
        (folder / "catalog").mkdir(parents=True, exist_ok=True)
        self.configure(
            aud=sandbox.aud,
            url=sandbox.url,
            ca_sha256=sandbox.ca_sha256,
            kid=sandbox.kid,
            batch_rows=batch_rows,
        )
        self.document(PERSONS, "人员基本信息", "person")
        self.document(PERMITS, "许可证", "permit")
        with closing(sqlite3.connect(self.source)) as db:
            for table in ("person", "permit"):
                db.execute(f"CREATE TABLE {table} (id INTEGER PRIMARY KEY, name TEXT)")
                db.executemany(
                    f"INSERT INTO {table} VALUES (?, ?)",
                    ((i, f"{table}{i}") for i in range(1, rows + 1)),
                )
            db.commit()

    def configure(self, **values: object) -> None:
        """Write the settings."""
        text = _SETTINGS.format(node=self.node, **values)
        self.config.write_text(text, "utf-8")

    def document(self, code: str, name: str, table: str, *, push: bool = True) -> None:
        """Write a resource document."""
        path = self.folder / "catalog" / f"{table}.toml"
        text = _DOCUMENT.format(
            code=code, name=name, table=table, push=str(push).lower()
        )
        path.write_text(text, "utf-8")

    def sql(self, statement: str, *values: object) -> None:
        """Change the source."""
        with closing(sqlite3.connect(self.source)) as db:
            db.execute(statement, values)
            db.commit()

    # --- the command ----------------------------------------------------------------

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """``fep words…`` to its end, in English unless said otherwise."""
        return subprocess.run(
            [sys.executable, "-c", FEP, *words],
            env={**os.environ, "FEP_CONFIG": str(self.config), "LANG": "en", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def fep(self, *words: str) -> Any:
        """The JSON of ``fep words… --json``, which must end with 0."""
        done = self.run(*words, "--json")
        assert done.returncode == 0, done.stdout + done.stderr + self.tail()
        return json.loads(done.stdout)

    def ask(self, path: str, **query: object) -> Any:
        """What the daemon answers on its local socket."""
        return LocalClient(self.folder / "run" / "fep.sock").get(path, query)

    def post(self, path: str, **body: object) -> Any:
        """What it answers to an order there."""
        return LocalClient(self.folder / "run" / "fep.sock").post(path, body)

    # --- the daemon -----------------------------------------------------------------

    def launch(self, *before: str, **env: str) -> None:
        """Start the daemon, perhaps by a command that runs commands, such as strace."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [*before, sys.executable, "-c", FEP, "run"],
                env={**os.environ, "FEP_CONFIG": str(self.config), **env},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def start(self, **env: str) -> None:
        """Start the daemon and wait until it is ready."""
        seen = len(self.events("daemon.ready"))
        self.launch(**env)
        assert self.process is not None
        until = time.monotonic() + START_S
        while len(self.events("daemon.ready")) == seen:
            assert self.process.poll() is None, self.tail()
            assert time.monotonic() < until, self.tail()
            time.sleep(0.02)

    def send(self, number: int) -> None:
        """Send a signal to the daemon."""
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the daemon; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(START_S)
        self.process = None
        return code

    @contextmanager
    def running(self, **env: str) -> Iterator[None]:
        """A daemon until the block ends, however it does."""
        self.start(**env)
        try:
            yield
        finally:
            if self.process is not None:
                self.stop(signal.SIGKILL)

    def events(self, name: str) -> list[dict[str, Any]]:
        """What the daemon told under this name, from its first start on."""
        if not self.log.exists():
            return []
        lines = self.log.read_text("utf-8").splitlines()
        found = [_body(line) for line in lines if line.startswith("{")]
        return [body for body in found if body.get("event") == name]

    def wait_for(self, name: str, **fields: object) -> dict[str, Any]:
        """The first event of this name and these fields, once it is told."""
        until = time.monotonic() + START_S
        while True:
            for body in self.events(name):
                if fields.items() <= body.items():
                    return body
            assert time.monotonic() < until, self.tail()
            time.sleep(0.05)

    def tail(self) -> str:
        """The end of the log, for a failed assertion."""
        return self.log.read_text("utf-8")[-2000:] if self.log.exists() else ""


def _body(line: str) -> dict[str, Any]:
    """What a line of the log says; a kill may have divided it."""
    try:
        found: dict[str, Any] = json.loads(line[line.rindex('{"time"') :])
    except ValueError:
        return {}
    return found
