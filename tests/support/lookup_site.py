# SPDX-License-Identifier: Apache-2.0
"""A department that answers lookups: daemon, exchange and source are real processes.

::

    with running_site(folder) as site, Asker(site) as asker:
        message = asker.message("K00000001")
        heard = asker.ask(message)

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
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any, Self, TypeVar

import aiohttp
import psycopg

from agent.audit import verify_log
from agent.audit.export import export
from agent.crypto.jose import message_digest
from agent.errors import FepError
from agent.local.client import LocalClient
from agent.wire import problem
from agent.wire.grammar import new_uuid7
from agent.wire.lookup import REPLY_CAP, Reply
from agent.wire.problem import Problem
from sandbox.consumer.client import Consumer, Question, clock
from sandbox.consumer.home import Home, Target
from sandbox.consumer.line import Refusal, connected, enrol
from tests.support.agent_process import NODE, AgentProcess
from tests.support.postgres import SUPERUSER, Server, free_port, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

T = TypeVar("T")

RESOURCE = "101001/000009"
CONSUMER = "11990100MB0000027F/ybj-fep1"
ROWS = 5_000
PATIENCE_S = 30.0
LOST_S = 8.0
"""A request that the provider lost is given up after so long."""
VERIFIER = Path(verify_log.__file__)

_SOURCE = """\
[sources.people]
connector = "postgres"
host = "{host}"
port = {port}
database = "postgres"
user = "postgres"
"""
_LOOKUP = """\
[lookup]
listen = "127.0.0.1:{port}"
statement_timeout_s = 20
peer_per_s = 10000
[audit]
checkpoint_s = 1.0
"""
_POLICY = """\
[[grants]]
id = "ybj"
consumers = ["11990100MB0000027F"]
resource = "101001/000009"
ops = ["get", "verify"]
keys = ["no"]
purposes = [{ purpose = "administrative_basis", basis = 'YBJ-[0-9]{4}' }]
[grants.fields]
name = "show"
"""
_KEY = re.compile(r"K\d{8}")


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

    agent: AgentProcess
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

    def kill(self) -> None:
        """``kill -9`` of the daemon, and of the workers that it leaves."""
        workers = self.workers()
        assert self.agent.stop(signal.SIGKILL) == -signal.SIGKILL
        for pid in workers:
            _end(pid)

    def workers(self) -> list[int]:
        """Processes that ask the source for this daemon."""
        found = []
        for task in Path(f"/proc/{self.pid}/task").glob("*/children"):
            for child in map(int, _words(task)):
                words = _words(Path(f"/proc/{child}/cmdline"), b"\0")
                if b"agent.lookup.query" in words:
                    found.append(child)
        return found

    def kill_worker(self) -> bool:
        """``kill -9`` of the worker, if there is one."""
        workers = self.workers()
        for pid in workers:
            _end(pid)
        return bool(workers)

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
            db.execute("LOCK TABLE person IN ACCESS EXCLUSIVE MODE")
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


@dataclass(frozen=True)
class Heard:
    """A signed reply.

    Args:
        jws: exactly.
        reply: what it says.
    """

    jws: str = field(repr=False)
    reply: Reply

    @property
    def digest(self) -> str:
        """As the log has it."""
        return message_digest(self.jws)


Answer = Heard | Problem | None
"""What came back: None if the connection broke."""


class Asker:
    """The consumer department, in this process, with its own keys.

    Args:
        site: whom it asks.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._home = Home(site.sandbox.folder.parent / "consumer")
        self._target = Target.of_file(site.sandbox.folder / "sandbox.json")
        self._runner = asyncio.Runner()
        self.heard_at = 0.0
        """When the last signed reply came, monotonic seconds."""
        self._consumer: Consumer

    def __enter__(self) -> Self:
        self._runner.__enter__()
        if not self._home.certificate.exists():
            self.run(enrol(self._home, self._target, CONSUMER, now=clock()))
        self._consumer = self.run(self._learn())
        return self

    def __exit__(self, *error: Any) -> None:
        self._runner.__exit__(*error)

    async def _learn(self) -> Consumer:
        async with connected(self._home, self._target) as line:
            return await line.consumer(self._home)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something asynchronous."""
        return self._runner.run(work)

    def message(self, key: str, *, jti: str | None = None, op: str = "get") -> Question:
        """A signed request for one key."""
        item: dict[str, Any] = {"keys": {"no": key}}
        if op == "verify":
            item["claims"] = {"name": f"name {key}"}
        body = {
            "aud": NODE,
            "op": op,
            "resource": RESOURCE,
            "items": [item],
            "fields": ["name"],
            "purpose": "administrative_basis",
            "basis": "YBJ-0042",
            "officer": {"id": "7301", "auth": "cert"},
            "jti": jti or new_uuid7(time.time_ns() // 1_000_000, os.urandom(10)),
        }
        iat = int(time.time())  # lives as long as is allowed
        return self._consumer.build(
            self._consumer.request({**body, "iat": iat, "exp": iat + 120})
        )

    def ask(self, message: Question, *, door: bool = False) -> Answer:
        """Ask, sealed anew."""
        return self.run(self.asked(message, door=door))

    def meanwhile(
        self, messages: Sequence[tuple[Question, bool]], act: Callable[[], None]
    ) -> list[Answer]:
        """Ask all at a time, and do something before the answers are looked at.

        Args:
            messages: each with its way, as in :meth:`asked`.
            act: runs in a thread of its own.
        """

        async def both() -> list[Answer]:
            asks = [asyncio.create_task(self.asked(m, door=d)) for m, d in messages]
            await asyncio.to_thread(act)
            return await asyncio.gather(*asks)

        return self.run(both())

    async def asked(self, message: Question, *, door: bool = False) -> Answer:
        """The same, to run beside others.

        Args:
            message: signed; it is sealed anew.
            door: ask as the exchange would, at the agent's listener.
        """
        sealed = self._consumer.seal(message.request, message.jws)
        try:
            async with asyncio.timeout(LOST_S):
                text = await (self._door if door else self._relay)(sealed.jwe)
        except Refusal as e:
            return e.problem
        except (FepError, TimeoutError, OSError, aiohttp.ClientError):
            return None
        self.heard_at = time.monotonic()
        heard = self._consumer.open(text, message)
        return Heard(heard.jws, heard.reply)

    async def _relay(self, text: str) -> str:
        async with connected(self._home, self._target) as line:
            return await line.relay(text)

    async def _door(self, text: str) -> str:
        """By the exchange's own certificate."""
        keys = self._site.sandbox.folder / "keys"
        tls = ssl.create_default_context(cafile=str(keys / "ca.pem"))
        tls.check_hostname = False  # its one name is the node's
        tls.load_cert_chain(keys / "relay.pem", keys / "relay.key")
        url = f"https://127.0.0.1:{self._site.port}"
        connector = aiohttp.TCPConnector(ssl=tls)
        async with aiohttp.ClientSession(connector=connector) as session:
            headers = {"Content-Type": "application/jose"}
            async with session.post(
                f"{url}/v1/lookups", data=text, headers=headers
            ) as response:
                data = await response.read()
        if response.status != 200:
            raise Refusal(problem.parse(data, status=response.status))
        assert len(data) <= REPLY_CAP
        return data.decode("ascii")


# --- making one -----------------------------------------------------------------------


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A department that answers lookups, its daemon running.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.

    Raises:
        RuntimeError: PostgreSQL is not installed or did not start.
    """
    with ExitStack() as stack:
        server = stack.enter_context(private_server(settings={"log_statement": "all"}))
        sandbox = stack.enter_context(running_sandbox(folder / "centre"))
        agent = AgentProcess(folder / "agent", sandbox, rows=1)
        site = Site(agent, sandbox, server, free_port())
        _furnish(site)
        agent.fep("enrol")
        stack.callback(_stopped, site)
        site.start()
        site.client.post("/v1/policy/activate", {})
        yield site


def _stopped(site: Site) -> None:
    if site.agent.process is not None:
        site.kill()


def _furnish(site: Site) -> None:
    agent, server = site.agent, site.server
    server.sql(
        "CREATE TABLE person (no text PRIMARY KEY, name text);"
        " INSERT INTO person SELECT to_char(i, 'FMK00000000'), 'name K' ||"
        f" to_char(i, 'FM00000000') FROM generate_series(1, {ROWS}) i"
    )
    source = _SOURCE.format(host=server.socket_folder, port=server.port)
    more = source + _LOOKUP.format(port=site.port)
    text = agent.config.read_text("utf-8").replace("[push]", more + "[push]")
    agent.config.write_text(text, "utf-8")
    (agent.folder / "policy.toml").write_text(_POLICY, "utf-8")
    for table in ("permit", "person"):
        document = agent.folder / "catalog" / f"{table}.toml"
        document.unlink()
    agent.document(RESOURCE, "人员", "person", push=False)
    document = agent.folder / "catalog" / "person.toml"
    text = document.read_text("utf-8")
    changes = (
        ('source = "rsj"', 'source = "people"'),
        ("push = false", "push = false\nlookup = true"),
        ('name = "id"', 'name = "no"'),
        ('type = "I"', 'type = "C"\nlength = 9'),
    )
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    document.write_text(text, "utf-8")
