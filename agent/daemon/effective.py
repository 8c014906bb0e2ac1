# SPDX-License-Identifier: Apache-2.0
"""The settings that hold: ``agent.toml``, and over it what the centre has set.

Rules

1. What the centre has set is held against ``agent.toml`` and the ceiling of now, at
   every load. What is not allowed any more takes all of it away, and is told.
2. A damaged overlay is replaced by the one that ran well before it, and told; without
   any, ``agent.toml`` alone holds.
3. Without a pinned root nobody is the centre, whatever lies in the state folder.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import settings
from agent.control import ceiling as ceilings
from agent.control import overlay as overlays
from agent.control.ceiling import Ceiling
from agent.control.merge import fit
from agent.control.overlay import Overlay
from agent.errors import (
    CeilingForbids,
    ConfigInvalid,
    DocumentInvalid,
    FepError,
    RunningDamaged,
)
from agent.settings import Settings


@dataclass(frozen=True)
class Effective:
    """What holds.

    Args:
        settings: of the agent.
        ceiling: what the centre may set.
        overlay: what of it the centre has set; None: nothing, or nothing that may hold.
        refused: why what the centre had set does not hold, or not all of it.
    """

    settings: Settings
    ceiling: Ceiling
    overlay: Overlay | None
    refused: FepError | None


Kept = tuple[Overlay | None, FepError | None]
"""An overlay, and what is wrong with its file."""


def running(local: Settings) -> Kept:
    """What the centre has set; if its file is damaged, what ran well before."""
    if not local.exchange.tuf_root_sha256:
        return None, None
    try:
        return overlays.read(local.paths.running), None
    except RunningDamaged as damage:
        with contextlib.suppress(RunningDamaged):
            return overlays.read(local.paths.good), damage
        return None, damage


def effective(config: Path, kept: Callable[[Settings], Kept] = running) -> Effective:
    """What holds by the files.

    Args:
        config: ``agent.toml``.
        kept: gives what the centre has set.

    Raises:
        ConfigInvalid: ``agent.toml`` or the ceiling cannot be used; with every fault.
    """
    local = settings.load(config, secrets=False)
    ceiling = ceilings.load(local.agent.ceiling)
    overlay, damage = kept(local)
    if overlay is None:
        return Effective(local, ceiling, None, damage)
    try:
        overlay = fit(overlay, settings.tables(config), ceiling=ceiling)
        found = settings.load(config, overlay=overlay.tables, secrets=False)
    except ConfigInvalid as e:  # agent.toml alone is right
        wrong = DocumentInvalid(faults=e.faults)
        return Effective(local, ceiling, None, wrong)
    except CeilingForbids as e:
        return Effective(local, ceiling, None, e)
    except (AttributeError, KeyError, TypeError) as e:  # not of the shape we wrote
        shape = RunningDamaged(f"{local.paths.running}: {type(e).__name__}")
        return Effective(local, ceiling, None, shape)
    return Effective(found, ceiling, overlay, damage)
