# SPDX-License-Identifier: Apache-2.0
"""What becomes of a worker's offers: the brake, room, the seal, the register.

Rules

1. A worker's Packed is answered only when the spool has room: that is all the
   backpressure there is, and it reaches the database.
2. The brake is looked at before the final part is sealed: up to then nothing at the
   centre changes.
3. A file is renamed, its folder synced and the batch registered in one undivided step.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from agent.audit.events import BatchRegistered
from agent.errors import ChainMoved, MassDelete
from agent.model.job import Gone, Packed, Way
from agent.model.stream import Head
from agent.pipeline import seal
from agent.pipeline.flow import judge
from agent.pipeline.flow.lane import Lane, Wanted
from agent.pipeline.flow.room import Room
from agent.pipeline.flow.seams import undivided
from agent.pipeline.seal import RunFacts, Sealed
from agent.state import NewBatch
from agent.wire.batch import LINE_CAP, DeletesConfirmed


class Sealing:
    """Seals and registers the parts of one run.

    Args:
        lane: the stream.
        wanted: the run.
        basis: what its frontier rests on.
        room: waits for it.
        recalled: so many rows go, in a run that recalls them all; else None.

    Attributes:
        way: how changes are found from this run on, once the worker has said it.
    """

    def __init__(
        self,
        lane: Lane,
        wanted: Wanted,
        basis: str,
        room: Room,
        recalled: int | None = None,
    ) -> None:
        self._lane = lane
        self._parts = lane.parts
        self._wanted = wanted
        self._basis = basis
        self.way: Way | None = None
        self._room = room
        self._recalled = recalled

    async def seal(self, packed: Packed, facts: RunFacts, head: Head) -> Sealed:
        """Seal a part, once the brake agrees and there is room.

        Raises:
            MassDelete: the run would delete too much.
        """
        parts = self._parts
        if self._recalled is not None:
            facts = await self._confirmed(facts, self._recalled)
        elif packed.final and packed.mode == "full":
            facts = await self._brake(packed, facts)
        elif packed.rows.delete and self._wanted.deletes_confirmed is not None:
            facts = await self._confirmed(facts, packed.rows.delete)
        await self._room.wait(packed.size + LINE_CAP)
        manifest = seal.compose(
            head, packed, facts, sender=parts.sender, now=parts.chance.now()
        )
        return seal.sign(head, packed, manifest, signer=parts.signer)

    async def _brake(self, packed: Packed, facts: RunFacts) -> RunFacts:
        """Hold a swap that deletes too much, unless a person agreed to so many.

        Raises:
            MassDelete: it would, and nobody did.
        """
        lane, state = self._lane, self._parts.state
        before = await undivided(partial(state.last_distinct, lane.stream_id))
        confirmed = self._wanted.deletes_confirmed
        check = judge.too_many_deletes(before, packed.distinct or 0, confirmed or 0)
        if check is not None:
            gone, reason = check
            raise MassDelete(f"{lane.resource}: {reason}", keys_gone=gone)
        return facts if confirmed is None else await self._confirmed(facts, confirmed)

    def check_deletes(self, gone: Gone) -> None:
        """The same before the first row of a run that deletes key by key.

        Raises:
            MassDelete: it would delete too much, and nobody agreed.
        """
        check = judge.too_many_deletes(
            gone.known, gone.known - gone.keys, self._wanted.deletes_confirmed or 0
        )
        if check is not None:
            keys, reason = check
            raise MassDelete(f"{self._lane.resource}: {reason}", keys_gone=keys)

    async def _confirmed(self, facts: RunFacts, count: int) -> RunFacts:
        """A batch, or a swap, may delete so many: a person agreed when asking."""
        lane = self._lane
        asked = await undivided(partial(self._parts.state.run, facts.run))
        at = lane.stamp() if asked is None else asked.asked_at
        return replace(facts, confirmed=DeletesConfirmed(at, count))

    async def commit(self, sealed: Sealed) -> None:
        """Name the synced file, register it, and do what follows."""
        lane, parts = self._lane, self._parts
        packed, stream = sealed.packed, sealed.manifest.stream
        name = parts.spool.name(lane.batch_id(stream.epoch, stream.seq))
        new = NewBatch(
            stream=lane.stream_id,
            head=sealed.head,
            digest=sealed.digest,
            run=self._wanted.run,
            file=name,
            size=sealed.size,
            content_size=packed.size,
            content_digest=packed.digest,
            mode=sealed.manifest.mode,
            part=packed.part,
            rows=packed.rows,
            quality=packed.quality,
            distinct=packed.distinct,
            token=packed.token,
            final=packed.final,
            frontier=packed.frontier,
            as_of=packed.as_of,
            at=sealed.manifest.sealed_at,
            basis=self._basis,
            base=packed.base,
            last=packed.last,
            method=None if self.way is None else self.way.method,
            assumes=() if self.way is None else self.way.assumes,
            reasons=packed.reasons,
            warnings=packed.warnings,
            line=sealed.text,
        )
        tmp = parts.spool.tmp(self._wanted.run, packed.part)

        def durable() -> None:
            parts.spool.publish(tmp, name, size=sealed.size)
            try:
                parts.state.register(new)
            except ChainMoved:
                parts.spool.remove([name])
                raise

        await undivided(durable)
        rows = packed.rows
        counts = (rows.upsert, rows.delete, rows.keep, sealed.size)
        parts.tell(BatchRegistered(lane.resource, stream.epoch, stream.seq, *counts))
        lane.changed()
        await self._registered(packed)

    async def _registered(self, packed: Packed) -> None:
        """What follows from a batch that is registered, once it is."""
        if packed.final and packed.frontier is not None:
            await undivided(self._lane.forget_states)
