# SPDX-License-Identifier: Apache-2.0
"""The heartbeat put together: what it tells, where it goes, when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from agent.control.heartbeat import Heart, Outlet, Rhythm, Standing, beat
from agent.daemon.lookup_assembly import Ground
from agent.daemon.reload import Reloader
from agent.daemon.work import Board
from agent.state import State
from agent.wire.heartbeat import Heartbeat


def make_heart(
    ground: Ground,
    board: Board,
    state: State,
    reloader: Reloader,
    status: Callable[[str | None], dict[str, Any]],
    ordered: Callable[[], None],
) -> Heart:
    """The heart of this daemon.

    Args:
        ground: see there.
        board: what holds now.
        state: numbers the beats.
        reloader: knows what keeps newer settings from holding.
        status: what people are shown.
        ordered: asks for the list of commands to be fetched.
    """

    def make() -> Heartbeat:
        reason = next((e.code for e in reloader.troubles()), None)
        standing = Standing(state.incarnation, board.work.digest, reason)
        return beat(status(None), standing, n=state.beats.next(), now=_now())

    def refresh(names: frozenset[str]) -> None:
        if "directory" in names:
            ground.nudged()
        if "commands" in names:
            ordered()

    return Heart(
        make,
        ground.keyring,
        Outlet(ground.exchange.heartbeat, refresh, ground.tell),
        Rhythm(
            lambda: board.settings.exchange.heartbeat_s,
            _now,
            asyncio.sleep,
            random.SystemRandom().uniform,
        ),
    )


def _now() -> datetime:
    return datetime.now(UTC)
