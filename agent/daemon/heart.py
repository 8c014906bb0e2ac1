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
) -> Heart:
    """The heart of this daemon; ``status`` is what people are shown."""

    def make() -> Heartbeat:
        reason = next((e.code for e in reloader.troubles()), None)
        standing = Standing(state.incarnation, board.work.digest, reason)
        return beat(status(None), standing, n=state.beats.next(), now=_now())

    return Heart(
        make,
        ground.keyring,
        Outlet(ground.exchange.heartbeat, ground.nudged, ground.tell),
        Rhythm(
            lambda: board.settings.exchange.heartbeat_s,
            _now,
            asyncio.sleep,
            random.SystemRandom().uniform,
        ),
    )


def _now() -> datetime:
    return datetime.now(UTC)
