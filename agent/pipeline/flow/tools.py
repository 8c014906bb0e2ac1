# SPDX-License-Identifier: Apache-2.0
"""What people ask about the spool, and where the answers come from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from agent.errors import Busy, ResourceUnknown, UnderWay
from agent.pipeline.flow import errands
from agent.pipeline.flow.errands import Hands, Looked, Mended, Replay
from agent.pipeline.flow.lane import Errand, Lane
from agent.pipeline.flow.seams import Parts, undivided
from agent.state import Place, Proof, StreamKey

T = TypeVar("T")

PATIENCE_S = 20.0
"""So long a person waits for an answer, seconds."""
PAGE = 500
"""Batches whose receipts are given at once."""


class SpoolTools:
    """Looks at what is kept, mends it, sends it again.

    Args:
        lane: of a resource that may leave; raises ResourceUnknown.
        parts: those of now.
        patience: ends when nobody waits for an answer any longer.
    """

    def __init__(
        self,
        lane: Callable[[str], Lane],
        parts: Callable[[], Parts],
        *,
        patience: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(PATIENCE_S),
    ) -> None:
        self._lane = lane
        self._parts = parts
        self._patience = patience

    async def proofs(
        self, resource: str, *, since: str, after: Place
    ) -> tuple[tuple[Proof, ...], Place | None]:
        """Receipts with their manifests, and the place to go on behind, or None.

        What was receipted stays evidence when the resource may not leave any more.

        Raises:
            ResourceUnknown: nothing of it was ever to be sent.
        """
        state, sender = self._parts().state, self._parts().sender
        key = StreamKey(sender.producer, sender.aud, resource)
        stream = await undivided(partial(state.stream_of, key))
        if stream is None:
            raise ResourceUnknown(resource)
        page = partial(state.proofs, stream, since=since, after=after, limit=PAGE)
        found = await undivided(page)
        places = sorted({(p.receipt.epoch, p.receipt.seq) for p in found})
        return found, places[-1] if len(places) == PAGE else None

    async def resources(self) -> tuple[str, ...]:
        """What was ever to be sent, though it may not leave any more."""
        state, sender = self._parts().state, self._parts().sender
        find = partial(state.resources, sender.producer, sender.aud)
        return await undivided(find)

    async def look(self, resource: str, *, after: Place) -> Looked:
        """Compare files with what was registered, as many as take a moment.

        Raises:
            ResourceUnknown: there is no such resource.
        """
        return await undivided(partial(errands.look, self._lane(resource), after))

    async def mend(self, resource: str, places: Sequence[Place]) -> Mended:
        """Lead damaged batches down their safe path.

        Raises:
            ResourceUnknown: there is no such resource.
            Busy: nothing was done, because it is paused, halted, or sends a batch.
            UnderWay: it is being done, and takes long.
            PeerFault: the exchange is needed for that, and does not answer.
        """
        return await self._run(resource, lambda hands: errands.mend(hands, places))

    async def replay(self, resource: str, since: str, *, do: bool) -> Replay:
        """Send again what the exchange lost of what was sealed since then.

        Raises:
            ResourceUnknown, Busy, UnderWay: see :meth:`mend`.
            PeerFault: the exchange does not answer.
        """
        return await self._run(
            resource, lambda hands: errands.replay(hands, since, do=do)
        )

    async def _run(self, resource: str, errand: Callable[[Hands], Awaitable[T]]) -> T:
        """Let the sending loop run an errand between two batches."""
        lane = self._lane(resource)
        if lane.paused or lane.draining:
            raise Busy(f"{resource} is paused")
        if (await lane.stream()).halt_code is not None:
            raise Busy(f"{resource} waits for `fep pull`: a batch was rejected")
        if lane.errand is not None:
            raise Busy(f"somebody else asks the same of {resource}")
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        lane.errand = asked = Errand(errand, answer)
        lane.prod()
        try:
            await self._wait(answer)
        finally:  # what has not begun by now is not begun any more
            waits = lane.errand is asked
            if waits:
                lane.errand = None
        if answer.done():
            return answer.result()
        answer.cancel()  # nobody hears it
        if waits:
            raise Busy(f"a batch of {resource} is on its way; nothing was done")
        raise UnderWay(resource)

    async def _wait(self, answer: asyncio.Future[T]) -> None:
        """For the answer, as long as anybody does."""
        patience = asyncio.ensure_future(self._patience())
        first: set[asyncio.Future[Any]] = {answer, patience}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        finally:
            patience.cancel()
