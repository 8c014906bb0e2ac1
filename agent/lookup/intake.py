# SPDX-License-Identifier: Apache-2.0
"""How many lookups may come in, by whichever way (wire.md §4).

Rules

1. What is counted and bounded is counted before any cryptography: how many are inside,
   how many of one consumer, and how fast they come.
2. The consumer's name is only claimed then. On both ways it comes from the exchange,
   which has compared it with the consumer's certificate, so nobody can use up the share
   of another.
3. What is long costs more: what is written down of a lookup grows with it, and a disk
   is filled by bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PEERS = 4096
"""Consumers that are remembered; wire.md names a few hundred departments."""
TOKEN_BYTES = 16 * 1024
"""So many bytes of a sealed request count as one lookup, each begun one."""


@dataclass(frozen=True)
class Bounds:
    """How much may be inside.

    Args:
        in_flight: lookups at a time.
        peer_in_flight: of one consumer.
        peer_per_s: of one consumer, per second; a second's worth may come at once. A
            long one counts as several, see :data:`TOKEN_BYTES`.
    """

    in_flight: int = 64
    peer_in_flight: int = 16
    peer_per_s: int = 200


class Crowded(Exception):
    """No room; ``one_peer``: it is only this consumer that is too many or too fast."""

    def __init__(self, *, one_peer: bool) -> None:
        self.one_peer = one_peer
        super().__init__("no room")


@dataclass
class _Peer:
    """What is known of a consumer: how many are inside, and its token bucket."""

    inside: int
    tokens: float
    at: float


class Turnstile:
    """Lets lookups in, one by one, within bounds.

    Args:
        bounds: see there.
        clock: monotonic seconds.
    """

    def __init__(self, bounds: Bounds, *, clock: Callable[[], float]) -> None:
        self._bounds = bounds
        self._clock = clock
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self.inside = 0

    @contextmanager
    def entered(self, peer: str, size: int = 0) -> Iterator[None]:
        """Be inside until the block ends.

        Args:
            peer: who asks.
            size: of the sealed request, bytes.

        Raises:
            Crowded: there is no room.
        """
        if self.inside >= self._bounds.in_flight:
            raise Crowded(one_peer=False)
        found = self._peer(peer)
        price = min(1 + size // TOKEN_BYTES, self._bounds.peer_per_s)
        if found.inside >= self._bounds.peer_in_flight or found.tokens < price:
            raise Crowded(one_peer=True)
        found.tokens -= price
        found.inside += 1
        self.inside += 1
        try:
            yield
        finally:
            found.inside -= 1
            self.inside -= 1

    def _peer(self, name: str) -> _Peer:
        now, most = self._clock(), float(self._bounds.peer_per_s)
        found = self._peers.get(name)
        if found is None:
            self._make_room()
            found = self._peers[name] = _Peer(0, most, now)
        self._peers.move_to_end(name)
        found.tokens = min(most, found.tokens + (now - found.at) * most)
        found.at = now
        return found

    def _make_room(self) -> None:
        """Forget whoever was away longest; nobody who is inside is forgotten."""
        if len(self._peers) < PEERS:
            return
        for name, peer in self._peers.items():
            if peer.inside == 0:
                del self._peers[name]
                return
        raise Crowded(one_peer=False)
