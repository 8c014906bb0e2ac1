# SPDX-License-Identifier: Apache-2.0
"""The commands of the exchange put together: what carries each of them out."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from pathlib import Path

from agent import VERSION
from agent.audit.log import AuditLog
from agent.control import diagnosis
from agent.control.bundle import pack
from agent.control.diagnosis import Told
from agent.daemon.commands import Books, Chance, CommandLoop, Hands, Terms
from agent.daemon.lookup_assembly import Ground, now
from agent.daemon.work import Board
from agent.local.desk import Desk
from agent.state import State


def make_commands(
    ground: Ground,
    state: State,
    log: AuditLog,
    desk: Desk,
    board: Board,
) -> CommandLoop:
    """The loop of this daemon; the ceiling that holds now says what is allowed."""
    found, directory = ground.settings, ground.directory
    renew = partial(directory.refresh, ground.exchange.directory)
    return CommandLoop(
        ground.exchange,
        Hands(
            refresh=partial(_refresh, ground),
            run=partial(desk.pull, confirm_deletes=False),
            reconcile=partial(desk.pull, confirm_deletes=False, kind="reconcile"),
            diagnostics=partial(_bundle, desk, board.work.config),
        ),
        Terms(
            found.agent.node,
            found.exchange.aud,
            lambda: board.work.ceiling.commands,
            lambda: directory.fresh,
            renew,
        ),
        Books(state.commands, log.append, ground.tell, ground.keyring),
        Chance(now, time.monotonic, asyncio.sleep),
    )


async def _refresh(ground: Ground) -> None:
    """What the city says now, and the exchange's directory."""
    if ground.trust is not None:
        await ground.trust.refresh()
    await ground.directory.refresh(ground.exchange.directory)


async def _bundle(desk: Desk, config: Path) -> bytes:
    """A diagnostics bundle, made while the daemon runs."""
    body, at = desk.diagnostics(), now()
    told = Told(body["status"], body["counters"], body["events"])

    def made() -> bytes:
        found = diagnosis.documents(config, told, ask=diagnosis.asked, now=at)
        return pack(found, version=VERSION, now=at)

    return await asyncio.to_thread(made)
