# SPDX-License-Identifier: Apache-2.0
"""How fast uploads may go: just below what the line carries, so that nothing queues.

Lookups share the line. A megabyte that waits in a modem delays each of them by its
whole length, so on a slow line uploads are fed slice by slice, at a rate that is learnt
from how long the exchange takes to answer once the last byte of a piece was fed. An
answer later than the earliest ones tells of a queue: the rate sinks, and everything
stands still until the queue is gone. This works behind proxies too, where the kernel's
own figures end at the proxy. While a lookup is in flight uploads go at a quarter.

A line of :data:`FAST` or more is not paced: TCP does that well enough there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PIECE_MIN = 256 * 1024
"""Smallest piece of a file, and the first if the line is not fast, bytes: line 1 is in
it, so that a refusal comes before the rest is sent (wire.md §3)."""
FRESH_S = 1.0
"""So long a line counts as fast after it was found so, seconds: a file may then begin
with more than the smallest piece."""
PIECE_CAP = 8 * 1024 * 1024
"""Largest piece, bytes."""
PIECE_S = 1.5
"""How long a piece should take, seconds."""
SLICE_S = 0.01
"""How long a slice of a piece takes on a paced line, seconds."""
SLICE_MIN = 8 * 1024
"""Smallest slice, bytes."""
SLICE_CAP = 256 * 1024
"""Largest slice, bytes. 1 MiB costs the daemon an eighth more CPU on a fast line: what
the kernel does not take at once is copied, and lies in memory that is not warm."""
READ = 1024 * 1024
"""Bytes that are read from a file at a time."""
FAST = 4 * 1024 * 1024
"""From this on a line is not paced, bytes a second."""
SLOWEST = 16 * 1024
"""A line slower than this many bytes a second counts as cut."""
QUEUE_S = 0.06
"""Uploads may delay others on the line by so much, seconds."""
STILL_S = 1.0
"""Longest standstill to let a queue drain, seconds."""
CREDIBLE_S = 0.5
"""A piece that took so long has shown what the line carries; a shorter one may only
have shown the beginning of a connection."""
YIELD = 0.25
"""Uploads go at this part of the rate while a lookup is in flight."""
BURST_S = 0.05
"""So much time that was not used may be made up for, seconds."""
DOUBT = 0.5
"""Below this part of the most that a line was found to carry it is measured anew: late
answers may have been those of a busy machine, and no queue."""
TAILS = 32
"""Answers that are remembered for the earliest one."""


@dataclass(frozen=True)
class Sample:
    """A piece that was answered, and not the last of its file: times in seconds.

    Args:
        size: bytes.
        began: of its request.
        fed: when its last byte was handed over.
        ended: when the answer was there.
    """

    size: int
    began: float
    fed: float
    ended: float


class Rate:
    """What the line carries, learnt from samples; pure.

    Attributes:
        bytes_s: of all uploads together; None before anything is known.
        paced: whether uploads are held to it.
    """

    def __init__(self) -> None:
        self.bytes_s: float | None = None
        self.paced = False
        self._tails: deque[float] = deque(maxlen=TAILS)
        self._doubling = False
        self._lowered = float("-inf")
        self._top = 0.0

    def learn(self, sample: Sample, *, active: int, free: bool) -> float:
        """Take a sample.

        Args:
            sample: see there.
            active: uploads at the same time.
            free: nothing but this rate held it back.

        Returns:
            How long everything should stand still, seconds.
        """
        if not self.paced:
            if sample.began >= self._lowered:
                self._measure(sample, active)
            return 0.0
        self._tails.append(sample.ended - sample.fed)
        queue = sample.ended - sample.fed - min(self._tails)
        if queue > QUEUE_S and sample.began >= self._lowered:
            self._lower(sample, queue)
            return min(queue, STILL_S)
        if queue < QUEUE_S / 2 and free:
            self._raise(sample, active)
        return 0.0

    def _measure(self, sample: Sample, active: int) -> None:
        took = max(sample.ended - sample.began, 1e-6)
        seen = sample.size * active / took
        known = self.bytes_s
        self.bytes_s = seen if known is None else (known + seen) / 2
        if self.bytes_s < FAST:
            self.paced, self.bytes_s = True, max(SLOWEST, 0.9 * self.bytes_s)
            self._top = self.bytes_s
            self._doubling = took < CREDIBLE_S
            self._lowered = sample.ended

    def _lower(self, sample: Sample, queue: float) -> None:
        planned = max(sample.fed - sample.began, 1e-6)
        part = max(0.5, 0.95 * planned / (planned + queue))
        self.bytes_s = max(SLOWEST, part * (self.bytes_s or SLOWEST))
        self._doubling = False
        self._lowered = sample.ended
        if self.bytes_s < DOUBT * self._top:
            self.paced, self.bytes_s = False, None

    def _raise(self, sample: Sample, active: int) -> None:
        """A little more; a long piece would make a long queue of it."""
        part = min(1.0, PIECE_S / max(sample.fed - sample.began, 1e-6))
        step = (1.0 if self._doubling else 0.05) * part / active
        self.bytes_s = (1 + step) * (self.bytes_s or SLOWEST)
        self._top = max(self._top, self.bytes_s)
        self.paced = self.bytes_s < FAST


class Line:
    """Gives out the line's time, in the order of asking.

    Args:
        clock: monotonic seconds.
        sleep: ``asyncio.sleep``.
        ceiling: most bytes a second that the settings allow now, None for any number.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        ceiling: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.clock = clock
        self.sleep = sleep
        self._ceiling = ceiling
        self._rate = Rate()
        self._active = 0
        self._lookups = 0
        self._free_at = float("-inf")
        self._learnt_at = float("-inf")

    # --- who is on it -----------------------------------------------------------------

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """An upload shares the line during the block."""
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1

    @contextmanager
    def lookup(self) -> Iterator[None]:
        """A lookup is in flight during the block: uploads give way."""
        self._lookups += 1
        try:
            yield
        finally:
            self._lookups -= 1

    # --- how fast ---------------------------------------------------------------------

    @property
    def bytes_s(self) -> float | None:
        """What all uploads together may send a second now; None: as fast as it goes."""
        learnt = self._rate.bytes_s if self._rate.paced else None
        if learnt is not None and self._lookups:
            learnt *= YIELD
        ceiling = self._ceiling()
        if ceiling is None or learnt is None:
            return ceiling if learnt is None else learnt
        return min(ceiling, learnt)

    @property
    def slowest(self) -> float:
        """An upload that gets less than this many bytes a second counts as cut."""
        learnt = self._rate.bytes_s if self._rate.paced else None
        limits = [limit for limit in (learnt, self._ceiling()) if limit is not None]
        share = YIELD * min(limits, default=float("inf")) / max(self._active, 1)
        return min(SLOWEST, share / 2)

    def piece(self) -> int:
        """How large the next piece of an upload should be, bytes."""
        known, ceiling = self._rate.bytes_s or 0.0, self._ceiling()
        share = (known if ceiling is None else min(known, ceiling)) / max(
            self._active, 1
        )
        return int(min(PIECE_CAP, max(PIECE_MIN, share * PIECE_S)))

    def first(self) -> int:
        """The same for the first piece: small, unless the line was fast just now.

        Only what is not a file's last piece tells how fast it is.
        """
        fresh = self.clock() - self._learnt_at < FRESH_S
        return self.piece() if fresh and self.bytes_s is None else PIECE_MIN

    def slice(self) -> int:
        """How many bytes are handed over at a time."""
        rate = self.bytes_s
        if rate is None:
            return SLICE_CAP
        return int(min(SLICE_CAP, max(SLICE_MIN, rate * SLICE_S)))

    async def let(self, size: int) -> None:
        """Wait until so many bytes may go."""
        rate = self.bytes_s
        now = self.clock()
        if rate is None:
            return
        begin = max(self._free_at, now - BURST_S)
        self._free_at = begin + size / rate
        if begin > now:
            await self.sleep(begin - now)

    def learn(self, sample: Sample) -> None:
        """A piece was answered."""
        rate, ceiling = self._rate, self._ceiling()
        self._learnt_at = sample.ended
        free = ceiling is None or (rate.bytes_s or 0.0) < ceiling
        still_s = rate.learn(sample, active=max(self._active, 1), free=free)
        self._free_at = max(self._free_at, sample.ended) + still_s
