# SPDX-License-Identifier: Apache-2.0
"""An agent that answers lookups and a department that asks, as processes and lines.

::

    agent = AnsweringAgent(place / "agent", sandbox, source=SQLITE, people=people)
    with agent.running(), Asker(place / "asker", sandbox) as asker:
        agent.fep("policy", "activate")
        heard = asker.ask(asker.question(KEY))
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import ssl
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any, Self, TypeVar

from agent.errors import FepError
from agent.wire.problem import Problem
from sandbox.consumer.client import Consumer, Heard, Question
from sandbox.consumer.home import Home, Target
from sandbox.consumer.line import Line, Refusal, connected, enrol
from tests.support.agent_process import NODE, AgentProcess
from tests.support.postgres import Server
from tests.support.sandbox_process import SandboxProcess

T = TypeVar("T")

CITIZENS = "101001/000009"
ASKER = "11990100MB0000027F/ybj-fep1"
COLUMNS = ("citizen_id", "name", "address", "birth_date", "phone")

_DOCUMENT = """\
code = "101001/000009"
name = "居民信息"
version = 1
push = false
lookup = true
share_type = "conditional"
share_condition = "试验"
share_scope = "云溪市"
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
source = "{source}"
table = {table}
"""
_ITEM = """\
[[items]]
name = "{name}"
title = "{title}"
type = "{type}"
{more}
"""
_ITEMS = (
    ("citizen_id", "公民身份号码", "C", "length = 18\nkey = true"),
    ("name", "姓名", "C", "length = 40"),
    ("address", "住址", "C", "length = 200"),
    ("birth_date", "出生日期", "D", ""),
    ("phone", "电话", "C", "length = 20"),
)

POLICY = """\
[[grants]]
id = "citizens"
consumers = ["11990100MB0000027F"]
resource = "101001/000009"
ops = ["get", "verify", "exists"]
keys = ["citizen_id"]
purposes = [{ purpose = "administrative_basis", basis = 'YBJ-[0-9A-Z-]{1,40}' }]
max_items = 1000
[grants.fields]
name = "show"
address = "mask:address"
birth_date = "show"
"""

_MORE = """
[lookup]
listen = "{listen}"
policy = "policy.toml"
peer_in_flight = 64
peer_per_s = 5000
[audit]
checkpoint_s = 1.0
[log]
level = "debug"
"""

Person = Mapping[str, str | None]


class AnsweringAgent(AgentProcess):
    """An agent with one more table, which may be looked up.

    Args:
        folder: short; a Unix socket's path has at most 107 bytes.
        sandbox: the exchange.
        people: rows of the table.
        server: PostgreSQL to hold them, None for SQLite.
        listen: ``lookup.listen``.
        rows: rows of the tables that are pushed.
        batch_rows: most rows of a batch.
    """

    def __init__(
        self,
        folder: Path,
        sandbox: SandboxProcess,
        *,
        people: Sequence[Person],
        server: Server | None = None,
        listen: str = "",
        rows: int = 5,
        batch_rows: int = 1000,
    ) -> None:
        super().__init__(folder, sandbox, rows=rows, batch_rows=batch_rows)
        text = self.config.read_text("utf-8") + _MORE.format(listen=listen)
        if server is not None:
            text += '\n[sources.pg]\nconnector = "postgres"\n'
            for key, value in server.config().items():
                if value is not None:
                    text += f"{key} = {json.dumps(value)}\n"
        self.config.write_text(text, "utf-8")
        source, table = ("rsj", '"citizen"')
        if server is not None:
            source, table = ("pg", '["public", "citizen"]')
        document = _DOCUMENT.format(source=source, table=table)
        for name, title, kind, more in _ITEMS:
            document += _ITEM.format(name=name, title=title, type=kind, more=more)
        (folder / "catalog" / "citizen.toml").write_text(document, "utf-8")
        self.policy(POLICY)
        self.server = server
        self.populate(people)

    def policy(self, text: str) -> None:
        """Write the policy file; it is a draft until it is activated."""
        (self.folder / "policy.toml").write_text(text, "utf-8")

    def populate(self, people: Sequence[Person]) -> None:
        """Make the table with these rows."""
        rows = [[person.get(c) for c in COLUMNS] for person in people]
        create = "CREATE TABLE citizen (citizen_id varchar(18), name varchar(40),"
        create += " address varchar(200), birth_date {date}, phone varchar(20))"
        if self.server is None:
            with closing(sqlite3.connect(self.source)) as db:
                db.execute(create.format(date="text"))
                db.executemany("INSERT INTO citizen VALUES (?,?,?,?,?)", rows)
                db.execute("CREATE INDEX citizen_id ON citizen (citizen_id)")
                db.commit()
            return
        values = ",".join(f"({','.join(map(_literal, row))})" for row in rows)
        self.server.sql(
            f"{create.format(date='date')};"
            f"INSERT INTO citizen VALUES {values};"
            "CREATE INDEX citizen_id ON citizen (citizen_id); ANALYZE citizen;"
        )

    def lookups(self) -> Any:
        """The lookup side's part of the status."""
        done = self.run("status", "--json")
        return json.loads(done.stdout)["lookups"]

    def answering(self, *, timeout_s: float = 20.0) -> None:
        """Wait until the line is up and the witness agrees with the log."""
        until = time.monotonic() + timeout_s
        while True:
            found = self.client().get("/v1/status")["lookups"]
            if found["relay"]["up"] and found["audit"]["witness"] == "agrees":
                return
            assert time.monotonic() < until, f"{found}\n{self.tail()}"
            time.sleep(0.05)

    def client(self) -> Any:
        """The way to the daemon."""
        from agent.local.client import LocalClient

        return LocalClient(self.folder / "run" / "fep.sock")


def _literal(value: str | None) -> str:
    return "NULL" if value is None else "'" + value.replace("'", "''") + "'"


class Asker:
    """A department that asks over one connection; usable from any thread.

    Args:
        folder: for its keys.
        sandbox: the exchange.
        node: who it is.
    """

    def __init__(
        self, folder: Path, sandbox: SandboxProcess, *, node: str = ASKER
    ) -> None:
        self._home = Home(folder)
        self._target = Target(sandbox.url, sandbox.aud, sandbox.ca_sha256, sandbox.kid)
        self._node = node
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stack = AsyncExitStack()
        self.line: Line
        self.consumer: Consumer

    def __enter__(self) -> Self:
        """Enrol and connect."""
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something in the loop of this asker."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self) -> None:
        from sandbox.consumer.client import clock

        await enrol(self._home, self._target, self._node, now=clock())
        self.line = await self._stack.enter_async_context(
            connected(self._home, self._target)
        )
        self.consumer = await self.line.consumer(self._home)

    def tls(self) -> ssl.SSLContext:
        """With its certificate, for a line of one's own."""
        context = self._home.tls()
        context.check_hostname = False
        return context

    def renew(self) -> None:
        """Fetch the directory again."""
        self.consumer = self.run(self.line.consumer(self._home))

    def question(self, *keys: str, **changes: Any) -> Question:
        """A signed and sealed request about these persons."""
        body = {
            "aud": NODE,
            "op": "get",
            "resource": CITIZENS,
            "items": [{"keys": {"citizen_id": key}} for key in keys],
            "fields": ["name", "address", "birth_date"],
            "purpose": "administrative_basis",
            "basis": "YBJ-2026-0042",
            "officer": {"id": "ybj-0042", "auth": "cert"},
            **changes,
        }
        return self.consumer.build(self.consumer.request(body))

    def again(self, question: Question) -> Question:
        """The same signed message, sealed anew."""
        return self.consumer.seal(question.request, question.jws)

    def ask(self, question: Question) -> Heard | Problem | FepError:
        """The checked answer, or what came in its place."""
        (found,) = self.ask_all([question])
        return found

    def ask_all(
        self, questions: Sequence[Question]
    ) -> list[Heard | Problem | FepError]:
        """Ask at the same time."""
        return self.run(self._all(questions))

    async def _all(
        self, questions: Sequence[Question]
    ) -> list[Heard | Problem | FepError]:
        return await asyncio.gather(*(self._one(q) for q in questions))

    async def _one(self, question: Question) -> Heard | Problem | FepError:
        try:
            return await self.line.ask(self.consumer, question)
        except Refusal as e:
            return e.problem
        except FepError as e:
            return e


def reply(found: Heard | Problem | FepError) -> Any:
    """The reply of an answer that is one."""
    assert isinstance(found, Heard), found
    return found.reply
