# SPDX-License-Identifier: Apache-2.0
"""A department that answers lookups: daemon, exchange and source are real processes.

::

    with running_site(folder) as site, DoorAsker(site) as asker:
        message = asker.message(person(1))
        heard = asker.by(message)

The source is PostgreSQL, whose own log says which keys it was asked for, and how often.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any

import aiohttp
import psycopg

from agent.audit import verify_log
from agent.audit.export import export
from agent.crypto.jose import message_digest
from agent.errors import FepError
from agent.local.client import LocalClient
from agent.wire import problem
from agent.wire.problem import Problem
from sandbox.consumer.client import Heard, Question
from sandbox.consumer.line import Refusal
from tests.support.answering import AnsweringAgent, Asker
from tests.support.postgres import SUPERUSER, Server, free_port, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

PEOPLE = 10_000
PATIENCE_S = 60.0
LOST_S = 8.0
"""A request that the provider lost is given up after so long."""
VERIFIER = Path(verify_log.__file__)

STATEMENT_S = 20
"""``lookup.statement_timeout_s``: longer than a test pauses the source."""
_KEY = re.compile(r"9901020\d{11}")


def person(n: int) -> str:
    """The number of the n-th person; every second one is known."""
    return f"9901020{n:011d}"


def name_of(key: str) -> str | None:
    """What the source has."""
    n = int(key[7:])
    return None if n % 2 else f"人{n}"


class Trail:
    """What the source was asked, from the server's log.

    Args:
        server: started with ``log_statement = all``.
    """

    def __init__(self, server: Server) -> None:
        self._path = server.data / "log"
        self._read = 0
        self._asked: Counter[str] = Counter()

    def asked(self) -> Counter[str]:
        """Key -> how many statements had it, up to now."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._read += len(data)
        for line in data.decode("utf-8", "replace").splitlines():
            if "arameters: $1" in line:
                self._asked.update(_KEY.findall(line))
        return self._asked


@dataclass(frozen=True)
class Kept:
    """What the agent's files say, read from a copy.

    Args:
        lines: records.
        requests: jti -> number of the record of its answer, None while there is none.
        owners: jti -> message digest of the request that has it.
    """

    lines: list[str]
    requests: dict[str, int | None]
    owners: dict[str, str]

    def unfinished(self) -> set[str]:
        """Ids that were begun and not answered."""
        return {jti for jti, leaf in self.requests.items() if leaf is None}

    def replies(self) -> dict[str, dict[str, Any]]:
        """Message digest of a reply -> its record."""
        found = (json.loads(line) for line in self.lines)
        return {r["reply"]: r for r in found if r["kind"] == "lookup.decided"}


@dataclass
class Site:
    """See the module."""

    agent: AnsweringAgent
    sandbox: SandboxProcess
    server: Server
    port: int
    trail: Trail = field(init=False)

    def __post_init__(self) -> None:
        self.trail = Trail(self.server)

    @property
    def client(self) -> LocalClient:
        """The daemon's socket."""
        return LocalClient(self.agent.folder / "run" / "fep.sock")

    @property
    def pid(self) -> int:
        """Of the daemon."""
        assert self.agent.process is not None
        return self.agent.process.pid

    @property
    def alive(self) -> bool:
        """The daemon runs."""
        process = self.agent.process
        return process is not None and process.poll() is None

    def lookups(self) -> dict[str, Any]:
        """The status of the lookup side."""
        found: dict[str, Any] = self.client.get("/v1/status")["lookups"]
        return found

    # --- lives ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the daemon; both ways are open and the witness agrees."""
        self.agent.start()
        self.until(self._open)

    def _open(self) -> bool:
        found = self.lookups()
        ways = found["relay"]["up"] and found["listener"]["up"]
        return bool(ways and found["audit"]["witness"] == "agrees")

    def flash(self, seconds: float) -> None:
        """A life that ends with ``kill -9`` so long after its begin."""
        self.agent.launch()
        time.sleep(seconds)
        self.kill()

    def kill(self) -> None:
        """``kill -9`` of the daemon, and of the workers that it leaves."""
        workers = self.workers()
        assert self.agent.stop(signal.SIGKILL) == -signal.SIGKILL
        for pid in workers:
            _end(pid)

    def workers(self, program: bytes = b"agent.lookup.query") -> list[int]:
        """Processes that ask the source for this daemon, or others of its children."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in map(int, _words(task)):
                words = _words(Path(f"/proc/{child}/cmdline"), b"\0")
                if program in words:
                    found.append(child)
        return found

    def kill_worker(self) -> bool:
        """``kill -9`` of the worker, if there is one."""
        workers = self.workers()
        for pid in workers:
            _end(pid)
        return bool(workers)

    def kill_door(self) -> bool:
        """``kill -9`` of the listener's process, if there is one."""
        doors = self.workers(b"agent.lookup.door")
        for pid in doors:
            _end(pid)
        return bool(doors)

    def until(self, holds: Callable[[], bool], within_s: float = PATIENCE_S) -> None:
        """Wait until something holds."""
        until = time.monotonic() + within_s
        while not holds():
            assert time.monotonic() < until, self.agent.tail()
            time.sleep(0.01)

    # --- the source -----------------------------------------------------------------

    @contextmanager
    def paused(self) -> Iterator[Callable[[], None]]:
        """Nobody can read the table, queries wait, until the block ends or what is
        given is called."""
        server = self.server
        with psycopg.connect(
            host=str(server.socket_folder),
            port=server.port,
            dbname="postgres",
            user=SUPERUSER,
        ) as db:
            db.execute("LOCK TABLE citizen IN ACCESS EXCLUSIVE MODE")
            yield db.rollback

    def busy(self) -> int:
        """Connections of the agent that wait for the table, or answer."""
        text = self.server.sql(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
            " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        return int(text)

    # --- the log --------------------------------------------------------------------

    @property
    def ledger(self) -> Path:
        """The agent's lookup database."""
        return self.agent.folder / "state" / "lookup.db"

    def kept(self) -> Kept:
        """What is in the agent's files now, whether it runs or not."""
        copy = self.agent.folder.parent / "copy.db"
        for end in ("", "-wal"):  # the file first: a fold then only adds to it
            target = copy.with_name(copy.name + end)
            target.unlink(missing_ok=True)
            if (source := self.ledger.with_name(self.ledger.name + end)).exists():
                copyfile(source, target)
        with closing(sqlite3.connect(copy)) as db:
            lines = [r[0] for r in db.execute("SELECT line FROM leaves ORDER BY n")]
            found = db.execute("SELECT jti, leaf, digest FROM requests").fetchall()
        requests = {jti: leaf for jti, leaf, _ in found}
        return Kept(lines, requests, {jti: digest for jti, _, digest in found})

    def export(self, folder: Path) -> int:
        """Export the log, all of it signed and cosigned; its size."""
        size = self.lookups()["audit"]["size"]
        self.until(lambda: self.lookups()["audit"]["cosigned"] >= size)
        client = self.client

        def page(what: str, members: Any) -> Any:
            if what == "export":
                return client.post("/v1/audit/export", members)
            return client.get(f"/v1/audit/{what}", members)

        return int(export(folder, page)["size"])


def verified(folder: Path, *more: str) -> dict[str, Any]:
    """What the single-file verifier says of an export, as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-I", str(VERIFIER), str(folder), "--json", *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _words(path: Path, by: bytes | None = None) -> list[bytes]:
    try:
        return path.read_bytes().split(by)
    except OSError:  # it has just ended
        return []


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


# --- asking ---------------------------------------------------------------------------

Answer = Heard | Problem | None
"""What came back: None if the connection broke."""


def digest_of(heard: Heard) -> str:
    """Of a reply, as the log has it."""
    return message_digest(heard.jws)


class DoorAsker(Asker):
    """A consumer whose requests go by the relay, or by the listener as the exchange
    would bring them.

    Args:
        site: whom it asks.
    """

    def __init__(self, site: Site) -> None:
        super().__init__(site.sandbox.folder.parent / "consumer", site.sandbox)
        self._url = f"https://127.0.0.1:{site.port}/v1/lookups"
        self._keys = site.sandbox.folder / "keys"
        self.heard_at = 0.0
        """When the last sealed reply came, monotonic seconds."""
        self.arrived: Callable[[], object] = lambda: None
        """Called at once when a sealed reply comes."""

    def message(self, key: str, **changes: Any) -> Question:
        """A signed request for a person's name; it lives as long as is allowed."""
        iat = int(time.time())
        return self.question(key, fields=["name"], iat=iat, exp=iat + 120, **changes)

    def by(self, message: Question, *, door: bool = False) -> Answer:
        """Ask, sealed anew."""
        (answer,) = self.meanwhile([(message, door)])
        return answer

    def meanwhile(
        self,
        asks: Sequence[tuple[Question, bool]],
        act: Callable[[], object] = lambda: None,
    ) -> list[Answer]:
        """Ask all at a time, and do something before the answers are looked at.

        Args:
            asks: signed messages, each with its way: True is the listener.
            act: what is done.
        """

        async def every() -> list[Answer]:
            return await asyncio.gather(*(self._asked(m, door=d) for m, d in asks))

        asking = asyncio.run_coroutine_threadsafe(every(), self._loop)
        act()
        return asking.result(60)

    async def _asked(self, message: Question, *, door: bool) -> Answer:
        sealed = self.again(message).jwe
        try:
            async with asyncio.timeout(LOST_S):
                text = await (self._door(sealed) if door else self.line.relay(sealed))
        except Refusal as e:
            return e.problem
        except (FepError, TimeoutError, OSError, aiohttp.ClientError):
            return None
        self.arrived()
        self.heard_at = time.monotonic()
        return self.consumer.open(text, message)

    async def _door(self, text: str) -> str:
        """By the exchange's own certificate; the agent's names no host."""
        tls = ssl.create_default_context(cafile=str(self._keys / "ca.pem"))
        tls.check_hostname = False
        tls.load_cert_chain(self._keys / "relay.pem", self._keys / "relay.key")
        headers = {"Content-Type": "application/jose"}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session,
            session.post(self._url, data=text, headers=headers) as response,
        ):
            data = await response.read()
        if response.status != 200:
            raise Refusal(problem.parse(data, status=response.status))
        return data.decode("ascii")


# --- making one -----------------------------------------------------------------------


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A department that answers lookups, its daemon running, a policy in force.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.

    Raises:
        RuntimeError: PostgreSQL is not installed or did not start.
    """
    with ExitStack() as stack:
        server = stack.enter_context(private_server(settings={"log_statement": "all"}))
        sandbox = stack.enter_context(running_sandbox(folder / "centre"))
        people = [
            {"citizen_id": person(n), "name": name_of(person(n))}
            for n in range(0, PEOPLE, 2)
        ]
        port = free_port()
        agent = AnsweringAgent(
            folder / "agent",
            sandbox,
            people=people,
            server=server,
            listen=f"127.0.0.1:{port}",
        )
        text = agent.config.read_text("utf-8")
        more = f"[lookup]\nstatement_timeout_s = {STATEMENT_S}\n"
        agent.config.write_text(text.replace("[lookup]\n", more), "utf-8")
        agent.fep("enrol")
        site = Site(agent, sandbox, server, port)
        stack.callback(_stopped, site)
        site.start()
        site.client.post("/v1/policy/activate", {})
        yield site


def _stopped(site: Site) -> None:
    if site.agent.process is not None:
        site.kill()
