# SPDX-License-Identifier: Apache-2.0
"""What the centre holds of a stream, as it signs it (wire.md §3, Reconcile).

It answers for its last loaded batch only. What is on its way makes it refuse, and the
run that asks is tried again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from agent.crypto.jose import message_digest
from agent.errors import ExchangeRefused, FalseReceipt
from agent.pipeline.flow import judge
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided
from agent.wire import reconcile
from agent.wire.batch import CatalogRef

MOST_BITS = 15
"""Of 15 bits the counts of all buckets fit into a reply."""
AIM_ROWS = 64
"""Rows of a bucket to aim for."""

Texts = tuple[tuple[str, ...], ...]


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

    async def counts(self) -> tuple[int, ...]:
        """Rows of each bucket.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        lane, state = self._lane, self._lane.parts.state
        self._at = await undivided(partial(state.last_loaded, lane.stream_id))
        if self._at == (0, 0):
            raise ExchangeRefused("nothing is loaded yet", problem="busy")
        rows = await undivided(partial(state.last_distinct, lane.stream_id)) or 0
        self._bits = min(max(rows // AIM_ROWS, 1).bit_length() - 1, MOST_BITS)
        response = await self._ask(None)
        return tuple(count for count, _ in response.buckets)

    async def rows(self) -> tuple[int, int]:
        """Rows of the table, and the exchange's clock then, seconds since 1970.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        lane = self._lane
        state = lane.parts.state
        self._at = await undivided(partial(state.last_loaded, lane.stream_id))
        self._bits = 0
        response = await self._ask(None)
        return response.rows, response.iat

    async def keys(self, buckets: Sequence[int]) -> Texts:
        """The canonical texts of the keys in some buckets.

        Raises:
            PeerFault: there is no answer now, or a false one.
        """
        response = await self._ask(tuple(buckets))
        wanted = frozenset(buckets)
        found = response.detail or ()
        if any(key.bucket not in wanted for key in found):
            raise FalseReceipt("keys of a bucket that nobody asked for")
        return tuple(key.texts for key in found)

    async def _ask(self, detail: tuple[int, ...] | None) -> reconcile.Response:
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
        return found
