# SPDX-License-Identifier: Apache-2.0
"""A worker that follows a script: it packs what it is told and writes real files."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from agent.errors import WorkerDied
from agent.model.batch import Quality, Rows
from agent.model.column import Column
from agent.model.job import (
    AskKeys,
    CentreKeys,
    Columns,
    Compared,
    Ended,
    Failed,
    Gone,
    Job,
    Line,
    Message,
    Packed,
    Progress,
    Unfit,
    Way,
    Written,
)
from agent.model.run import COMPARING

AS_OF = "2026-11-21T08:00:00Z"


@dataclass(frozen=True)
class Chunk:
    """Rows of one part."""

    upsert: int
    quarantined: int = 0
    keep: int = 0
    size: int = 64


@dataclass
class Script:
    """What every run of a resource does, until a test changes it.

    Args:
        chunks: the parts.
        die_at: dies silently instead of packing this part; 0: before its first word.
        failure: ends with this instead of the first part.
        odd: the next runs say just this, out of turn.
        changes: the parts of an increment; none is an empty one.
        way: what runs say of how changes are found.
        unfit: what runs say of the table's number.
        jobs: what was asked of the runs.
        columns: what runs say of the table, if anything; it fits unless they fail.
        says: what runs say before their first part.
        hold: waited for before part ``hold_at``.
        found: what a comparison tells.
        gone: how many deletes it brings, told after that.
        repairs: the parts that it sends.
        asks: buckets of which it asks the keys first; ``keys`` has the answer.
    """

    chunks: Sequence[Chunk] = (Chunk(3), Chunk(2))
    die_at: int | None = None
    failure: Failed | None = None
    failures: list[Failed] = field(default_factory=list)
    odd: list[Message] = field(default_factory=list)
    columns: tuple[Column, ...] | None = None
    changes: Sequence[Chunk] = ()
    says: Sequence[Message] = ()
    way: Way | None = None
    unfit: Unfit | None = None
    jobs: list[Job] = field(default_factory=list)
    hold: asyncio.Event | None = None
    hold_at: int = 1
    found: Compared | None = None
    gone: Gone | None = None
    repairs: Sequence[Chunk] = ()
    asks: tuple[int, ...] = ()
    keys: list[CentreKeys] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    killed: int = 0
    on_written: Callable[[int], None] | None = None


class WorkerDouble:
    """One run; find the script by the job's resource."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self._scripts = scripts
        self._line: asyncio.Queue[Line] = asyncio.Queue()
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if not self._ended:
            self._script.killed += 1

    async def start(self, job: Job) -> None:
        self._script = self._scripts[job.resource]
        self._script.runs.append(job.run)
        self._script.jobs.append(job)

    async def send(self, message: Line | CentreKeys) -> None:
        if isinstance(message, CentreKeys):
            self._script.keys.append(message)
        else:
            await self._line.put(message)

    async def messages(self) -> AsyncIterator[Message]:
        script = self._script
        if script.die_at == 0:
            raise WorkerDied("exit code 1")
        failure = script.failures.pop(0) if script.failures else script.failure
        if script.columns is not None:
            yield Columns(script.columns, fit=failure is None)
        if failure is not None:
            self._ended = True
            yield failure
            return
        if script.odd:
            yield script.odd.pop()
            return
        job = script.jobs[-1]
        chunks = _chunks(job, script)
        for said in _first(job, script, chunks):
            yield said
        done = 0 if job.resume is None else job.resume.parts
        for number, chunk in enumerate(chunks[done:], done + 1):
            if script.hold is not None and number == script.hold_at:
                await script.hold.wait()
            if script.die_at == number:
                raise WorkerDied("ended by SIGKILL")
            payload = _payload(job_run=script.runs[-1], part=number, size=chunk.size)
            yield replace(_packed(chunks, number, payload), **_of(job, number, chunks))
            line = await self._line.get()
            data = line.text.encode("ascii") + b"\n" + payload
            await asyncio.to_thread(_write_new, Path(line.path), data)
            if script.on_written is not None:
                script.on_written(number)
            yield Written(number)
        self._ended = True
        yield _ended(chunks)


def _chunks(job: Job, script: Script) -> Sequence[Chunk]:
    """The parts of a run by its mode."""
    if job.mode == "incremental":
        return script.changes or (Chunk(0, size=0),)
    if job.mode == "recall":
        return (Chunk(0),)
    return script.repairs if job.mode in COMPARING else script.chunks


def _first(job: Job, script: Script, chunks: Sequence[Chunk]) -> Iterator[Message]:
    """What a run says before its first part."""
    yield from filter(None, (script.unfit, script.way))
    yield from _compares(job, script)
    yield Progress(0, sum(c.upsert for c in chunks))
    yield from script.says


def _compares(job: Job, script: Script) -> list[Message]:
    """What a comparison says before its first part."""
    if job.mode not in COMPARING:
        return []
    asks = [AskKeys(script.asks)] if script.asks else []
    said = (*asks, script.found, script.gone)
    return [message for message in said if message is not None]


def _write_new(path: Path, data: bytes) -> None:
    """As a worker does: a file that is there already is a fault."""
    with path.open("xb") as file:
        file.write(data)


def _payload(*, job_run: str, part: int, size: int) -> bytes:
    if not size:
        return b""
    seed = hashlib.sha256(f"{job_run}/{part}".encode()).digest()
    return (seed * (size // len(seed) + 1))[:size]


def _of(job: Job, number: int, chunks: Sequence[Chunk]) -> dict[str, Any]:
    """What a part says of its run."""
    frontier = f"frontier {job.run}" if job.resume is None else job.resume.frontier
    final = number == len(chunks)
    withheld = chunks[number - 1].quarantined
    said: dict[str, Any] = {
        "frontier": frontier if final else None,
        "reasons": {"required": withheld} if withheld else {},
    }
    if job.mode == "full":
        return {**said, "base": None if final else frontier}
    if job.mode == "recall":
        return {**said, "frontier": None}
    if job.mode in COMPARING:
        return {**said, "frontier": None, "mode": "repair", "distinct": None}
    mode = "incremental" if chunks[0].upsert else "unchanged"
    return {**said, "mode": mode, "distinct": None}


def _packed(chunks: Sequence[Chunk], number: int, payload: bytes) -> Packed:
    chunk, final = chunks[number - 1], number == len(chunks)
    return Packed(
        part=number,
        final=final,
        size=len(payload),
        raw_size=len(payload) * 3,
        digest="sha256:" + hashlib.sha256(payload).hexdigest(),
        rows=Rows(chunk.upsert, 0, chunk.keep),
        quality=Quality(chunk.upsert + chunk.quarantined, chunk.quarantined, 0),
        distinct=sum(c.upsert + c.keep for c in chunks) if final else None,
        as_of=AS_OF,
        token=None if final else f"after {number}",
        frontier="frontier" if final else None,
    )


def _ended(chunks: Sequence[Chunk]) -> Ended:
    quarantined = sum(c.quarantined for c in chunks)
    return Ended(
        rows=Rows(sum(c.upsert for c in chunks), 0, sum(c.keep for c in chunks)),
        quality=Quality(sum(c.upsert + c.quarantined for c in chunks), quarantined, 0),
        reasons={"required": quarantined} if quarantined else {},
        warnings={},
        digest=None,
        as_of=AS_OF,
        frontier="frontier",
    )
