# SPDX-License-Identifier: Apache-2.0
"""What the centre wants of this node: verified documents to an overlay and its turn."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from agent import settings
from agent.control import ceiling
from agent.control.merge import merge
from agent.control.overlay import Overlay
from agent.control.trust import Verified
from agent.daemon.central_parts import Wanted
from agent.daemon.work import Work
from agent.errors import TrustExpired
from agent.wire import strict
from agent.wire.grammar import format_time
from agent.wire.repository import HALT_FILE, ROLLOUT_FILE, group_file, node_file
from agent.wire.rollout import parse_halt, parse_rollout

AT_ONCE = datetime.min.replace(tzinfo=UTC)
"""When a ring opens that nobody waits for."""


def _check_fresh(found: Verified, now: datetime) -> None:
    """What was verified may be kept for long: a ring may open later.

    Raises:
        TrustExpired: what runs goes on, and nothing new begins.
    """
    for role, ends in sorted(found.expires.items()):
        if ends <= now:
            said = f"{role}: expected it signed anew before {format_time(ends)}"
            raise TrustExpired(said)


def wanted(found: Verified, work: Work, now: datetime) -> Wanted:
    """What verified documents want of this node.

    Args:
        found: see there.
        work: what holds now; the settings' file and the ceiling's are read.
        now: aware UTC.

    Raises:
        TrustExpired: they are too old by now.
        DocumentInvalid, CeilingForbids, ConfigInvalid: they cannot hold here; with
            every fault.
        MalformedMessage: ``rollout.json`` or ``halt.json`` cannot be used.
    """
    _check_fresh(found, now)
    node, files = work.settings.agent.node, found.files
    bounds = ceiling.load(work.settings.agent.ceiling)
    overlay = merge(settings.tables(work.config), files, node=node, ceiling=bounds)
    halt = files.get(HALT_FILE)
    return Wanted(
        overlay if overlay.tables or overlay.off or work.overlay else None,
        _parts(files, node),
        _opens(files, node, overlay),
        found.stopped.generations | (frozenset() if halt is None else parse_halt(halt)),
    )


def _opens(files: Mapping[str, bytes], node: str, overlay: Overlay) -> datetime | None:
    """When this node may take it; what is older than the rollout, at once."""
    if ROLLOUT_FILE not in files:
        return AT_ONCE
    rollout = parse_rollout(files[ROLLOUT_FILE])
    if overlay.generation < rollout.generation:
        return AT_ONCE
    ring = rollout.ring(node)
    return None if ring is None else ring.start


def _parts(files: Mapping[str, bytes], node: str) -> frozenset[int]:
    """Generations of the documents of a node, which :func:`merge` found good."""
    if node_file(node) not in files:
        return frozenset()
    own = strict.loads(files[node_file(node)])
    groups = (strict.loads(files[group_file(g)]) for g in own.get("groups", ()))
    return frozenset({own["generation"], *(group["generation"] for group in groups)})
