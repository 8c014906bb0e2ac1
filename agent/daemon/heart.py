# SPDX-License-Identifier: Apache-2.0
"""The heartbeat put together: what it tells, where it goes, when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from agent.control.heartbeat import Heart, Outlet, Rhythm, Standing, beat
from agent.daemon.lookup_assembly import Ground
from agent.daemon.reload import Reloader
from agent.daemon.work import Board
from agent.errors import FepError
from agent.state import State
from agent.wire.heartbeat import ConfigStand, Heartbeat


class ConfigTold(Protocol):
    """Says which configuration runs, and hears of beats."""

    def stand(self) -> ConfigStand:
        """What a beat tells of it."""
        ...

    def beaten(self, error: FepError | None) -> None:
        """A beat was taken, None, or was not."""
        ...


def make_heart(
    ground: Ground,
    board: Board,
    state: State,
    config: ConfigTold,
    status: Callable[[str | None], dict[str, Any]],
) -> Heart:
    """The heart of this daemon; ``status`` is what people are shown."""

    def make() -> Heartbeat:
        standing = Standing(state.incarnation, config.stand())
        return beat(status(None), standing, n=state.beats.next(), now=_now())

    def refresh(names: frozenset[str]) -> None:
        if names & {"config", "directory"}:
            ground.nudged()

    return Heart(
        make,
        ground.keyring,
        Outlet(ground.exchange.heartbeat, refresh, ground.tell, config.beaten),
        Rhythm(
            lambda: board.settings.exchange.heartbeat_s,
            _now,
            asyncio.sleep,
            random.SystemRandom().uniform,
        ),
    )


class Alone:
    """The configuration of a node that no centre speaks to.

    Args:
        board: what holds.
        reloader: knows what is wrong with the files.
    """

    def __init__(self, board: Board, reloader: Reloader) -> None:
        self._board = board
        self._reloader = reloader

    def stand(self) -> ConfigStand:
        """What runs."""
        reason = next((e.code for e in self._reloader.troubles()), None)
        return ConfigStand(None, self._board.work.digest, reason=reason)

    def beaten(self, error: FepError | None) -> None:
        """Nothing depends on a beat."""


def _now() -> datetime:
    return datetime.now(UTC)
