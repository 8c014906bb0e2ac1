# SPDX-License-Identifier: Apache-2.0
"""What stays of resources that have left the catalogue, and what counts on it.

Digests that nothing is compared with any more, and batches that wait for a sender that
does not come back: both are given up, and with them the frontier that counts on them.
What is paused, shut by its gate, or has a faulty document is not gone.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial

from agent.audit.events import BatchesGivenUp, DigestsRemoved
from agent.pipeline import state_folder
from agent.pipeline.flow import start
from agent.pipeline.flow.seams import Parts, undivided
from agent.state import Leftover, StreamKey
from agent.wire.grammar import format_time


async def forget(parts: Parts, known: Collection[str]) -> None:
    """Give up what nobody sends and what nobody compares with any more.

    Args:
        parts: of the flow; nothing reads or sends a resource that is not known.
        known: all codes of the catalogue, those too whose gate is shut.

    Raises:
        SpoolWriteFailed: the disk refused.
        StateDamaged: the state is wrong.
        AuditWriteFailed: it could not be recorded; then nothing is given up.
    """
    sender, leftovers = parts.sender, parts.state.leftovers
    waiting = partial(leftovers.waiting, sender.producer, sender.aud, known=known)
    for found in await undivided(waiting):
        await parts.record(_given_up(found))
        at = format_time(parts.chance.now())
        await undivided(partial(leftovers.give_up, found.stream, at=at))
    removed = await undivided(partial(_remove_digests, parts, known))
    if removed is not None:
        parts.tell(removed)


def _given_up(found: Leftover) -> BatchesGivenUp:
    return BatchesGivenUp(
        resource=found.resource,
        batches=found.batches,
        size=found.size,
        first="{}/{}".format(*found.first),
        last="{}/{}".format(*found.last),
    )


def _remove_digests(parts: Parts, known: Collection[str]) -> DigestsRemoved | None:
    """Delete the digests of resources that the catalogue does not have.

    If one of them ever comes back, it is read in full: its frontier goes first, so that
    none is left that counts on a file.

    Args:
        parts: of the flow; nothing reads a resource that is not known.
        known: all codes of the catalogue, those too whose gate is shut.

    Returns:
        What was removed, or None.

    Raises:
        SpoolWriteFailed: the folder cannot be read or changed.
        StateDamaged: the state is wrong.
    """
    if parts.states is None:
        return None
    gone = sorted(state_folder.resources(parts.states) - set(known))
    for resource in gone:
        key = StreamKey(parts.sender.producer, parts.sender.aud, resource)
        stream = parts.state.stream(key).id
        frontier = parts.state.frontier(stream)
        if frontier is not None and frontier.method == start.DIFF:
            parts.state.forget_frontier(stream)
        state_folder.keep(parts.states, resource, None)
    return DigestsRemoved(tuple(gone)) if gone else None
