# SPDX-License-Identifier: Apache-2.0
"""One thread writes the ledger; everything that waits shares one transaction.

Rules

1. While a transaction is being synced, others queue up; the next one takes them all.
   The thread is woken when the event loop has run everything that was ready, so that
   these share one too. Beyond that nobody waits for company.
2. A waiter hears of its result only after the commit returned. Then, in the order of
   the records, each event is told; then the futures are set.
3. An operation that is refused for its own reason (a :class:`FepError` that is not of
   the ledger) must not have written anything; it spoils nobody else's.
4. A full disk undoes the whole transaction. It is done once more, operation by
   operation on a new fork of the tree, after the disk's reserve was given up: nobody
   has seen anything of the first time.
5. Anything else that fails, or a disk that is still full, fails all its waiters and
   ends writing until a restart: after a failed sync the kernel may have dropped the
   pages, so trying again on the same handle proves nothing.
6. The tree that readers see is replaced after the commit, never before.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar

from agent.audit import leaf
from agent.audit.events import AuditStopped, Event, Recorded, Tell
from agent.audit.tiles import Tree
from agent.crypto.tree import leaf_hash
from agent.errors import AuditDamaged, AuditWriteFailed, FepError
from agent.state.ledger import Ledger
from agent.state.ledger_records import KeptBox
from agent.state.ledger_writing import Writing
from agent.wire.grammar import format_time

T = TypeVar("T")

GROUP = 256
"""Most operations of one transaction."""
FOLD_BYTES = 4 * 1024 * 1024
"""So much is written before the journal is folded into the file."""
_OVERHEAD = 16 * 1024


class Group:
    """What one transaction gathers; handed to each operation.

    Args:
        tx: the transaction.
        tree: a fork of the tree, to grow.
        at: time of the records.
    """

    def __init__(self, tx: Writing, tree: Tree, at: str) -> None:
        self.tx = tx
        self.tree = tree
        self.at = at
        self.told: list[Recorded] = []
        self._leaves: list[tuple[int, str]] = []
        self._boxes: dict[int, KeptBox] = {}

    @property
    def weight(self) -> int:
        """About how many bytes the transaction writes."""
        lines = sum(len(line) for _, line in self._leaves)
        return _OVERHEAD + lines + sum(len(b.box) for b in self._boxes.values())

    def record(self, event: Recorded, tail: str) -> int:
        """Add a record; its number.

        Args:
            event: what is told once it is durable.
            tail: ``leaf.tail`` of it.
        """
        n = self.tree.size
        line = leaf.line(n, self.at, tail)
        self.tree.append(leaf_hash(line.encode()))
        self._leaves.append((n, line))
        self.told.append(event)
        return n

    def add_box(self, box: KeptBox) -> None:
        """Keep evidence of a record."""
        self._boxes[box.leaf] = box

    def box(self, n: int) -> KeptBox | None:
        """The evidence of a record, of this transaction or before."""
        return self._boxes.get(n) or self.tx.box(n)

    def flush(self) -> None:
        """Write what was gathered."""
        self.tx.add_leaves(self._leaves)
        self.tx.add_tiles(self.tree.fresh())
        self.tx.add_evidence(list(self._boxes.values()))


@dataclass
class _Waiter:
    op: Callable[[Group], Any]
    about: tuple[str, str] | None
    future: asyncio.Future[Any]
    result: Any = None
    fault: FepError | None = None

    def run(self, group: Group) -> None:
        self.fault = None
        try:
            self.result = self.op(group)
        except (AuditWriteFailed, AuditDamaged):
            raise
        except FepError as e:
            self.fault = e

    def wake(self) -> None:
        if self.future.done():  # nobody waits any more; it is done all the same
            return
        if self.fault is not None:
            self.future.set_exception(self.fault)
        else:
            self.future.set_result(self.result)


class GroupCommit:
    """The writing thread.

    Args:
        ledger: nobody else writes it while this lives.
        tree: as the ledger has it.
        tell: called in the event loop of the waiters.
        now: aware UTC.
    """

    def __init__(
        self,
        ledger: Ledger,
        tree: Tree,
        *,
        tell: Tell,
        now: Callable[[], datetime],
    ) -> None:
        self.tree = tree
        self.stopped: FepError | None = None
        self._ledger = ledger
        self._tell = tell
        self._now = now
        self._queue: deque[_Waiter] = deque()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._ringing = False
        self._closing = False
        self._weight = 0
        self._emptying = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="fep-audit", daemon=True)

    def start(self) -> None:
        """Begin to write; results come to the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def submit(
        self, op: Callable[[Group], T], *, about: tuple[str, str] | None = None
    ) -> asyncio.Future[T]:
        """Have an operation done in the next transaction; its result, once durable.

        Args:
            op: the operation. It may be done twice: once for nothing.
            about: ``(iss, jti)`` of the request that it will ask the ledger for.

        Raises:
            AuditWriteFailed, AuditDamaged: writing has ended.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        if self.stopped is not None or self._closing:
            raise self._refusal()
        self._queue.append(_Waiter(op, about, future))
        if not self._ringing:
            self._ringing = True
            loop.call_soon(self._ring)
        return future

    async def emptied(self) -> None:
        """Fold the journal and empty it: what was deleted is in no file any more.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be done; writing has ended.
        """

        def op(_: Group) -> None:
            self._emptying = True

        await self.submit(op)
        await self.submit(lambda _: None)  # the next one waits for the fold

    def _ring(self) -> None:
        self._ringing = False
        self._bell.put(None)

    def stop(self) -> None:
        """Write what waits, then end; blocks until it has."""
        self._closing = True
        self._bell.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _refusal(self) -> FepError:
        if self.stopped is None:
            return AuditWriteFailed(f"{self._ledger.path}: it is being closed")
        return type(self.stopped)(f"{self.stopped.detail}; no record since")

    def _run(self) -> None:
        while waiters := self._take():
            self._commit(waiters)

    def _take(self) -> list[_Waiter]:
        """The next waiters; none at the end. Adding to a deque and taking is atomic."""
        while not self._queue:
            if self._closing:
                return []
            self._bell.get()
        count = min(GROUP, len(self._queue))
        return [self._queue.popleft() for _ in range(count)]

    def _commit(self, waiters: list[_Waiter]) -> None:
        told: list[Event] = []
        if self.stopped is not None:
            self._fail(waiters, self._refusal())
        else:
            try:
                at = format_time(self._now())  # of both tries: the tree is the same
                write = partial(self._write, waiters, at)
                told.extend(self._ledger.once_more(write))
            except Exception as e:  # noqa: BLE001 - waiters must hear of anything
                told.append(self._fail(waiters, e))
        self._wake(waiters, told)
        self._fold()

    def _write(self, waiters: list[_Waiter], at: str) -> list[Recorded]:
        with self._ledger.writing() as tx:
            group = Group(tx, self.tree.fork(), at)
            tx.look_up([w.about for w in waiters if w.about is not None])
            for waiter in waiters:
                waiter.run(group)
            group.flush()
        self.tree = group.tree
        self._weight += group.weight
        return group.told

    def _fold(self) -> None:
        """Fold the journal now and then, when nobody waits for this transaction."""
        emptied, self._emptying = self._emptying, False
        due = emptied or self._weight >= FOLD_BYTES
        if not due or self.stopped is not None:
            return
        self._weight = 0
        try:
            self._ledger.fold(emptied=emptied)
        except FepError as e:
            self._wake([], [self._fail([], e)])

    def _fail(self, waiters: list[_Waiter], fault: Exception) -> AuditStopped:
        if not isinstance(fault, AuditWriteFailed | AuditDamaged):
            fault = AuditWriteFailed(f"{self._ledger.path}: {type(fault).__name__}")
        for waiter in waiters:
            waiter.fault = fault
        self.stopped = self.stopped or fault
        return AuditStopped(fault.code, fault.detail)

    def _wake(self, waiters: list[_Waiter], told: list[Event]) -> None:
        def resolve() -> None:
            for event in told:
                self._tell(event)
            for waiter in waiters:
                waiter.wake()

        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and they too
                self._loop.call_soon_threadsafe(resolve)
