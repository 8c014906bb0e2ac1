# SPDX-License-Identifier: Apache-2.0
"""The child process of one run: ``python -m agent.pipeline.worker FD``.

Four steps overlap, each in a thread of its own, with bounded queues between them::

    read + check  ->  compare with what was sent, where the source tells no changes
        ->  Arrow IPC + zstd + sha256  ->  Packed, wait for Line, write, sync

The last waits for the daemon, and through the queues so do the others: a daemon that
does not answer stops the reading after a few pieces. Nothing is signed here; no key is
within reach. A failure ends the run with one :class:`Failed`, whose detail never holds
a value.
"""

from __future__ import annotations

import os
import time
from collections.abc import (
    Callable,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from agent.child.inside import DaemonGone, give_memory_back
from agent.errors import FepError, InternalFault
from agent.model.batch import Quality, Rows
from agent.model.column import Column
from agent.model.job import (
    AskKeys,
    CentreKeys,
    Columns,
    Ended,
    Failed,
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
from agent.pipeline.extract import Piece, Reading, reading
from agent.pipeline.numbered import METHOD
from agent.pipeline.pack import (
    Load,
    Part,
    Payload,
    count_ops,
    parts,
    payload,
    unchanged,
    write_down,
)
from agent.pipeline.worker.comparing import Scale, compared
from agent.pipeline.worker.handoff import Handoff, Stopped
from agent.pipeline.worker.kindly import Kindly
from agent.pipeline.worker.modes import MODES, Ground, Mode, last_key, rows_only
from agent.pipeline.worker.sieve import Sieve
from agent.pipeline.worker.tagged import Counsel, Note
from agent.pipeline.worker.tally import Sums, Tally
from agent.wire.arrow import row_digest_sum, schema_of
from connectors.contract import Connector, FoundColumn, Frontier

PROGRESS_S = 0.5
"""Least seconds between two Progress messages."""

LOADS_WAITING = 3
"""Checked pieces that may wait for the packer."""

COMPARED_WAITING = 1
"""Compared pieces that may wait for the packer."""

PAYLOADS_WAITING = 2
"""Payloads that may wait for the daemon's line."""

SALT_BYTES = 8


def _salt() -> bytes:
    return os.urandom(SALT_BYTES)


@dataclass(frozen=True)
class Tools:
    """What a run is done with.

    Args:
        find: connector by name.
        sieve: the quality stage for a job.
        clock: monotonic seconds.
        salt: random bytes for the digests of keys.
        now: the local time in a zone.
    """

    find: Callable[[str], Connector]
    sieve: Callable[[Job], Sieve]
    clock: Callable[[], float] = time.monotonic
    salt: Callable[[], bytes] = _salt
    now: Callable[[ZoneInfo], datetime] = datetime.now


class Run:
    """One job from its start to its last message.

    Args:
        job: what to do.
        tell: sends a message to the daemon; safe in any thread.
        hear: waits for the daemon's next message.
        tools: connector, quality and clock.
    """

    def __init__(
        self,
        job: Job,
        *,
        tell: Callable[[Message], None],
        hear: Callable[[], Message],
        tools: Tools,
    ) -> None:
        self._job = job
        self._tell = tell
        self._hear = hear
        self._tools = tools
        self._tally = Tally(read=0 if job.resume is None else job.resume.quality.read)
        self._told_at = tools.clock()
        self._estimate: int | None = None
        self._kindly = Kindly(
            job, tell=tell, beat=self._progress, clock=tools.clock, now=tools.now
        )
        self._counsel = Counsel()

    def go(self) -> None:
        """Do the job and send its last message.

        Raises:
            DaemonGone: nobody is left to tell.
        """
        work = self._digest if self._job.kind == "digest" else self._pull
        with ThreadPoolExecutor(3) as threads:
            try:
                last: Message = work(threads)
            except DaemonGone:
                raise
            except Exception as e:  # noqa: BLE001 - the edge: a run fails in one place
                last = failure(e, self._tally.reasons)
            finally:
                self._kindly.stop()
            self._tell(last)

    def _pull(self, threads: ThreadPoolExecutor) -> Ended:
        loads: Handoff[Load | Note] = Handoff(LOADS_WAITING)
        left: Handoff[Load] = Handoff(COMPARED_WAITING)
        payloads: Handoff[Payload] = Handoff(PAYLOADS_WAITING)
        steps = [threads.submit(loads.feed, self._loads())]
        out: Iterable[Load] = rows_only(loads)
        if self._job.states is not None:
            out = left
            steps.append(
                threads.submit(left.feed, compared(self._scale(), iter(loads)))
            )
        steps.append(threads.submit(payloads.feed, self._payloads(out)))
        sums = Sums.of(self._job.resume)
        with _joined(steps, loads, left, payloads, self._counsel):
            for ready in payloads:
                sums.add(ready.part)
                if self._mode.quiet and ready.part.counts == Rows(0, 0, 0):
                    continue
                self._deliver(ready, distinct=sums.rows.upsert + sums.rows.keep)
                del ready  # its bytes are not kept while the next one is made
        return self._ended(sums, digest=None)

    def _digest(self, threads: ThreadPoolExecutor) -> Ended:
        loads: Handoff[Load | Note] = Handoff(LOADS_WAITING)
        steps = [threads.submit(loads.feed, self._loads())]
        items = tuple(b.item for b in self._job.items)
        sums, total = Sums(), 0
        with _joined(steps, loads):
            for load in rows_only(loads):
                counts = count_ops(load.rows)
                sums.rows += counts
                sums.quality += Quality(load.read, load.read - counts.upsert, 0)
                sums.reasons.update(load.reasons)
                sums.warnings.update(load.warnings)
                sent = load.rows.filter(pc.equal(load.rows.column(0), pa.scalar("u")))
                total += row_digest_sum(sent, items)
        return self._ended(sums, digest=f"{total % 2**128:032x}")

    def _loads(self) -> Generator[Load | Note, None, None]:
        """Read and check; runs in the reading thread."""
        job, tally = self._job, self._tally
        if self._mode.blind:
            tally.frontier = Frontier("", job.as_of or "", "")
            return
        with ExitStack() as stack:
            sieve = self._tools.sieve(job)
            stack.callback(sieve.close)
            connector = self._tools.find(job.connector)
            hold = self._kindly.hold
            source = stack.enter_context(
                reading(connector, job, seen=self._seen, hold=hold)
            )
            stack.enter_context(self._kindly.watching(connector))
            tally.frontier = self._frontier_of(source)
            if job.kind == "pull":
                self._tell_way(connector, source)
            check = partial(self._checked, sieve)
            self._estimate = source.estimate if self._reads_all else None
            ground = Ground(
                job,
                source,
                check,
                self._tell,
                self._ask,
                self._again,
                self._progress,
                counsel=self._comparing,
                count=self._count,
            )
            for load in self._mode.loads(ground):
                yield load
                del load  # it is not kept while the next one is made
                self._progress()

    def _scale(self) -> Scale:
        return Scale(
            job=self._job,
            tell=self._tell,
            tells_changes=lambda: self._tally.tells_changes,
            salt=self._tools.salt,
            counsel=self._counsel,
        )

    @property
    def _comparing(self) -> Counsel | None:
        """Answers of the comparing thread; None if it keeps no digests of this run."""
        job = self._job
        if job.states is None or job.resume is not None or self._tally.tells_changes:
            return None
        return self._counsel

    @property
    def _reads_all(self) -> bool:
        """Whether as many rows are met as the source estimates."""
        return self._mode.wire == "full" or self._job.mode in COMPARING

    def _count(self, rows: int) -> None:
        self._tally.read += rows

    @property
    def _mode(self) -> Mode:
        """What the job wants.

        Raises:
            InternalFault: nobody here can do it.
        """
        try:
            return MODES[self._job.mode]
        except KeyError:
            raise InternalFault(f"no worker reads {self._job.mode}") from None

    def _frontier_of(self, source: Reading) -> Frontier:
        """Of the run; what is resumed counts as read when its first part was."""
        resume = self._job.resume
        if resume is None:
            return source.frontier
        return Frontier(resume.frontier, resume.as_of, source.frontier.note)

    def _tell_way(self, connector: Connector, source: Reading) -> None:
        """How changes are found, for people and for the next run."""
        if source.unfit is not None:
            self._tell(Unfit(source.unfit))
        if source.taken is not None:
            self._tally.tells_changes = True
            self._tell(Way(METHOD, source.taken.assumes))
            return
        caps = connector.capabilities(self._job.source, source.stream)
        if (found := caps.increments) is not None:
            self._tally.tells_changes = True
            self._tell(Way(found.method, found.assumes))

    def _again(self) -> Callable[[Piece], Load]:
        """The quality stage for another pass; the first one has counted."""
        sieve = self._tools.sieve(self._job)

        def check(piece: Piece) -> Load:
            sifted = sieve.sift(piece.rows)
            if sifted.halt is not None:
                raise sifted.halt
            return Load(sifted.rows, 0, None)

        return check

    def _ask(self, buckets: tuple[int, ...]) -> CentreKeys:
        """What the centre has; nobody waits for a line before the first load."""
        self._tell(AskKeys(buckets))
        answer = self._hear()
        if not isinstance(answer, CentreKeys):
            raise InternalFault(f"expected keys, got {type(answer).__name__}")
        return answer

    def _seen(self, found: Sequence[FoundColumn], fit: bool) -> None:
        columns = (
            Column(c.name, c.native, c.type, c.length, c.scale, c.nullable, c.key)
            for c in found
        )
        self._tell(Columns(tuple(columns), fit))

    def _checked(self, sieve: Sieve, piece: Piece) -> Load:
        sifted = sieve.sift(piece.rows)
        self._tally.read += piece.rows.num_rows
        self._tally.reasons.update(sifted.reasons)
        if sifted.halt is not None:
            raise sifted.halt
        tags = piece.tags
        if tags is not None and sifted.left is not None:
            tags = tags.filter(pa.array(sifted.left))
        return Load(
            rows=sifted.rows,
            read=piece.rows.num_rows,
            token=piece.token,
            reasons=sifted.reasons,
            warnings=sifted.warnings,
            tags=tags,
        )

    def _payloads(self, loads: Iterable[Load]) -> Generator[Payload, None, None]:
        """Pack; runs in the packing thread."""
        job, mode = self._job, self._mode
        says_unchanged = mode.wire != "full" and mode.moves
        for part in parts(
            loads,
            schema_of(tuple(b.item for b in job.items)),
            raw_bytes=job.batch_raw_bytes,
            max_rows=job.max_rows_per_batch,
            after=0 if job.resume is None else job.resume.parts,
        ):
            if mode.wire == "diff":
                give_memory_back()
            nothing = part.number == 1 and part.final and not part.size
            made = unchanged(part) if nothing and says_unchanged else payload(part)
            last = self._last_key(part)
            ready = replace(made, last=last)
            del part, made
            yield ready
            del ready

    def _last_key(self, part: Part) -> str | None:
        if part.final or self._mode.wire != "full":
            return None
        return last_key(part.last, tuple(b.item for b in self._job.items))

    def _deliver(self, ready: Payload, *, distinct: int) -> None:
        """Offer a payload, wait for its line, write it down."""
        self._tell(self._packed(ready, distinct))
        line = self._hear()
        if not isinstance(line, Line) or line.part != ready.part.number:
            raise InternalFault(
                f"expected the line of part {ready.part.number}, got"
                f" {type(line).__name__}"
            )
        write_down(line, ready.data)
        self._tell(Written(line.part))

    def _packed(self, ready: Payload, distinct: int) -> Packed:
        part, frontier, mode = ready.part, self._frontier(), self._mode
        full = mode.wire == "full"
        return Packed(
            part=part.number,
            final=part.final,
            size=ready.size,
            raw_size=ready.raw_size,
            digest=ready.digest,
            rows=part.counts,
            quality=part.quality,
            distinct=distinct if part.final and full else None,
            as_of=frontier.as_of,
            token=part.token,
            frontier=frontier.value if part.final and mode.moves else None,
            base=frontier.value if full and not part.final else None,
            last=ready.last,
            mode=mode.wire if ready.data else "unchanged",
            reasons=part.reasons,
            warnings=part.warnings,
        )

    def _ended(self, sums: Sums, *, digest: str | None) -> Ended:
        frontier = self._frontier()
        return Ended(
            rows=sums.rows,
            quality=sums.quality,
            reasons=dict(sums.reasons),
            warnings=dict(sums.warnings),
            digest=digest,
            as_of=frontier.as_of,
            frontier=frontier.value,
        )

    def _frontier(self) -> Frontier:
        frontier = self._tally.frontier
        if frontier is None:
            raise InternalFault("a part came before the frontier")
        return frontier

    def _progress(self) -> None:
        at = self._tools.clock()
        if at - self._told_at >= PROGRESS_S:
            self._told_at = at
            self._tell(Progress(self._tally.read, self._estimate))


@contextmanager
def _joined(
    steps: list[Future[None]], *handoffs: Handoff[Any] | Counsel
) -> Iterator[None]:
    """Stop all steps if one fails, and raise what failed first in their order."""
    try:
        yield
    except Stopped:
        for handoff in handoffs:
            handoff.stop()  # a step that waits for one that failed would wait for ever
        for step in steps:
            error = step.exception()
            if error is not None and not isinstance(error, Stopped):
                raise error from None
        raise
    finally:
        for handoff in handoffs:
            handoff.stop()


def failure(error: Exception, reasons: Mapping[str, int]) -> Failed:
    """The last message of a run that failed; foreign messages are not repeated."""
    if isinstance(error, FepError):
        return Failed(error.code, error.detail, dict(reasons))
    frame = error.__traceback__
    where = "?"
    while frame is not None:
        where = f"{frame.tb_frame.f_globals.get('__name__')}:{frame.tb_lineno}"
        frame = frame.tb_next
    return Failed("internal", f"{type(error).__name__} at {where}", dict(reasons))
