# SPDX-License-Identifier: Apache-2.0
"""What the push flow is made of; everything is passed in, tests patch nothing.

Each protocol has two implementations: the real one and the double of the tests.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol, TypeVar

from agent.audit.events import BatchLeft, Recorded, Tell
from agent.crypto.jose import Signer
from agent.errors import SpoolWriteFailed, StateDamaged
from agent.model.batch import BatchId
from agent.model.item import Item
from agent.model.job import CentreKeys, Job, Line, Message
from agent.model.place import Allowed
from agent.model.rejected import RejectedBatch
from agent.model.run import RunKind
from agent.pipeline.flow.judge import ExchangeKeys
from agent.pipeline.seal import Sender
from agent.pipeline.spool import Spool
from agent.retry import Backoff
from agent.state import State

T = TypeVar("T")


class ExchangeClient(Protocol):
    """The exchange; one call is one try. All raise PeerFault."""

    @property
    def clock_offset_s(self) -> float | None:
        """How far the exchange's clock is ahead, or None before its first answer."""
        ...

    async def position(self, resource: str, nonce: str) -> str:
        """The signed position of our stream of a resource."""
        ...

    async def receipt(self, batch: BatchId) -> str | None:
        """The newest receipt of a batch, or None if the exchange has none."""
        ...

    async def put_catalog(self, statement: str) -> None:
        """Make a catalog statement known; one that is known already is no fault."""
        ...

    async def reconcile(self, request: str) -> str:
        """The signed reply to a signed question about what the centre holds."""
        ...

    async def upload(
        self, path: Path, size: int, *, batch: BatchId, moved: Callable[[], None]
    ) -> str | None:
        """Bring a file to its end; the receipt, or None if the server has none.

        ``moved`` is called whenever the exchange has more of it.
        After :class:`ExchangeUnreachable` the next call goes on where it was cut.
        """
        ...


class Worker(Protocol):
    """One run in a process of its own; leaving its context kills what still runs."""

    async def start(self, job: Job) -> None:
        """Start and give it its job. Raises WorkerDied."""
        ...

    def messages(self) -> AsyncIterator[Message]:
        """What it says; the last is Ended or Failed. Raises WorkerDied."""
        ...

    async def send(self, message: Line | CentreKeys) -> None:
        """Answer a Packed or an AskKeys."""
        ...


class Leaving(Protocol):
    """A resource that the catalog's gate lets leave."""

    @property
    def resource(self) -> str:
        """Its code."""
        ...

    @property
    def version(self) -> int:
        """Version of its catalog statement."""
        ...

    @property
    def items(self) -> Sequence[Item]:
        """What travels, in column order."""
        ...


@dataclass(frozen=True)
class Limits:
    """Times and numbers of the flow.

    Args:
        workers: runs that read at the same time.
        uploads: streams that send at the same time.
        poll_s: wait between two questions for a ``loaded`` receipt.
        room_s: wait between two looks at a full spool.
        slow_s: longest pause before a batch while the spool is nearly full.
        sweep_s: wait between two purges.
        clock_tolerance_s: most difference between the exchange's clock and ours.
        fresh_s: so long after a signed word of the exchange batches of a stream leave
            without asking for its position.
        look_s: wait between two looks at the position of a stream at rest.
        keep_loaded_s: how long a payload stays after ``loaded``.
        keep_stored_s: how long it stays after ``stored`` without ``loaded``.
    """

    workers: int = 1
    uploads: int = 4
    poll_s: float = 2.0
    room_s: float = 1.0
    slow_s: float = 2.0
    sweep_s: float = 60.0
    clock_tolerance_s: float = 300.0
    fresh_s: float = 2.0
    look_s: float = 3600.0
    keep_loaded_s: float = 24 * 3600.0
    keep_stored_s: float = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Chance:
    """Time, randomness and ids.

    Args:
        now: aware UTC.
        sleep: ``asyncio.sleep``.
        uniform: ``random.uniform``.
        new_id: uuid7 text.
        new_nonce: 22-64 base64url characters that nobody can guess.
        new_incarnation: 32 lower hex digits.
        clock: monotonic seconds.
    """

    now: Callable[[], datetime]
    sleep: Callable[[float], Awaitable[None]]
    uniform: Callable[[float, float], float]
    new_id: Callable[[], str]
    new_nonce: Callable[[], str]
    new_incarnation: Callable[[], str]
    clock: Callable[[], float] = time.monotonic


async def keep_nothing(_: RejectedBatch) -> int:
    """Where nobody looks at rejected rows."""
    return 0


@dataclass(frozen=True)
class Parts:
    """Everything that a push flow needs.

    Args:
        exchange: the open client.
        worker: makes a worker for one run.
        make_job: the job of a run (resource, run id, what to read); reads secrets now.
            May raise ConfigInvalid.
        state: the open state.
        spool: the open spool.
        signer: our key of purpose ``sign``.
        keys: the exchange's keys as the directory has them now.
        refresh_directory: fetch and verify the directory again.
        owner: the node that owns a resource as the directory has it now; None if it
            does not say, or is not there.
        sender: who sends to whom.
        tell: where events go.
        record_left: puts into the audit log, once, that a batch is about to leave;
            durable when it returns. Raises AuditWriteFailed: then it may not leave.
            Raises ChainMoved: another manifest of its identity has left.
        record: puts any other event into the audit log. Raises AuditWriteFailed.
        chance: time, randomness and ids.
        limits: times and numbers.
        backoff: waits after failures.
        allowed: what may be read; None: no bound has been set.
        states: folder of what diffs compare with; None where nothing is compared.
        reports: folder for the keys that comparisons find; None where nobody may ask.
        give_back: puts rows of a rejected batch into quarantine; how many there were.
        spent: whether the exchange takes nothing any more that a key of ours signed.
    """

    exchange: ExchangeClient
    worker: Callable[[], AbstractAsyncContextManager[Worker]]
    make_job: Callable[[str, str, RunKind], Job]
    state: State
    spool: Spool
    signer: Signer
    keys: Callable[[], ExchangeKeys]
    refresh_directory: Callable[[], Awaitable[None]]
    sender: Sender
    tell: Tell
    record_left: Callable[[BatchLeft], Awaitable[None]]
    record: Callable[[Recorded], Awaitable[object]]
    chance: Chance
    limits: Limits = field(default_factory=Limits)
    backoff: Backoff = field(default_factory=Backoff)
    allowed: Allowed | None = None
    states: Path | None = None
    reports: Path | None = None
    give_back: Callable[[RejectedBatch], Awaitable[int]] = keep_nothing
    owner: Callable[[str], str | None] = lambda _: None
    spent: Callable[[str], bool] = lambda _kid: False


async def undivided(work: Callable[[], T]) -> T:
    """Do blocking work in a thread, and never leave it half-way.

    A cancellation is delivered after the work has ended. Only what must end the daemon
    goes before it: whoever catches the rest would go on though he was cancelled.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if isinstance(error := task.exception(), SpoolWriteFailed | StateDamaged):
            raise error from None
        raise
