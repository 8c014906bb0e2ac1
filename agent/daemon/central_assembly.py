# SPDX-License-Identifier: Apache-2.0
"""The parts that take the centre's configuration, made once and passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from agent.audit.events import Event
from agent.audit.log import AuditLog
from agent.control.applied import Applied
from agent.control.trust import Verified
from agent.daemon.central import Central
from agent.daemon.central_desk import CentralDesk, Sight
from agent.daemon.central_parts import Hands, Seams, Store, Wanted
from agent.daemon.heart import Alone, ConfigTold
from agent.daemon.lookup_assembly import Ground
from agent.daemon.proving import Prover, check_sources
from agent.daemon.reload import Reloader
from agent.daemon.trial import Watch
from agent.daemon.wanted import wanted
from agent.daemon.work import Board, tried
from agent.errors import FepError
from agent.pipeline.flow.push import PushFlow
from agent.pipeline.uplink.endpoint import Endpoint
from agent.settings import Settings
from agent.state import State
from agent.wire.grammar import parse_time


@dataclass(frozen=True)
class Parts:
    """What it is made of.

    Args:
        ground: see there.
        board: what holds.
        state: of the daemon.
        flow: of the pushes.
        reloader: makes the files hold.
        log: the audit log.
        endpoint: who we are, by settings.
        listen: has somebody hear every event.
    """

    ground: Ground
    board: Board
    state: State
    flow: PushFlow
    reloader: Reloader
    log: AuditLog
    endpoint: Callable[[Settings], Endpoint]
    listen: Callable[[Callable[[Event], None]], None]


@dataclass(frozen=True)
class Centre:
    """The centre's configuration, as the rest of the daemon sees it.

    Args:
        desk: what people see and hold.
        told: what heartbeats tell.
        central: takes it; None where no root is pinned.
    """

    desk: CentralDesk
    told: ConfigTold
    central: Central | None

    def troubles(self) -> list[FepError]:
        """What is wrong now."""
        return [] if self.central is None else self.central.troubles()


def make_centre(parts: Parts) -> Centre:
    """The parts that take the centre's configuration, if there is one."""
    ground, board = parts.ground, parts.board
    rows = parts.state.central
    applied = Applied(ground.settings.paths.config, full=ground.ballast.give_up)
    desk = CentralDesk(
        rows,
        applied,
        look=lambda: Sight(pinned=False) if central is None else central.sight(),
        hint=lambda: None if central is None else central.hint(),
        now=_now,
    )
    central: Central | None = None
    trust = ground.trust
    if trust is None:
        return Centre(desk, Alone(board, parts.reloader), None)
    watch = Watch(parts.flow, lambda code: board.settings.plans(code), _now)
    parts.listen(watch.hear)
    found = ground.settings.exchange
    central = Central(
        board,
        Store(applied, rows, partial(_held_until, desk)),
        Hands(
            wanted=partial(_wanted, board),
            kept=trust.trust.kept,
            distrust=lambda: [*parts.reloader.troubles(), *trust.troubles()],
            tried=partial(tried, board.work.config),
            check=check_sources,
            reloads=parts.reloader,
            record=parts.log.append,
            tell=ground.tell,
        ),
        watch,
        Prover(parts.endpoint, aud=found.aud, kid=found.kid, now=_now),
        Seams(_now),
    )
    trust.listen(central.heard)
    return Centre(desk, central, central)


def _held_until(desk: CentralDesk) -> datetime | None:
    found = desk.holding()
    return None if found is None else parse_time(found["until"])


def _wanted(board: Board, found: Verified) -> Wanted:
    return wanted(found, board.work, _now())


def _now() -> datetime:
    return datetime.now(UTC)
