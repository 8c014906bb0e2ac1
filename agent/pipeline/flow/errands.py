# SPDX-License-Identifier: Apache-2.0
"""What people ask of a stream's spool: look at its files, send again, mend.

Rules

1. Only the sending loop runs what touches the chain, between two batches: one batch of
   a stream is on its way at a time.
2. What leaves again is the very file that was sealed, never another manifest of its
   identity, and only where the exchange's signed position chains to it. It goes the way
   of every batch: compared byte by byte, judged by today's documents, put on record.
3. Whatever does not fit ends in a new epoch that reads the source again: that is safe
   whatever was lost.
4. What the exchange has is not sent again; nothing changes then.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from agent.errors import FepError, GateClosed, SpoolDamaged
from agent.pipeline.flow import files, judge
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import undivided
from agent.state import Batch, Place, Stream
from agent.wire.grammar import parse_time
from agent.wire.position import Position

MOST = 1000
"""Batches that are listed to people."""
LOOK_S = 2.0
"""So long files are looked at before an answer says where to go on, seconds."""


@dataclass(frozen=True)
class Hands:
    """What an errand may use of the sending loop.

    Args:
        lane: the stream.
        ask: the signed position of just now, and its text.
        reopen: begins an epoch on such a position; what is not loaded is read again.
        stand: goes on sending behind a position.
    """

    lane: Lane
    ask: Callable[[], Awaitable[tuple[Position, str]]]
    reopen: Callable[[Stream, tuple[Position, str], judge.Cause], Awaitable[None]]
    stand: Callable[[Position], None]


# --- look ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Damage:
    """A batch whose file, or whose place in the chain, is not as it was registered.

    Args:
        state: of the batch.
        code: of the error.
        detail: expected, got and where.
        cure: ``reread``: a new epoch reads the source again; ``remove``: the file goes,
            the exchange has what it held.
    """

    resource: str
    epoch: int
    seq: int
    state: str
    code: str
    detail: str
    cure: Literal["reread", "remove"]


@dataclass(frozen=True)
class Looked:
    """Files that were compared.

    Args:
        files: how many.
        bytes: of them.
        next: the place to go on behind, or None: that was all.
    """

    files: int
    bytes: int
    damages: tuple[Damage, ...]
    next: Place | None


def look(lane: Lane, after: Place) -> Looked:
    """Compare the files behind a place with what was registered; blocks on the disk."""
    parts, count, size = lane.parts, 0, 0
    damages: list[Damage] = []
    began = parts.chance.clock()
    last = after
    for batch in parts.state.kept_files(lane.stream_id, after=after, limit=MOST):
        if count and parts.chance.clock() - began > LOOK_S:
            return Looked(count, size, tuple(damages), last)
        found = damage(lane, batch)
        damages += [found] if found is not None else []
        last = (batch.epoch, batch.seq)
        count, size = count + 1, size + batch.size
    return Looked(count, size, tuple(damages), last if count == MOST else None)


def damage(lane: Lane, batch: Batch) -> Damage | None:
    """What is wrong with a batch that is kept, or None."""
    try:
        files.check(lane.parts, batch)
        _check_links(lane, batch)
    except FepError as e:
        return Damage(
            resource=lane.resource,
            epoch=batch.epoch,
            seq=batch.seq,
            state=batch.state,
            code=e.code,
            detail=e.detail,
            cure="reread" if batch.state == "waiting" else "remove",
        )
    return None


def _check_links(lane: Lane, batch: Batch) -> None:
    """Whether a batch says of itself where the state has it, and chains to it.

    Raises:
        SpoolDamaged: it does not.
    """
    manifest = files.manifest_of(lane.parts, batch)
    own = lane.batch_id(batch.epoch, batch.seq)
    if manifest.id != own:
        raise SpoolDamaged(f"{batch.file}: expected {own}, got {manifest.id}")
    expected = files.before(lane.parts, batch)
    if manifest.stream.prev != expected:
        got = manifest.stream.prev
        raise SpoolDamaged(f"{batch.file}: prev: expected {expected}, got {got}")


# --- mend ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Mended:
    """What was done.

    Args:
        removed: files that went; the exchange has what they held.
        epoch: the new epoch that reads the source again, or None.
    """

    removed: int
    epoch: int | None


async def mend(hands: Hands, places: Sequence[Place]) -> Mended:
    """Lead what is damaged down its safe path; what is whole by now stays.

    Raises:
        PeerFault: a new epoch is needed, and the exchange does not say its position.
    """
    lane, parts = hands.lane, hands.lane.parts
    found = await undivided(partial(_damaged, lane, places))
    settled = [b for b in found if b.state != "waiting"]

    def removed() -> None:
        parts.spool.remove(b.file for b in settled)
        parts.state.mark_gone(settled)

    await undivided(removed)
    if len(settled) == len(found):
        return Mended(len(settled), None)
    await hands.reopen(await lane.stream(), await hands.ask(), "spool-lost")
    return Mended(len(settled), (await lane.stream()).head.epoch)


def _damaged(lane: Lane, places: Sequence[Place]) -> list[Batch]:
    state = lane.parts.state
    named = [state.batch(lane.stream_id, epoch, seq) for epoch, seq in places]
    kept = [b for b in named if b is not None and not b.gone]
    return [b for b in kept if damage(lane, b) is not None]


# --- send again ---------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A batch that was sealed since then.

    Args:
        state: as we have it; ``loaded`` once its receipt says so.
        lost: whether the exchange does not have it, though it signed that it did.
    """

    epoch: int
    seq: int
    sealed_at: str
    state: str
    lost: bool


@dataclass(frozen=True)
class Replay:
    """What the exchange has, and what is to be done about the rest.

    Args:
        position: (epoch, seq) of the last batch that the exchange has.
        action: ``none``: it has everything that it signed for; ``send``: what it lost
            is sent again as it was sealed; ``read``: that cannot be, and the source is
            read again in a new epoch.
        why: what stands in the way of sending, or None.
        lost: batches that the exchange signed for and does not have.
        batches: those sealed since then, oldest first; the first :data:`MOST`.
        done: whether it was done, or only looked at.
    """

    resource: str
    position: Place
    action: Literal["none", "send", "read"]
    why: str | None
    lost: int
    batches: tuple[Step, ...]
    done: bool


async def replay(hands: Hands, since: str, *, do: bool) -> Replay:
    """Send again what was sealed since then and the exchange lost, or read it again.

    Without ``do`` it is only looked at.

    Raises:
        PeerFault: the exchange does not say its position.
    """
    lane = hands.lane
    asked = await hands.ask()
    found = await undivided(partial(_planned, lane, asked[0], since, do))
    if not do or found.action == "none":
        return found
    stream = await lane.stream()
    if found.action == "read":
        fits = await undivided(partial(_stands, lane, asked[0]))
        await hands.reopen(stream, asked, "exchange-restored" if fits else "restored")
        return found
    behind = found.position
    again = partial(lane.parts.state.wait_again, lane.stream_id, behind)
    await undivided(again)
    hands.stand(asked[0])
    lane.changed()
    return found


def _planned(lane: Lane, position: Position, since: str, do: bool) -> Replay:
    state, place = lane.parts.state, (position.epoch, position.seq)
    behind = state.offered(lane.stream_id, after=place)
    lost = [b for b in behind if b.state != "waiting"]
    why = None
    if not _stands(lane, position):
        why = "the exchange's position is not on our chain"
    elif lost:
        why = _obstacle(lane, position, behind, since)
    action: Literal["none", "send", "read"] = "none"
    if why is not None:
        action = "read"
    elif lost:
        action = "send"
    listed = state.sealed_since(lane.stream_id, since=since, limit=MOST)
    return Replay(
        resource=lane.resource,
        position=place,
        action=action,
        why=why,
        lost=len(lost),
        batches=tuple(_step(b, place) for b in listed),
        done=do and action != "none",
    )


def _step(batch: Batch, place: Place) -> Step:
    lost = (batch.epoch, batch.seq) > place and batch.state != "waiting"
    return Step(batch.epoch, batch.seq, batch.sealed_at, batch.state, lost)


def _stands(lane: Lane, position: Position) -> bool:
    """Whether the exchange's last batch is one of ours, or it has none at all."""
    if position.digest is None:
        return True
    ours = lane.parts.state.batch(lane.stream_id, position.epoch, position.seq)
    return ours is not None and ours.digest == position.digest


def _obstacle(
    lane: Lane, position: Position, behind: Iterable[Batch], since: str
) -> str | None:
    """Why the batches behind a position cannot be sent again as they are, or None."""
    prev, begin = position.digest, parse_time(since)
    for batch in behind:
        named = f"{batch.epoch}/{batch.seq}"
        if parse_time(batch.sealed_at) < begin:
            return f"{named}, sealed at {batch.sealed_at}, is lost too"
        if batch.gone:
            return f"{named}: its file is not kept any more"
        try:
            manifest = files.manifest_of(lane.parts, batch)
            path: Path = lane.parts.spool.path(batch.file)
            if not path.is_file() or path.stat().st_size != batch.size:
                return f"{named}: its file is not there, or cut"
            files.check_gate(lane, batch)
        except (SpoolDamaged, GateClosed) as e:
            return f"{e.code}: {e.detail}"
        if manifest.stream.prev != prev:
            return f"{named}: the batch before it was given up"
        prev = batch.digest
    return None
