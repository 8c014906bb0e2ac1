# SPDX-License-Identifier: Apache-2.0
"""A connector without a database, and a quality stage of three rules, for worker tests.

:func:`main` is a worker process with these two; what goes wrong is told by the job's
source settings.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.child.inside import settle
from agent.errors import SecrecyMarker
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job
from agent.pipeline.worker.run import Tools
from agent.pipeline.worker.serving import serve
from agent.pipeline.worker.sieve import Sifted
from agent.wire.arrow import schema_of
from connectors.contract import (
    Caps,
    Finding,
    FoundColumn,
    FoundTable,
    Frontier,
    FrontierLost,
    Increments,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.tags import TaggedKeys, TaggedPage

CANARY = "李雷110101199003070011"
ITEMS = (
    BoundItem(Item("id", ItemType.C, 18, None, True, "1"), "ID", (), True),
    BoundItem(Item("name", ItemType.C, 50, None, False, "1"), "NAME"),
    BoundItem(Item("age", ItemType.I, None, None, False, "2"), "AGE"),
)
AS_OF = "2026-11-21T08:00:00Z"


def job(folder: str, *, kind: Any = "pull", **changes: Any) -> Job:
    """A job for the fake; ``source=`` tells it how many rows and what goes wrong."""
    values: dict[str, Any] = {
        "resource": "11/000001/0001",
        "run": "019abcde-0000-7000-8000-000000000001",
        "connector": "fake",
        "source": {"rows": 10},
        "table": ("person",),
        "items": ITEMS,
        "timezone": "Asia/Shanghai",
        "severity": {},
        "batch_raw_bytes": 8_000_000,
        "max_rows_per_batch": 200_000,
        "quarantine": f"{folder}/quarantine.jsonl",
        "statement_timeout_s": 60,
        **changes,
    }
    return Job(kind=kind, **values)


@dataclass
class FakeConnector:
    """Rows 0 to ``source["rows"]`` in pages of ``source["page"]``.

    ``source["fail_at"]`` is the page before which ``source["fail"]`` happens.
    """

    name: str = "fake"
    api: int = 1
    pages_read: int = 0
    closed: int = 0
    tells_changes: bool = False
    asked: list[str] = field(default_factory=list)

    def spec(self) -> Mapping[str, Any]:
        return {}

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        happen(config.get("fail", ""))
        return [Finding("ok", "ok", s.table[-1], s.columns[0].name) for s in streams]

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        happen(config.get("fail", ""))
        column = FoundColumn("ID", "text", "C", 18, None, False, True, "编号")
        return [FoundTable(("main", "person"), None, 3, (column,))]

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        told = Increments("fake") if self.tells_changes else None
        if "changed" in config:
            told = Increments("fake", ("a=b",))
        return Caps(True, True, {c.name: "native" for c in stream.columns}, told)

    @contextmanager
    def open(self, config: Mapping[str, Any], limits: Limits) -> Iterator[FakeSession]:
        self.asked.append("open")
        if config.get("fail_at") == "open":
            happen(config["fail"])
        try:
            yield FakeSession(self, config)
        finally:
            self.closed += 1


@dataclass
class FakeSession:
    connector: FakeConnector
    config: Mapping[str, Any]

    def frontier(self, stream: StreamSpec) -> Frontier:
        self.connector.asked.append("frontier")
        return Frontier("f1", AS_OF, "at f1")

    def plan(self, stream: StreamSpec) -> Sequence[Slice]:
        self.connector.asked.append("plan")
        return [Slice(stream, self.config["rows"])]

    def read(self, part: Slice, resume: str | None = None) -> Iterator[Page]:
        self.connector.asked.append("read")
        begin = 0 if resume is None else int(resume.removeprefix("after ")) + 1
        begin -= self.config.get("divided", 0)  # rows of one key that a cut divided
        chosen = [column.name for column in part.stream.columns]
        yield from self._pages(begin, self.config["rows"], chosen)
        if self.config.get("twice"):
            yield Page(page_of(0, 1, self.config), "after 0")
        if self.config.get("fail_at") == "end":
            happen(self.config["fail"])

    def tagging(self, stream: StreamSpec) -> str | None:
        name: str | None = self.config.get("tags")
        return name

    def tags(self, part: Slice) -> Iterator[TaggedKeys]:
        self.connector.asked.append("tags")
        for page in self._tagged(part):
            if self.config.get("fail_in") == "tags":
                happen(self.config["fail"])
            keys = page.rows.select(["ID"])
            if self.config.get("cut_keys"):
                keys = keys.set_column(0, "ID", keys.column(0).cast(pa.binary()))
            yield TaggedKeys(keys, page.tags)

    def tagged(
        self, part: Slice, keys: Sequence[pa.RecordBatch] | None = None
    ) -> Iterator[TaggedPage]:
        chosen = None
        if keys is not None:
            chosen = [key for some in keys for key in some.column(0).to_pylist()]
        self.connector.asked.append(f"tagged {None if chosen is None else len(chosen)}")
        for page in self._tagged(part):
            if self.config.get("fail_in") == "tagged":
                happen(self.config["fail"])
            if chosen is None:
                yield page
                continue
            mask = pc.is_in(page.rows.column(0), pa.array(chosen, pa.string()))
            if self.config.get("loses"):
                mask = pa.array([False] * len(mask))
            if mask.true_count:
                rows, tags = page.rows.filter(mask), page.tags.filter(mask)
                yield TaggedPage(rows, page.token, tags)

    def _tagged(self, part: Slice) -> Iterator[TaggedPage]:
        names = [column.name for column in part.stream.columns]
        for page in self._pages(0, self.config["rows"], names):
            rows = (tuple(row.values()) for row in page.rows.to_pylist())
            tags = [int.from_bytes(sha256(repr(r).encode()).digest()[:7]) for r in rows]
            yield TaggedPage(page.rows, page.token, pa.array(tags, pa.int64()))

    def changes(
        self, stream: StreamSpec, since: str, until: str, resume: str | None = None
    ) -> Iterator[Page]:
        self.connector.asked.append(f"changes {since} {until}")
        if since == "lost":
            raise FrontierLost("restored", "the log is behind")
        chosen = [column.name for column in stream.columns]
        yield from self._pages(0, self.config.get("changed", 0), chosen)

    def _pages(self, begin: int, count: int, chosen: list[str]) -> Iterator[Page]:
        page = self.config.get("page", 4)
        for number, start in enumerate(range(begin, count, page)):
            if self.config.get("fail_at") == number:
                happen(self.config["fail"])
            self.connector.pages_read += 1
            end = min(start + page, count)
            rows = page_of(start, end, self.config)
            yield Page(rows.select(chosen), f"after {end - 1}")


def page_of(start: int, end: int, config: Mapping[str, Any]) -> pa.RecordBatch:
    names: Mapping[str, str] = config.get("names", {})
    width = config.get("width", 0)
    ids = [f"{i:018d}" for i in range(start, end)]
    return pa.record_batch(
        {
            "ID": ids,
            "NAME": [
                names.get(str(i), f"张{i}".ljust(width, "某"))
                for i in range(start, end)
            ],
            "AGE": pa.array([i % 90 for i in range(start, end)], pa.int64()),
        }
    )


class PanicException(BaseException):
    """As drivers written in Rust raise it: no Exception."""


def cry() -> None:
    """What a driver may write to stderr before it ends."""
    sys.stderr.write(f"row 7: {CANARY}\n")
    sys.stderr.flush()


def happen(fail: str) -> None:
    """Go wrong in the way of this name."""
    if fail == "crash":
        cry()
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fail == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fail == "exit":
        cry()
        os._exit(7)
    elif fail == "abort":
        cry()
        os.abort()
    elif fail == "panic":
        raise PanicException(f"row 7: {CANARY}")
    elif fail == "stuck":
        cry()
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        ctypes.PyDLL(None).sleep(1000)  # in C, and nobody else gets the interpreter
    elif fail == "bug":
        raise KeyError(CANARY)
    elif fail == "hang":
        signal.pause()
    elif fail:
        raise SourceError(fail, "column AGE of person")  # type: ignore[arg-type]


@dataclass
class FakeSieve:
    """``keep``: a k row; ``drop``: withheld; ``warn``: counted; ``机密★``: stops."""

    job: Job
    closed: bool = False

    def sift(self, rows: pa.RecordBatch) -> Sifted:
        names = rows.column(1)
        marked = pc.equal(names, "机密★").true_count
        keep, drop = pc.equal(names, "keep"), pc.equal(names, "drop")
        left = pc.invert(drop)
        out = pa.RecordBatch.from_arrays(
            [
                pc.if_else(keep, "k", "u"),
                rows.column(0),
                pc.if_else(keep, None, names),
                pc.if_else(keep, None, rows.column(2)),
            ],
            schema=schema_of(tuple(b.item for b in self.job.items)),
        ).filter(left)
        reasons = Counter(
            {"bad-name": keep.true_count, "duplicate_key": drop.true_count}
        )
        warned = pc.equal(names, "warn").true_count
        halt = SecrecyMarker("1 row, item name") if marked else None
        mask = left.to_numpy(zero_copy_only=False)
        return Sifted(out, +reasons, {"odd": warned} if warned else {}, halt, mask)

    def close(self) -> None:
        self.closed = True


def tools(connector: FakeConnector | None = None, **changes: Any) -> Tools:
    chosen = connector or FakeConnector()
    return Tools(find=lambda _name: chosen, sieve=FakeSieve, **changes)


def main() -> int:
    settle()
    with socket.socket(fileno=int(sys.argv[-1])) as sock:
        return serve(sock, tools())
