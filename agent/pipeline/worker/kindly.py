# SPDX-License-Identifier: Apache-2.0
"""How a run holds back: limits of its source, and what the source can bear now.

Rules

1. Reading waits between two pages, never within one. What was read is owed and paid off
   by time: on the average no limit is passed, whatever the size of a page.
2. While it reads, a thread of its own looks at how the source feels, over a connection
   of its own. Unwell, the speed is halved at each look, down to :data:`LEAST`; after
   :data:`WELL_LOOKS` good looks in a row it is doubled. A source without limits slows
   down by its own pace: half the speed is as much rest as work.
3. What the account may not see is no reason, and is said once. A source that does not
   answer a look is unwell; a connector that fails otherwise is as one that cannot say.
   After a login that was refused nobody looks again: repeated, it locks the account.
4. A wait is cut into short ones: the hour may end a limit, a good look may end the
   rest, and the daemon hears that the worker lives.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from agent.child.inside import DaemonGone
from agent.model.job import Job, Message, Slowed
from agent.model.pacing import Bounds, Pacing, Rate
from connectors.contract import (
    Connector,
    FeelingConnector,
    Health,
    SourceError,
    offers_health,
)

FIRST_LOOK_S = 1.0
"""Runs that are over sooner are not worth a connection more."""

LEAST = 1 / 16
"""Share of the speed that is always left: a snapshot that never ends is no kindness."""

WELL_LOOKS = 2
"""So many good looks in a row double the speed."""

MOST_WORK_S = 10.0
"""Longer work is rested after as if it were as long: it may have been a wait."""

LOOK_UP_S = 0.25
"""Longest piece of a wait, seconds."""

SOON_S = 0.001
"""A shorter wait is none; what it would have paid is owed with the next page."""

_FREE = Rate()
_NO_ANSWER = frozenset({"unreachable", "timeout"})
_EVERYTHING = ("everything",)


def beyond(health: Health, bounds: Bounds) -> tuple[str, ...]:
    """What is beyond its bound, each as ``name=value>bound``; pure."""
    found = []
    for field in fields(bounds):
        bound, value = getattr(bounds, field.name), getattr(health, field.name)
        if bound and value is not None and value > bound:
            found.append(f"{field.name}={value:.4g}>{bound:.4g}")
    return tuple(found)


@dataclass
class Ease:
    """The share of the speed, by looks one after the other; pure.

    Attributes:
        share: of the full speed.
        reasons: of the last bad look, while it is not full.
    """

    share: float = 1.0
    reasons: tuple[str, ...] = ()
    _well: int = 0

    def look(self, reasons: tuple[str, ...]) -> bool:
        """Take in what a look found; whether the speed has changed."""
        before = self.share
        if reasons:
            self._well, self.reasons = 0, reasons
            self.share = max(self.share / 2, LEAST)
        else:
            self._well += 1
            if self._well >= WELL_LOOKS:
                self._well, self.share = 0, min(self.share * 2, 1.0)
        if self.share == 1.0:
            self.reasons = ()
        return self.share != before


class Kindly:
    """Holds one run back.

    Args:
        job: its pacing, source and zone.
        tell: sends a message to the daemon; safe in any thread.
        beat: tells from time to time that a wait goes on.
        clock: monotonic seconds.
        now: the local time in a zone.
        rest: waits so many seconds, or until the run is over; True: it is over.
    """

    def __init__(
        self,
        job: Job,
        *,
        tell: Callable[[Message], None],
        beat: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[ZoneInfo], datetime] = datetime.now,
        rest: Callable[[float], bool] | None = None,
    ) -> None:
        self._wanted = job.pacing is not None
        self._pacing = job.pacing or Pacing("")
        self._source: Mapping[str, Any] = job.source
        self._zone = ZoneInfo(job.timezone)
        self._tell, self._beat = tell, beat
        self._clock, self._now = clock, now
        self._over = threading.Event()
        self._rest = rest or self._over.wait
        self._ease = Ease()
        self._rows = self._bytes = 0.0
        self._went_on: float | None = None

    def stop(self) -> None:
        """The run is over: nobody waits and nobody looks any more."""
        self._over.set()

    # --- holding back ---------------------------------------------------------------

    def hold(self, rows: int, size: int) -> None:
        """Wait after a page as long as limits and the source's health want.

        Args:
            rows: that were read.
            size: bytes of them.
        """
        if not self._wanted:
            return
        began = self._clock()
        worked = 0.0 if self._went_on is None else began - self._went_on
        self._rows += rows
        self._bytes += size
        self._pay(worked)
        rested, work = 0.0, min(worked, MOST_WORK_S)
        while (left := max(self._owed_s(), self._tired_s(work) - rested)) > SOON_S:
            if self._rest(min(left, LOOK_UP_S)):
                return
            before, began = began, self._clock()
            self._pay(began - before)
            rested += began - before
            self._beat()
        self._went_on = began

    def _tired_s(self, work: float) -> float:
        return work * (1 / self._ease.share - 1)

    def _owed_s(self) -> float:
        rate, share = self._rate(), self._ease.share
        rows = self._rows / (rate.rows * share) if rate.rows else 0.0
        size = self._bytes / (rate.bytes * share) if rate.bytes else 0.0
        return max(rows, size)

    def _pay(self, seconds: float) -> None:
        """What time pays off; without a limit nothing is owed."""
        rate, share = self._rate(), self._ease.share
        paid = seconds * share
        self._rows = max(self._rows - rate.rows * paid, 0.0) if rate.rows else 0.0
        self._bytes = max(self._bytes - rate.bytes * paid, 0.0) if rate.bytes else 0.0

    def _rate(self) -> Rate:
        pacing = self._pacing
        return pacing.rate(self._now(self._zone).time()) if pacing.limited else _FREE

    # --- looking --------------------------------------------------------------------

    @contextmanager
    def watching(self, connector: Connector) -> Iterator[None]:
        """Look at the source until the block ends, if somebody can and wants to."""
        if self._pacing.probe_s and offers_health(connector):
            threading.Thread(
                target=self._watch, args=(connector,), name="health", daemon=True
            ).start()
        try:
            yield
        finally:
            self.stop()

    def _watch(self, connector: FeelingConnector) -> None:
        told: tuple[str, ...] = ()
        every = self._pacing.probe_s
        wait = min(FIRST_LOOK_S, every)
        while not self._over.wait(wait):
            wait = every
            found = self._look(connector, told)
            if self._over.is_set():
                return
            if found is None:
                self._ease = Ease()
                self._say(_EVERYTHING)
                return
            reasons, hidden = found
            if self._ease.look(reasons) or hidden != told:
                told = hidden
                if not self._say(hidden):
                    return

    def _say(self, hidden: tuple[str, ...]) -> bool:
        """Tell how fast it goes on; whether somebody hears it."""
        try:
            self._tell(Slowed(self._ease.share, self._ease.reasons, hidden))
        except DaemonGone:
            return False
        return True

    def _look(
        self, connector: FeelingConnector, told: tuple[str, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """What is beyond its bound, and what is hidden; None: do not look again."""
        try:
            found = connector.health(self._source)
        except SourceError as e:
            if e.kind == "login":
                return None
            if e.kind in _NO_ANSWER:
                return (f"no-answer={e.kind}",), told
            return (), _EVERYTHING
        except Exception:  # noqa: BLE001 - a foreign connector must not end the thread
            return (), _EVERYTHING
        return beyond(found, self._pacing.bounds), found.hidden
