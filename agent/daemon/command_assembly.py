# SPDX-License-Identifier: Apache-2.0
"""The commands of the exchange put together: what carries each of them out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from agent import VERSION
from agent.audit.log import AuditLog
from agent.control import diagnosis
from agent.control.bundle import pack
from agent.control.commands import Allowed
from agent.control.diagnosis import Told
from agent.daemon.commands import Books, Chance, CommandLoop, Hands, Terms
from agent.daemon.lookup_assembly import Ground, now
from agent.local.desk import Desk
from agent.state import State


def make_commands(
    ground: Ground,
    state: State,
    log: AuditLog,
    desk: Desk,
    *,
    config: Path,
    allowed: Callable[[], Allowed],
) -> CommandLoop:
    """The loop of this daemon; ``allowed`` is what the department's ceiling says."""
    found, directory = ground.settings, ground.directory
    renew = partial(directory.refresh, ground.exchange.directory)
    return CommandLoop(
        ground.exchange,
        Hands(
            refresh=renew,
            run=partial(desk.pull, confirm_deletes=False),
            reconcile=partial(desk.pull, confirm_deletes=False, kind="reconcile"),
            diagnostics=partial(_bundle, desk, config),
        ),
        Terms(
            found.agent.node,
            found.exchange.aud,
            allowed,
            lambda: directory.fresh,
            renew,
        ),
        Books(state.commands, log.append, ground.tell, ground.keyring),
        Chance(now, time.monotonic, asyncio.sleep),
    )


async def _bundle(desk: Desk, config: Path) -> bytes:
    """A diagnostics bundle, made while the daemon runs."""
    body, at = desk.diagnostics(), now()
    told = Told(body["status"], body["counters"], body["events"])

    def made() -> bytes:
        found = diagnosis.documents(config, told, ask=diagnosis.asked, now=at)
        return pack(found, version=VERSION, now=at)

    return await asyncio.to_thread(made)
