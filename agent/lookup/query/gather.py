# SPDX-License-Identifier: Apache-2.0
"""Asks of all requesters to few statements, and their rows back to who asked.

Rules

1. Waiting asks of one shape (table, items, key items) share a statement. Of one shape
   one statement is under way, so what comes meanwhile gathers; of a source as many
   shapes as it has lanes.
2. A statement has as many keys as the source manages in :data:`TARGET_S`, by its last
   ones: a thousand with an index, one where each key costs a scan of the table.
3. A failed statement of several asks is repeated for each of them alone, so that one
   ask's trouble is nobody else's; what died with its worker is not repeated.
4. All is bounded: asks and keys that wait (else SourceBusy), time (SourceTimeout), and
   bytes of an answer. An ask that nobody waits for any more is not sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from agent.errors import (
    FepError,
    InternalFault,
    SourceBusy,
    SourceFailed,
    SourceLogin,
    SourceTimeout,
    SourceUnreachable,
    WorkerDied,
)
from agent.lookup.query.ask import Answer, Ask
from agent.lookup.query.process import CLOSED, Answers, Seams, Source
from agent.lookup.query.talk import LANES, LARGE, SLOTS, Opening, Shape, row_of
from agent.model.job import LINE_CAP

TARGET_S = 0.25
"""Aim for the time of a statement, seconds."""

LINE_LETTERS = LINE_CAP // 8
"""Letters of a statement's keys, but for the last one: JSON makes at most six bytes of
a letter, and the line must stay under its cap."""

FIRST_KEYS = 64
"""Most keys of a shape's first statement."""


@dataclass(frozen=True)
class Bounds:
    """What may wait, and how long.

    Args:
        asks: asks of a source that may wait or be under way.
        keys: keys of them together.
        wait_s: longest time from asking to the answer, seconds.
    """

    asks: int = 1024
    keys: int = 100_000
    wait_s: float = 20.0


class Sources:
    """All sources of the settings, by name.

    Args:
        opening: name of a source -> how it is reached; called at each start of its
            worker. Raises OperatorFault if its settings cannot be used.
        seams: what its workers are made with.
        bounds: what may wait.
    """

    def __init__(
        self,
        opening: Callable[[str], Opening],
        *,
        seams: Seams,
        bounds: Bounds | None = None,
    ) -> None:
        self._opening = opening
        self._seams = seams
        self._bounds = bounds or Bounds()
        self._queues: dict[str, Queue] = {}

    async def fetch(self, ask: Ask) -> Answer:
        """Rows by exact keys.

        Raises:
            SourceBusy: too much waits for this source.
            SourceTimeout: no answer in time.
            SourceFault: the source could not answer.
            WorkerDied: the driver crashed or hangs.
            InternalFault: the connector broke its contract.
        """
        return await self._queue(ask.source).fetch(ask)

    async def warm(self, name: str) -> None:
        """Start a source's worker before it is asked for the first time.

        Raises:
            SourceFault: its settings cannot be used.
            WorkerDied: it could not be started.
        """
        await self._queue(name).source.warm()

    async def renew(self, name: str) -> None:
        """Ask a source by its settings of now; what is under way ends by the old."""
        queue = self._queues.pop(name, None)
        if queue is not None:
            await queue.settled()
            await queue.close()

    async def close(self) -> None:
        """End all workers; what waits or is under way fails."""
        for queue in self._queues.values():
            await queue.close()

    def _queue(self, name: str) -> Queue:
        queue = self._queues.get(name)
        if queue is None:
            source = Source(lambda: self._opening(name), self._seams)
            queue = self._queues[name] = Queue(source, self._bounds, self._seams.clock)
        return queue


@dataclass(eq=False)
class _Ticket:
    """An ask on its way through one or more statements.

    Args:
        keys: what it asks.
        done: who waits for it.
        rows: what has come.
        sent: keys that were sent, from the first.
        left: keys whose rows have not come.
        size: bytes that have come.
        alone: it shares its statements with no other.
        as_of: the earliest clock of its statements.
    """

    keys: Sequence[tuple[str, ...]]
    done: asyncio.Future[None]
    rows: list[Any] = field(init=False)
    left: int = field(init=False)
    sent: int = 0
    size: int = 0
    alone: bool = False
    as_of: str = ""

    def __post_init__(self) -> None:
        self.rows = [None] * len(self.keys)
        self.left = len(self.keys)

    def put(self, start: int, as_of: str, rows: Any, size: int) -> None:
        """Rows of its keys from ``start`` on."""
        self.size += size
        if rows == LARGE or self.size > LINE_CAP:
            self.fail(SourceFailed(f"expected an answer of at most {LINE_CAP} bytes"))
            return
        self.rows[start : start + len(rows)] = rows
        self.left -= len(rows)
        self.as_of = min(self.as_of, as_of) if self.as_of else as_of
        if not self.left and not self.done.done():
            self.done.set_result(None)

    def fail(self, error: FepError) -> None:
        """Tell who waits."""
        if not self.done.done():
            self.done.set_exception(type(error)(error.detail))


class _Share(NamedTuple):
    """A ticket's keys in one statement."""

    ticket: _Ticket
    start: int
    size: int

    @property
    def keys(self) -> Sequence[tuple[str, ...]]:
        return self.ticket.keys[self.start : self.start + self.size]


@dataclass(eq=False)
class _Form:
    """What waits of one shape.

    Args:
        shape: of all its tickets.
        waiting: tickets with keys to send, the oldest first.
        busy: a statement is under way.
        room: keys that the next statement may have.
    """

    shape: Shape
    waiting: deque[_Ticket] = field(default_factory=deque)
    busy: bool = False
    room: int = field(init=False)

    def __post_init__(self) -> None:
        self.room = min(FIRST_KEYS, self.shape.most_keys)

    def take(self) -> list[_Share]:
        """The next statement's keys; none if nothing waits."""
        shares: list[_Share] = []
        left, letters = self.room, LINE_LETTERS
        while self.waiting and left and letters > 0:
            ticket = self.waiting[0]
            if ticket.done.done():
                self.waiting.popleft()
                continue
            if shares and (ticket.alone or shares[0].ticket.alone):
                break
            start = ticket.sent
            while left and letters > 0 and ticket.sent < len(ticket.keys):
                letters -= sum(map(len, ticket.keys[ticket.sent]))
                ticket.sent += 1
                left -= 1
            shares.append(_Share(ticket, start, ticket.sent - start))
            if ticket.sent == len(ticket.keys):
                self.waiting.popleft()
        return shares

    def paced(self, keys: int, took_s: float) -> None:
        """Learn from a statement how many keys the next one may have."""
        fits = int(keys * TARGET_S / max(took_s, 1e-6))
        self.room = max(1, min(self.shape.most_keys, fits, self.room * 4))

    def again(self, shares: Sequence[_Share]) -> None:
        """Put shares back to be sent each alone."""
        for share in reversed(shares):
            ticket = share.ticket
            ticket.sent, ticket.alone = share.start, True
            if ticket not in self.waiting:
                self.waiting.appendleft(ticket)


class Asked(Protocol):
    """A source that answers one statement after another; ``process.Source`` is one."""

    async def warm(self) -> None:
        """Be ready."""
        ...

    async def ask(
        self, shape: Shape, keys: Sequence[Sequence[str]], split: Sequence[int]
    ) -> Answers:
        """Ask keys of one shape. Raises what :meth:`Sources.fetch` does."""
        ...

    async def close(self) -> None:
        """End it; what is under way fails."""
        ...


class Queue:
    """What waits for one source.

    Args:
        source: who is asked.
        bounds: what may wait.
        clock: monotonic seconds.
    """

    def __init__(
        self, source: Asked, bounds: Bounds, clock: Callable[[], float]
    ) -> None:
        self.source = source
        self._bounds = bounds
        self._clock = clock
        self._forms: dict[object, _Form] = {}
        self._ready: deque[_Form] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._asks = 0
        self._keys = 0
        self._closed = False

    async def fetch(self, ask: Ask) -> Answer:
        """See :meth:`Sources.fetch`."""
        bounds, count = self._bounds, len(ask.keys)
        if self._closed:
            raise WorkerDied(CLOSED)
        if self._asks >= bounds.asks or self._keys + count > bounds.keys:
            raise SourceBusy(f"{self._asks} asks with {self._keys} keys wait")
        ticket = _Ticket(ask.keys, asyncio.get_running_loop().create_future())
        self._asks += 1
        self._keys += count
        try:
            self._line_up(ask, ticket)
            async with asyncio.timeout(bounds.wait_s):
                await ticket.done
        except TimeoutError:
            raise SourceTimeout(f"no answer for {bounds.wait_s:g} s") from None
        finally:
            ticket.done.cancel()
            self._asks -= 1
            self._keys -= count
        return Answer(tuple(map(row_of, ticket.rows)), ticket.as_of)

    async def settled(self) -> None:
        """Wait until nothing is under way and nothing waits."""
        while self._running:
            await asyncio.wait(self._running)

    async def close(self) -> None:
        """End the worker; what waits fails."""
        self._closed = True
        for form in self._forms.values():
            for ticket in form.waiting:
                ticket.fail(WorkerDied(CLOSED))
        await self.source.close()
        if self._running:
            await asyncio.wait(self._running)

    def _line_up(self, ask: Ask, ticket: _Ticket) -> None:
        form = self._form(ask)
        form.waiting.append(ticket)
        if not form.busy and form not in self._ready:
            self._ready.append(form)
        self._pump()

    def _form(self, ask: Ask) -> _Form:
        """The form of an ask, told by its items' identity: comparing them is slow.

        A form holds its items, so that no other object can have their ids.
        """
        told = (ask.table, tuple(map(id, ask.items)), ask.key_items)
        form = self._forms.get(told)
        if form is None:
            if len(self._forms) >= SLOTS:
                self._forget()
            form = _Form(Shape(ask.table, ask.items, ask.key_items))
            self._forms[told] = form
        return form

    def _forget(self) -> None:
        """Forget the oldest form that is not in use; all may be for a moment."""
        for told, form in self._forms.items():
            if not form.busy and not form.waiting:
                del self._forms[told]
                return

    def _pump(self) -> None:
        while self._ready and len(self._running) < LANES:
            form = self._ready.popleft()
            shares = form.take()
            if shares:
                form.busy = True
                task = asyncio.create_task(self._run(form, shares))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    async def _run(self, form: _Form, shares: Sequence[_Share]) -> None:
        """One statement."""
        keys = [key for share in shares for key in share.keys]
        began = self._clock()
        try:
            answers = await self.source.ask(
                form.shape, keys, [share.size for share in shares]
            )
            form.paced(len(keys), self._clock() - began)
            _hand_out(shares, answers)
        except FepError as e:
            _retried_or_failed(form, shares, e)
        except BaseException:
            for share in shares:  # a defect of ours, or the loop is ending
                share.ticket.fail(InternalFault("the statement was given up"))
            raise
        finally:
            form.busy = False
            if form.waiting:
                self._ready.append(form)
            self._running.discard(asyncio.current_task())
            self._pump()


def _hand_out(shares: Sequence[_Share], answers: Answers) -> None:
    sizes = [len(rows) for _, rows, _ in answers if rows != LARGE]
    asked = [
        share.size
        for share, (_, rows, _) in zip(shares, answers, strict=True)
        if rows != LARGE
    ]
    if sizes != asked:
        raise InternalFault("the worker answered another number of keys")
    for share, (as_of, rows, size) in zip(shares, answers, strict=True):
        share.ticket.put(share.start, as_of, rows, size)


def _retried_or_failed(form: _Form, shares: Sequence[_Share], error: FepError) -> None:
    """Try each ask alone if that may help, else tell all of them (rule 3)."""
    keys = sum(share.size for share in shares)
    match error:
        case SourceTimeout():
            form.room = max(1, keys // 4)
            again = keys > 1
        case WorkerDied() | SourceLogin() | SourceUnreachable():
            again = False
        case _:
            again = len(shares) > 1
    if again:
        form.again(shares)
    else:
        for share in shares:
            share.ticket.fail(error)
