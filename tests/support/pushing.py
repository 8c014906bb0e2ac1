# SPDX-License-Identifier: Apache-2.0
"""An agent that follows the table ``work`` of a private server, as processes.

::

    with department("postgres") as source, pushing(source) as agent:
        agent.full()
        agent.increment()
        agent.found()   # what the centre lacks, has too much or stale
"""

from __future__ import annotations

import json
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agent.errors import Busy
from agent.local.client import LocalClient
from tests.support.agent_process import AgentProcess
from tests.support.databases import Maria
from tests.support.late_commits import Found, Kept, Source, compared
from tests.support.sandbox_process import SandboxProcess, running_sandbox

WORK = "101001/000003"
CENTRE_TABLE = "101001_000003"
PATIENCE_S = 120.0

_DOCUMENT = """\
code = "101001/000003"
name = "办件信息"
version = 1
push = true
share_type = "unconditional"
share_method = "database"
secrecy_level = "unclassified"
abstract = "试验数据"
provider_name = "云溪市人力资源和社会保障局"
provider_code = "11990100MB0000018H"
responsible_party = "信息中心"
resource_class_path = ["基础信息资源", "人口"]
format_category = "database"
format_type = "postgresql"
update_cycle = "realtime"
open_to_public = false
[secrecy_review]
reviewer = "办公室"
on = 2026-08-20
[binding]
source = "db"
table = {table}
{binding}
[[items]]
name = "id"
title = "编号"
type = "I"
key = true
[[items]]
name = "note"
title = "内容"
type = "C"
length = 200
"""


class PushingAgent(AgentProcess):
    """Settings and the one resource document for a server's table ``work``.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.
        sandbox: the exchange, which loads.
        source: where the table is.
        binding: more lines of the binding.
    """

    def __init__(
        self, folder: Path, sandbox: SandboxProcess, source: Source, binding: str = ""
    ) -> None:
        super().__init__(folder, sandbox, rows=1)
        maria = isinstance(source, Maria)
        for path in (folder / "catalog").iterdir():
            path.unlink()
        table = ["town" if maria else "public", "work"]
        text = _DOCUMENT.format(table=json.dumps(table), binding=binding)
        (folder / "catalog" / "work.toml").write_text(text, "utf-8")
        self._general = self.config.read_text("utf-8")
        self._reads(source)
        self.sandbox = sandbox
        self._data = source
        self._heard = 0

    def _reads(self, source: Source) -> None:
        """Write the settings of the source."""
        kind = "mysql" if isinstance(source, Maria) else "postgres"
        lines = ["[sources.db]", f'connector = "{kind}"']
        for key, value in source.server.config().items():
            if value is not None:
                lines.append(f"{key} = {json.dumps(value)}")
        self.config.write_text(self._general + "\n".join(lines) + "\n", "utf-8")

    def moved(self, source: Source) -> None:
        """From now on the table is in another server; the settings say so."""
        told = len(self.events("config.reloaded"))
        self._data = source
        self._reads(source)
        self.send(signal.SIGHUP)
        end = time.monotonic() + PATIENCE_S
        while len(self.events("config.reloaded")) == told:
            assert time.monotonic() < end, self.tail()
            time.sleep(0.05)

    def client(self) -> LocalClient:
        """The daemon's own interface."""
        return LocalClient(self.folder / "run" / "fep.sock")

    def full(self) -> dict[str, Any]:
        """Read everything; the report once it is loaded and increments can follow.

        A run that failed is repeated by the agent itself. Who did not wait for that
        would have it read what the test does next, and nothing would be lost.
        """
        report = self._ended(self._ask({}))
        while report["state"] != "read":
            assert report["successor"] is not None, (report, self.tail())
            report = self._ended(report["successor"])
        status = self.client().get("/v1/status", {"resource": WORK})
        assert status["resources"][0]["increments"] is not None, self.tail()
        self._heard = len(self.events("frontier.lost"))
        return report

    def named(self) -> list[str]:
        """Why increments could not go on, since everything was last asked for."""
        told = self.events("frontier.lost")[self._heard :]
        return [event["detail"].partition(":")[0] for event in told]

    def increment(self, *, delivered: bool = True) -> dict[str, Any]:
        """Read what changed; the report once it is read or, if wanted, loaded."""
        return self._ended(self._ask({"kind": "incremental"}), delivered=delivered)

    def asked_increment(self) -> None:
        """Ask for the changes, whether they can be sent now or not."""
        self._ask({"kind": "incremental"})

    def held(self) -> dict[str, Any]:
        """Wait until the resource waits for a person; what status shows of it."""
        end = time.monotonic() + PATIENCE_S
        while True:
            body = json.loads(self.run("status", WORK, "--json").stdout)
            shown: dict[str, Any] = body["resources"][0]
            if shown["state"] == "held":
                return shown
            assert time.monotonic() < end, (shown, self.tail())
            time.sleep(0.2)

    def settled(self) -> None:
        """Wait until the centre's table is the source's.

        Raises:
            AssertionError: it does not become it.
        """
        end = time.monotonic() + PATIENCE_S
        while (found := self.found()) != Found(0, 0, 0):
            assert time.monotonic() < end, (found, self.tail())
            time.sleep(0.2)

    def _ask(self, more: dict[str, Any]) -> str:
        """Ask for a run, once none is reading; its id."""
        body, end = {"resource": WORK, **more}, time.monotonic() + PATIENCE_S
        while True:
            try:
                asked = self.client().post("/v1/pull", body)
            except Busy:
                assert time.monotonic() < end, self.tail()
                time.sleep(0.1)
            else:
                return str(asked["run"])

    def _ended(self, run: str, *, delivered: bool = True) -> dict[str, Any]:
        query = {"run": run, "wait_s": 20, "delivered": str(delivered).lower()}
        end = time.monotonic() + PATIENCE_S
        while True:
            body: dict[str, Any] = self.client().get("/v1/run", query)
            if body["state"] != "running":
                return body
            assert time.monotonic() < end, self.tail()

    def kept(self) -> Kept:
        """The centre's table, once nothing waits to be loaded."""
        self.sandbox.wait_loaded()
        return Kept(self.sandbox.database, CENTRE_TABLE)

    def found(self) -> Found:
        """What is wrong with the centre's table."""
        return compared(self._data, self.kept())


@contextmanager
def pushing(
    source: Source, *, env: Mapping[str, str] | None = None, binding: str = ""
) -> Iterator[PushingAgent]:
    """An enrolled agent at work, and the exchange that it pushes to.

    Args:
        source: where the table is.
        env: variables of the agent's process.
        binding: more lines of the resource document's binding.
    """
    with ExitStack() as stack:
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="fep"))
        sandbox = stack.enter_context(running_sandbox(Path(made) / "x"))
        agent = PushingAgent(Path(made) / "a", sandbox, source, binding)
        agent.fep("enrol")
        stack.enter_context(agent.running(**(env or {})))
        yield agent


class AgentReader:
    """The agent as a reader of a race: an increment is asked for at every step.

    Args:
        agent: at work.
    """

    def __init__(self, agent: PushingAgent) -> None:
        self._agent = agent
        self._begun = False

    def step(self) -> None:
        """Everything the first time, then what changed."""
        agent = self._agent
        report = agent.increment(delivered=False) if self._begun else agent.full()
        self._begun = True
        assert report["state"] == "read", (report, agent.tail())

    def kept(self) -> Kept:
        """The centre's table; a stream's batches are loaded in their order."""
        report = self._agent.increment()
        assert report["delivered"], (report, self._agent.tail())
        return self._agent.kept()
