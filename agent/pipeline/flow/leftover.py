# SPDX-License-Identifier: Apache-2.0
"""What stays of resources that have left the catalogue, and what counts on it."""

from __future__ import annotations

from collections.abc import Collection

from agent.audit.events import DigestsRemoved
from agent.pipeline import state_folder
from agent.pipeline.flow import start
from agent.pipeline.flow.seams import Parts
from agent.state import StreamKey


def remove_digests(parts: Parts, known: Collection[str]) -> DigestsRemoved | None:
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
