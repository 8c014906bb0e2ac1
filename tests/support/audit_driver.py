# SPDX-License-Identifier: Apache-2.0
"""A small program that answers lookups as the flow does, to be broken from outside.

``python -m tests.support.audit_driver FOLDER ROUNDS [WIDTH]`` opens the log of FOLDER
and does ROUNDS rounds of WIDTH lookups at once, each with a checkpoint at its end. It
prints ``begun I``, ``settled I N`` and ``head SIZE ROOT``, each once that is durable.
Exit code: that of the error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from agent.audit.daykeys import DayKeys
from agent.audit.log import NEW, AuditLog
from agent.crypto.jose import message_digest
from agent.crypto.note import parse_checkpoint, parse_note
from agent.crypto.notekey import NoteKey
from agent.errors import FepError
from agent.state.ledger import Ledger
from tests.support.audit_log import (
    CONSUMER,
    ORIGIN,
    decided,
    jti_of,
    reply_of,
    request_of,
)

EXP = 1 << 40
"""Never over."""


def key_of(folder: Path) -> NoteKey:
    """The audit key of a folder; made with it."""
    path = folder / "audit.pem"
    if not path.exists():
        path.write_bytes(NoteKey.generate("audit").pem())
    return NoteKey.from_pem(path.read_bytes(), purpose="audit")


def opened(folder: Path) -> AuditLog:
    """The log of a folder, not started."""
    return AuditLog(
        Ledger(folder / "lookup.db"),
        origin=ORIGIN,
        key=key_of(folder),
        day_keys=DayKeys(folder / "evidence"),
        tell=lambda _event: None,
        now=lambda: datetime.now(UTC),
    )


def say(text: str) -> None:
    """One line, at once."""
    os.write(1, f"{text}\n".encode())


async def work(folder: Path, rounds: int, width: int) -> None:
    """Begin and settle lookups; ends with the first error."""
    log = opened(folder)
    try:
        await log.start(version="1.0")
        for _ in range(rounds):
            await _round(log, log.head().size * 1000, width)
    finally:
        await log.close()


async def _round(log: AuditLog, start: int, width: int) -> None:
    numbers = range(start, start + width)
    log.key_for(log.today())
    await asyncio.gather(*(_begin(log, i) for i in numbers))
    say("settling")
    await asyncio.gather(*(_settle(log, i) for i in numbers))
    say("settled")
    note = await log.checkpoint()
    if note is not None:
        head = parse_checkpoint(parse_note(note).body)
        say(f"head {head.size} {head.root.hex()}")


async def _begin(log: AuditLog, i: int) -> None:
    digest = message_digest(request_of(i))
    assert await log.begin(CONSUMER, jti_of(i), digest=digest, exp=EXP) == NEW
    say(f"begun {i}")


async def _settle(log: AuditLog, i: int) -> None:
    day = log.today()
    event = decided(i, log.key_for(day), day=day)
    n = await log.settle(
        CONSUMER, jti_of(i), event=event, request=request_of(i), reply=reply_of(i)
    )
    say(f"settled {i} {n}")


def main(argv: list[str]) -> int:
    """Run; the exit code of the error."""
    width = int(argv[3]) if len(argv) > 3 else 4
    try:
        asyncio.run(work(Path(argv[1]), int(argv[2]), width))
    except FepError as e:
        sys.stderr.write(f"{e.code}: {e.detail}\n")
        return e.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
