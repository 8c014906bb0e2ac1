# SPDX-License-Identifier: Apache-2.0
"""Have a child put the rows of a rejected batch into quarantine; the daemon's side."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

from agent.child.process import Child, Guard
from agent.errors import WorkerDied
from agent.model.rejected import RejectedBatch
from agent.pipeline import quarantine_folder

COMMAND = (sys.executable, "-I", "-m", "agent.pipeline.worker.given")
"""How the child starts; its descriptor number follows."""
SILENCE_S = 300.0
"""The largest batch takes a few seconds; so long the child may be silent, seconds."""


async def give_back(
    rejected: RejectedBatch,
    folder: Path,
    *,
    rss_bytes: int,
    command: Sequence[str] = COMMAND,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Write the rows with the exchange's reason; how many there were.

    A file of the same batch is replaced, so that doing it again does no harm.

    Args:
        rejected: the batch.
        folder: of the quarantine; made if it is not there.
        rss_bytes: memory that the child may use.
        command: how it starts.
        environ: environment to choose from; None is this process's.

    Raises:
        WorkerDied: it could not read or write, or needs too much.
    """
    run = f"{rejected.epoch}-{rejected.seq}.rejected"
    out = folder / quarantine_folder.file_name(rejected.resource, run)
    child = Child(
        command,
        guard=Guard(rss_bytes=rss_bytes, silence_s=SILENCE_S),
        environ=os.environ if environ is None else environ,
    )
    make = partial(folder.mkdir, mode=0o700, parents=True, exist_ok=True)
    await asyncio.to_thread(make)
    await child.start()
    try:
        question = {**asdict(rejected), "out": str(out)}
        await child.write(json.dumps(question).encode() + b"\n")
        line = await child.read()
        if not line:
            raise await child.died()
        await child.finish()
    finally:
        await child.kill("killed by its caller")
    match json.loads(line):
        case {"rows": int(rows)}:
            return rows
        case {"fault": str(fault)}:
            raise WorkerDied(f"{out.name}: {fault}")
        case _:
            raise WorkerDied(f"{out.name}: an answer of an unknown form")
