# SPDX-License-Identifier: Apache-2.0
"""The opener as the daemon keeps it: a process of its own.

::

    async with opened(Opener([key])) as life:
        ...
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from agent.lookup.opener.process import Opener

PATIENCE_S = 60.0


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[asyncio.Task[None]]:
    """An opener that is up; gives its life, which ends with it."""
    life = asyncio.create_task(opener.live())
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not opener.up and not life.done():  # noqa: ASYNC110 - a process starts
                await asyncio.sleep(0.005)
        yield life
    finally:
        life.cancel()
        await asyncio.wait({life})


def openers() -> set[int]:
    """Our children that are openers."""
    tasks = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = [int(c) for task in tasks for c in task.read_text().split()]
    return {
        c
        for c in children
        if b"agent.lookup.opener" in Path(f"/proc/{c}/cmdline").read_bytes()
    }
