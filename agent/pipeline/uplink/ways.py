# SPDX-License-Identifier: Apache-2.0
"""Several addresses of one exchange: which one is asked next; pure, by a clock given.

Rules

1. The first address that works is used. After :data:`TRIES` failures in a row, or
   :data:`TRIES_OF_MANY` where there is another address, its circuit opens: nobody asks
   there for a while, which doubles each time. Then one request tries it; if it is
   answered, the address is used again at once.
2. What began before the last failure was told does not count again: a cut line breaks
   many requests at once.
3. Only an answer that the exchange itself may have given is a success, whatever it
   says; a proxy's page is a failure.
4. The addresses may change. One that stays keeps its number and its circuit; what is
   under way at one that goes may end there, and counts for nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Literal

from yarl import URL

from agent.errors import ExchangeUnreachable, FepError

TRIES = 5
"""Failures in a row that open the circuit of an only address."""
TRIES_OF_MANY = 2
"""The same where there is another one."""
PROBE_S = 90.0
"""So long a request that tries an open circuit may take before another one may."""


@dataclass
class Breaker:
    """The circuit of one address.

    Args:
        tries: failures in a row that open it.
        base_s: how long it is open at first, seconds.
        cap_s: at most.
    """

    tries: int = TRIES
    base_s: float = 5.0
    cap_s: float = 60.0
    _failures: int = 0
    _failed_at: float = field(default=float("-inf"))
    _shut_until: float = field(default=float("-inf"))

    @property
    def open(self) -> bool:
        """Whether it has been found broken, and not well since."""
        return self._failures >= self.tries

    def wait_s(self, now: float) -> float:
        """Seconds until somebody may ask there; 0 if now."""
        return max(0.0, self._shut_until - now) if self.open else 0.0

    def trying(self, now: float) -> None:
        """Somebody asks; if the circuit is open, nobody else does for a while."""
        if self.open:
            self._shut_until = now + PROBE_S

    def succeeded(self) -> None:
        """It was answered."""
        self._failures = 0
        self._shut_until = float("-inf")

    def failed(self, *, began: float, now: float) -> None:
        """It was not answered, or by somebody else."""
        if began < self._failed_at:
            return
        self._failures += 1
        self._failed_at = now
        if self.open:
            length = self.base_s * 2.0 ** min(self._failures - self.tries, 32)
            self._shut_until = now + min(self.cap_s, length)


Change = Literal["failover", "return", "back", "moved"]
"""Another address is used; the first again; one that was given up works again; the one
that was used is none any more."""
GONE = 64
"""So many addresses that are used no more are remembered for what is under way."""


@dataclass(frozen=True)
class Shift:
    """What has changed.

    Args:
        what: see there.
        url: the address that is used now.
    """

    what: Change
    url: str


@dataclass
class _Address:
    """One address, and what was wrong there last."""

    url: URL
    breaker: Breaker
    why: FepError | None = None


class Ways:
    """The addresses in the order of preference, each with a number of its own.

    Args:
        urls: ``https://host[:port]``, at least one.
        clock: monotonic seconds.
        base_s: how long a circuit is open at first, seconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        clock: Callable[[], float],
        base_s: float = 5.0,
    ) -> None:
        self._clock = clock
        self._base_s = base_s
        self._all: dict[int, _Address] = {}
        self._order: list[int] = []
        self._numbers = count()
        self._used = 0
        self._heard: list[Callable[[Shift], None]] = []
        self.use(urls)

    def use(self, urls: Sequence[str]) -> None:
        """Let these be the addresses, rule 4."""
        known = {self._all[way].url: way for way in self._order}
        before = self._order
        self._order = [self._numbered(URL(url.rstrip("/")), known) for url in urls]
        tries = TRIES if len(urls) == 1 else TRIES_OF_MANY
        for way in self._order:
            self._all[way].breaker.tries = tries
        gone = [way for way in self._all if way not in self._order]
        for way in gone[:-GONE]:
            del self._all[way]
        if before and self._used not in self._order:
            self._used = self._order[0]
            self._tell(Shift("moved", str(self._all[self._used].url)))

    def _numbered(self, url: URL, known: Mapping[URL, int]) -> int:
        """The number of an address, a new one if it was none."""
        if (way := known.get(url)) is None:
            way = next(self._numbers)
            self._all[way] = _Address(url, Breaker(base_s=self._base_s))
        return way

    def listen(self, heard: Callable[[Shift], None]) -> None:
        """Tell somebody of every change."""
        self._heard.append(heard)

    def unlisten(self, heard: Callable[[Shift], None]) -> None:
        """Tell it no more."""
        self._heard.remove(heard)

    @property
    def used(self) -> int:
        """Number of the address that answered last; the first one at the beginning."""
        return self._used

    def url(self, way: int) -> URL:
        """An address by its number."""
        return self._all[way].url

    def behind(self, way: int) -> bool:
        """Whether an address is none any more, or a better one is used."""
        return self._rank(self._used) < self._rank(way)

    def choose(self) -> int:
        """The address that is asked next.

        Raises:
            ExchangeUnreachable: every circuit is open; when one may be tried, and, as
                its cause, what was wrong there last.
        """
        now = self._clock()
        waits = [self._all[way].breaker.wait_s(now) for way in self._order]
        for way, wait_s in zip(self._order, waits, strict=True):
            if not wait_s:
                self._all[way].breaker.trying(now)
                return way
        wait_s = min(waits)
        raise ExchangeUnreachable(
            f"no good answer several times in a row; tried again in {wait_s:.0f} s",
            retry_after=wait_s,
        ) from self._all[self._order[waits.index(wait_s)]].why

    def succeeded(self, way: int) -> None:
        """The exchange has answered there."""
        if way not in self._order:
            return
        found = self._all[way]
        was_open = found.breaker.open
        found.breaker.succeeded()
        better = self._rank(way) < self._rank(self._used)
        if way != self._used and (better or self._lost(self._used)):
            what: Change = "return" if better else "failover"
            self._used = way
            self._tell(Shift(what, str(found.url)))
        elif was_open:
            self._tell(Shift("back", str(found.url)))

    def failed(self, way: int, *, began: float, why: FepError | None = None) -> None:
        """Nobody answered there, or somebody else did.

        Args:
            way: number of the address.
            began: when that request began.
            why: what was wrong.
        """
        if way in self._order:
            self._all[way].why = why
            self._all[way].breaker.failed(began=began, now=self._clock())

    def _rank(self, way: int) -> int:
        """Its place in the order; behind all of them if it is none any more."""
        return self._order.index(way) if way in self._order else len(self._order)

    def _lost(self, way: int) -> bool:
        return self._all[way].breaker.open

    def _tell(self, shift: Shift) -> None:
        for heard in tuple(self._heard):
            heard(shift)
