# SPDX-License-Identifier: Apache-2.0
"""What the centre holds of a stream, as it signs it (wire.md §3, Reconcile).

It answers for its last loaded batch only. What is on its way makes it refuse: it is
asked a few times more, about the batch that its signed position names, then the run
that asks is tried again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from agent.crypto.jose import message_digest
from agent.errors import ExchangeRefused, FalseReceipt
from agent.model.item import Item
from agent.model.job import CentreKeys
from agent.pipeline.deletes import bits_for
from agent.pipeline.flow import judge
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided
from agent.wire import reconcile
from agent.wire.batch import CatalogRef
from agent.wire.text import canonical

MOST_BITS = 15
"""Of 15 bits the counts of all buckets fit into a reply."""
SPARE_BITS = 2
"""So many times twice as full buckets may be before it is asked by more bits."""
TRIES = 30
"""So often it is asked again, or looked whether everything is loaded."""
PASSING = frozenset({"busy", "stale-epoch"})
"""Refusals that end when a batch is loaded, or its receipt is here."""


@dataclass(frozen=True)
class Holding:
    """What the centre has, by buckets.

    Args:
        counts: rows of each.
        sums: digest of each, 32 hex digits.
        reply: the message in which it says so, compact JWS.
    """

    counts: tuple[int, ...]
    sums: tuple[str, ...]
    reply: str

    @property
    def rows(self) -> int:
        """Of the whole table."""
        return sum(self.counts)


class Centre:
    """Asks about one stream, always about the same loaded batch.

    Args:
        lane: the stream.
        catalog: the statement that the centre's table follows.
    """

    def __init__(self, lane: Lane, catalog: CatalogRef) -> None:
        self._lane = lane
        self._catalog = catalog
        self._at = (0, 0)
        self._bits = 0
        self._first: tuple[tuple[int, str], ...] = ()

    async def holds(self, *, whole: bool = False) -> Holding:
        """Rows and digest of each bucket, and what the next questions are about.

        Args:
            whole: one bucket with everything.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        state, stream = self._lane.parts.state, self._lane.stream_id
        rows = 0 if whole else await undivided(partial(state.last_distinct, stream))
        self._bits = bits_for(rows or 0, most=MOST_BITS)
        self._at = await undivided(partial(state.last_loaded, stream))
        if self._at == (0, 0):
            raise ExchangeRefused("nothing is loaded yet", problem="busy")
        response, text = await self._patiently()
        wanted = bits_for(response.rows, most=MOST_BITS)
        if not whole and wanted > self._bits + SPARE_BITS:  # increments made it grow
            self._bits = wanted
            response, text = await self._patiently()
        self._first = response.buckets
        counts, sums = zip(*response.buckets, strict=True)
        return Holding(counts, sums, text)

    async def rows(self) -> tuple[int, int]:
        """Rows of the table, and the exchange's clock then, seconds since 1970.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        lane = self._lane
        state = lane.parts.state
        self._at = await undivided(partial(state.last_loaded, lane.stream_id))
        self._bits = 0
        response, _ = await self._ask(None)
        return response.rows, response.iat

    async def keys(self, buckets: Sequence[int]) -> CentreKeys:
        """The canonical texts of the keys in some buckets, and their rows' digests.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        response, _ = await self._ask(tuple(buckets))
        if response.buckets != self._first:
            raise ExchangeRefused(
                "its rows changed between two answers", problem="busy"
            )
        found = response.detail or ()
        told = Counter(key.bucket for key in found)
        if told != Counter({b: self._first[b][0] for b in buckets}):
            raise FalseReceipt("not the keys of the buckets that were asked for")
        items = tuple(item for item in self._lane.leaving.items if item.key)
        if not all(_fits(key.texts, items) for key in found):
            raise FalseReceipt("a key that is none of this catalog")
        return CentreKeys(
            tuple(key.texts for key in found), tuple(key.digest for key in found)
        )

    async def _patiently(self) -> tuple[reconcile.Response, str]:
        """Ask until it answers for the batch that it says it loaded last.

        Which that is, its signed position says: it may have been restored.
        """
        for _ in range(TRIES - 1):
            try:
                return await self._ask(None)
            except ExchangeRefused as e:
                if e.problem not in PASSING:
                    raise
            loaded = await self._loaded()
            if loaded == self._at:
                parts = self._lane.parts
                await parts.chance.sleep(parts.limits.poll_s)
            self._at = loaded
        return await self._ask(None)

    async def _loaded(self) -> tuple[int, int]:
        lane, parts = self._lane, self._lane.parts
        key, nonce = lane.key, parts.chance.new_nonce()
        text = await parts.exchange.position(lane.resource, nonce)
        found = judge.read_position(
            text,
            stream=(key.producer, key.aud, key.resource),
            nonce=nonce,
            keys=parts.keys(),
            now=parts.chance.now(),
            tolerance_s=parts.limits.clock_tolerance_s,
        )
        return found.loaded

    async def _ask(
        self, detail: tuple[int, ...] | None
    ) -> tuple[reconcile.Response, str]:
        lane, parts = self._lane, self._lane.parts
        epoch, seq = self._at
        request = reconcile.Request(
            iss=parts.sender.producer,
            aud=parts.sender.aud,
            jti=parts.chance.new_id(),
            iat=int(parts.chance.now().timestamp()),
            resource=lane.resource,
            epoch=epoch,
            seq=seq,
            catalog=self._catalog.digest,
            bits=self._bits,
            detail=detail,
        )
        text = parts.signer.sign(reconcile.TYP_REQUEST, request.payload())
        reply = await parts.exchange.reconcile(text)
        message = judge.opened(
            reply,
            typ=reconcile.TYP_RESPONSE,
            cap=reconcile.RESPONSE_CAP,
            keys=parts.keys(),
        )
        found = reconcile.parse_response(message.payload)
        asked = (request.jti, message_digest(text), lane.resource, epoch, seq)
        if (found.irt, found.req_sha256, found.resource, found.epoch, found.seq) != (
            asked
        ) or found.bits != self._bits:
            raise FalseReceipt("the reply to a reconcile request answers another one")
        return found, reply


def _fits(texts: Sequence[str], items: Sequence[Item]) -> bool:
    """Whether these are the canonical texts of a key."""
    return len(texts) == len(items) and all(map(canonical, items, texts))


async def settled(lane: Lane) -> None:
    """Wait until the exchange has loaded whatever of a stream may still be loaded.

    Raises:
        ExchangeRefused: it has not in good time; try again later.
    """
    for tries in range(TRIES):
        if not await undivided(partial(_moves, lane)):
            return
        if tries < TRIES - 1:
            await lane.parts.chance.sleep(lane.parts.limits.poll_s)
    raise ExchangeRefused("batches of this stream are on their way", problem="busy")


def _moves(lane: Lane) -> bool:
    state = lane.parts.state
    waiting, _ = state.amount(lane.stream_id, "waiting")
    return waiting > 0 or bool(state.settling(lane.stream_id))
