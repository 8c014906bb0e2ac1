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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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


Change = Literal["failover", "return", "back"]
"""Another address is used; the first again; one that was given up works again."""


@dataclass(frozen=True)
class Shift:
    """What has changed.

    Args:
        what: see there.
        url: the address that is used now.
    """

    what: Change
    url: str


class Ways:
    """The addresses in the order of preference.

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
        self._urls = [URL(url.rstrip("/")) for url in urls]
        tries = TRIES if len(urls) == 1 else TRIES_OF_MANY
        self._breakers = [Breaker(tries, base_s) for _ in urls]
        self._clock = clock
        self._why: list[FepError | None] = [None for _ in urls]
        self._used = 0
        self._heard: list[Callable[[Shift], None]] = []

    def listen(self, heard: Callable[[Shift], None]) -> None:
        """Tell somebody of every change."""
        self._heard.append(heard)

    def unlisten(self, heard: Callable[[Shift], None]) -> None:
        """Tell it no more."""
        self._heard.remove(heard)

    @property
    def used(self) -> int:
        """Number of the address that answered last, from 0."""
        return self._used

    def url(self, way: int) -> URL:
        """An address by its number."""
        return self._urls[way]

    def choose(self) -> int:
        """The address that is asked next.

        Raises:
            ExchangeUnreachable: every circuit is open; when one may be tried, and, as
                its cause, what was wrong there last.
        """
        now = self._clock()
        waits = [breaker.wait_s(now) for breaker in self._breakers]
        for way, wait_s in enumerate(waits):
            if not wait_s:
                self._breakers[way].trying(now)
                return way
        wait_s = min(waits)
        raise ExchangeUnreachable(
            f"no good answer several times in a row; tried again in {wait_s:.0f} s",
            retry_after=wait_s,
        ) from self._why[waits.index(wait_s)]

    def succeeded(self, way: int) -> None:
        """The exchange has answered there."""
        was_open = self._breakers[way].open
        self._breakers[way].succeeded()
        if way != self._used and (way < self._used or self._lost(self._used)):
            what: Change = "return" if way < self._used else "failover"
            self._used = way
            self._tell(Shift(what, str(self._urls[way])))
        elif was_open:
            self._tell(Shift("back", str(self._urls[way])))

    def failed(self, way: int, *, began: float, why: FepError | None = None) -> None:
        """Nobody answered there, or somebody else did.

        Args:
            way: number of the address.
            began: when that request began.
            why: what was wrong.
        """
        self._why[way] = why
        self._breakers[way].failed(began=began, now=self._clock())

    def _lost(self, way: int) -> bool:
        return self._breakers[way].open

    def _tell(self, shift: Shift) -> None:
        for heard in tuple(self._heard):
            heard(shift)
