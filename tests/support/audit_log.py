# SPDX-License-Identifier: Apache-2.0
"""An audit log in a folder, a witness beside it, and records to fill it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from agent.audit.daykeys import DayKeys
from agent.audit.desk import AuditDesk
from agent.audit.events import Event, LookupDecided
from agent.audit.export import export
from agent.audit.log import NEW, AuditLog
from agent.audit.witness import Peer, Witness
from agent.crypto.daykey import DayKey
from agent.crypto.jose import message_digest
from agent.crypto.note import (
    Checkpoint,
    cosign,
    open_checkpoint,
    parse_add_checkpoint,
    parse_note,
)
from agent.crypto.notekey import NoteKey
from agent.crypto.tree import EMPTY_ROOT, verify_consistency
from agent.errors import BadProof, BadSignature
from agent.state.ledger import Ledger

NODE = "11330100MB0000000A/fep-01"
CONSUMER = "11330100MB0000000B/fep-01"
ORIGIN = f"{NODE}/audit"
WITNESS = "yunxi.exchange/witness"
START = datetime(2026, 11, 21, 8, tzinfo=UTC)
LOG_KEY = NoteKey.generate("audit")
WITNESS_KEY = NoteKey.generate("witness")


def request_of(i: int, text: str = "") -> str:
    """The compact JWS of a request, as far as a log looks at it."""
    return f"aGVhZGVy.{text or f'cmVxdWVzdA{i:08d}'}.c2lnbmF0dXJl"


def reply_of(i: int, text: str = "") -> str:
    """The compact JWS of its reply."""
    return f"aGVhZGVy.{text or f'cmVwbHk{i:08d}'}.c2lnbmF0dXJl"


def jti_of(i: int) -> str:
    """A uuid7 for each number."""
    return f"0190b7e0-0000-7000-8000-{i:012d}"


def decided(i: int, key: DayKey, *, day: str, **changes: Any) -> LookupDecided:
    """The record of a decision about subject ``frames(i)``."""
    decision = jti_of(i + 500_000_000)
    fields: dict[str, Any] = {
        "day": day,
        "decision_id": decision,
        "consumer": CONSUMER,
        "jti": key.commit(decision, "jti", jti_of(i)),
        "op": "get",
        "resource": "101001/000001",
        "purpose": "administrative_basis",
        "fields": ("name", "address"),
        "items": 1,
        "subjects": (key.subject(frames_of(i)),),
        "basis": key.commit(decision, "basis", f"case:TA-2026-{i:05d}"),
        "matter": None,
        "officer": key.commit(decision, "officer", "王某某"),
        "status": "ok",
        "reasons": (),
        "found": 1,
        "rev": 1,
        "rule": "tax-residents",
        "request": message_digest(request_of(i)),
        "reply": message_digest(reply_of(i)),
        "ms": 3,
    }
    return LookupDecided(**{**fields, **changes})


def frames_of(i: int) -> bytes:
    """The canonical key of subject i."""
    return b"\x01\x00\x00\x00\x12" + f"{i:018d}".encode()


@dataclass
class Clock:
    """A clock that moves a millisecond whenever it is read."""

    at: datetime = START

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at


@dataclass
class WitnessDouble:
    """The witness of the exchange, as C2SP tlog-witness wants it.

    ``answers`` are given first, instead of judging.
    """

    known: Checkpoint = field(default_factory=lambda: Checkpoint(ORIGIN, 0, EMPTY_ROOT))
    answers: list[tuple[int, str] | Exception] = field(default_factory=list)
    key: NoteKey = WITNESS_KEY
    log_key: NoteKey = LOG_KEY
    asked: int = 0

    async def post(self, body: bytes) -> tuple[int, str]:
        """Status and text."""
        self.asked += 1
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        return self.judge(body)

    def judge(self, body: bytes) -> tuple[int, str]:
        """Cosign what continues what is known."""
        asked = parse_add_checkpoint(body)
        try:
            new = open_checkpoint(asked.checkpoint, self.log_key.public, name=ORIGIN)
        except BadSignature:
            return 403, ""
        same = self.known.size == new.size
        if asked.old != self.known.size or (same and self.known.root != new.root):
            return 409, f"{self.known.size}\n"
        try:
            verify_consistency(
                old=self.known.size,
                new=new.size,
                path=asked.path,
                old_root=self.known.root,
                new_root=new.root,
            )
        except BadProof:
            return 422, ""
        self.known = new
        text = parse_note(asked.checkpoint).body
        return 200, cosign(text, self.key, WITNESS, 1_795_248_000 + new.size)


@dataclass
class Site:
    """A log with what stands around it.

    Args:
        folder: of the ledger and the day keys.
        log: started.
        told: events in their order.
        clock: of the log.
    """

    folder: Path
    log: AuditLog
    told: list[Event]
    clock: Clock

    async def lookup(self, i: int, **changes: Any) -> int:
        """Begin and settle lookup i; the number of its record."""
        day = self.log.today()
        event = decided(i, self.log.key_for(day), day=day, **changes)
        begun = await self.log.begin(
            CONSUMER, jti_of(i), digest=event.request, exp=int(START.timestamp()) + 60
        )
        assert begun == NEW
        return await self.log.settle(
            CONSUMER, jti_of(i), event=event, request=request_of(i), reply=reply_of(i)
        )

    def witness(self, double: WitnessDouble) -> Witness:
        """The side of the log that talks to a witness."""
        return Witness(self.log, peer(double), tell=self.told.append)

    def desk(
        self,
        double: WitnessDouble | None = None,
        *,
        looked_at: int = 50_000,
        signing: bool = True,
    ) -> AuditDesk:
        """What people ask; a key is one item ``id`` with a number."""
        return AuditDesk(
            self.log,
            frames=lambda _resource, keys: frames_of(int(keys["id"])),
            signers=lambda: [LOG_KEY.public],
            witness=peer(double or WitnessDouble()),
            looked_at=looked_at,
            signing=lambda: signing,
        )


def peer(double: WitnessDouble) -> Peer:
    """A witness as the log sees it."""
    return Peer(WITNESS, lambda: [WITNESS_KEY.public], double.post)


@asynccontextmanager
async def site(
    folder: Path,
    *,
    clock: Clock | None = None,
    key: NoteKey = LOG_KEY,
    boot: str = "",
    full: Callable[[], None] = lambda: None,
) -> AsyncIterator[Site]:
    """A started log; closed at the end. ``full``: asked for room on a full disk."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    told: list[Event] = []
    clock = clock or Clock()
    log = AuditLog(
        Ledger(folder / "lookup.db", full=full),
        origin=ORIGIN,
        key=key,
        day_keys=DayKeys(folder / "evidence"),
        tell=told.append,
        now=clock,
    )
    try:
        await log.start(version="1.0", boot=boot)
        yield Site(folder, log, told, clock)
    finally:
        await log.close()


def raw_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()


async def exported(desk: AuditDesk, folder: Path, since: str | None = None) -> Any:
    """Export through a desk, as the command does through the daemon."""
    loop = asyncio.get_running_loop()

    def ask(what: str, members: Mapping[str, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(
            answer(desk, what, members), loop
        ).result(30)

    return await asyncio.to_thread(export, folder, ask, since=since)


async def answer(desk: AuditDesk, what: str, members: Mapping[str, Any]) -> Any:
    """What a route of the local interface answers."""
    if what == "export":
        return await desk.export(members)
    size = members["size"]
    if what == "leaves":
        return await desk.leaves(members["start"], size=size)
    if what == "tiles":
        return await desk.tiles(members["level"], members["number"], size=size)
    return await desk.checkpoints(members["since"], size=size)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder in memory where there is such, for more than one test."""
    root = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fep-test-", dir=root) as name:
        yield Path(name)


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 2.1, word for word."""
    if not hashes:
        return hashlib.sha256().digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    left, right = naive_root(hashes[:k]), naive_root(hashes[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()
