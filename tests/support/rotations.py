# SPDX-License-Identifier: Apache-2.0
"""Ten years of a node's and an exchange's keys, and what was signed with them.

2026  node key A, exchange key X: batches 1 and 2 are sent and receipted
2027  the node rotates to B; A is retired for 30 days
2028  the exchange rotates to Y; X is retired
2029  B is revoked; batch 3 was receipted before, batch 4 after that (by a liar)
2031  the directory of five years on
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from agent.crypto.jose import PrivateKey, message_digest
from agent.model.batch import Quality, Rows
from agent.wire.batch import CatalogRef, Content, Manifest, Snapshot, StreamRef
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeEntry,
    ExchangeFile,
    KeyStatus,
    NodeEntry,
    RevokedFile,
    Status,
)
from agent.wire.keys import KeyStatement
from agent.wire.pack import Writer
from agent.wire.receipt import Receipt, State

USCC = "11990100MB0000018H"
NODE = f"{USCC}/rsj-fep1"
AUD = "yunxi.exchange"
RESOURCE = "101001/000001"
RUN = "0193524c-7c00-7000-8000-000000000001"
PAYLOAD = b"not arrow, but its digest counts"


def at(year: int, month: int = 6) -> str:
    """The first of a month."""
    return f"{year}-{month:02d}-01T00:00:00Z"


@dataclass
class Rotations:
    """Keys over the years.

    Args:
        revoked: kid -> since when the last directory says that it is revoked.
    """

    a: PrivateKey = field(default_factory=lambda: PrivateKey.generate("sign"))
    b: PrivateKey = field(default_factory=lambda: PrivateKey.generate("sign"))
    x: PrivateKey = field(default_factory=lambda: PrivateKey.generate("receipt"))
    y: PrivateKey = field(default_factory=lambda: PrivateKey.generate("receipt"))
    revoked: dict[str, str] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)

    @cached_property
    def statements(self) -> tuple[str, ...]:
        """The node's two, as it signed them once."""
        keys = ((self.a, 2026), (self.b, 2027))
        found = (
            KeyStatement(NODE, n, (key.public,), at(year, 1))
            for n, (key, year) in enumerate(keys, 1)
        )
        return tuple(self.a.sign("fep-keys+jws", one.payload()) for one in found)

    # --- directories ----------------------------------------------------------------

    def directory(self, year: int) -> Directory:
        """What the exchange said in the middle of a year."""
        statements = self.statements[: 1 if year < 2027 else 2]
        keys = [KeyStatus(self.a.public.kid, "active", at(2026, 1), None)]
        if year >= 2027:
            old = KeyStatus(self.a.public.kid, "retired", at(2027, 1), at(2027, 2))
            keys = [old, KeyStatus(self.b.public.kid, "active", at(2027, 1), None)]
        x: Status = "active" if year < 2028 else "retired"
        own: list[tuple[PrivateKey, Status]] = [(self.x, x)]
        own += [(self.y, "active")] if year >= 2028 else []
        entry = ExchangeEntry(AUD, (), tuple((k.public, s) for k, s in own))
        node = NodeEntry(NODE, "active", statements, tuple(keys))
        department = DepartmentFile(USCC, (node,), {RESOURCE: NODE})
        revoked = {k: t for k, t in self.revoked.items() if t <= at(year)}
        return Directory(
            iat=int(datetime(year, 6, 1, tzinfo=UTC).timestamp()),
            departments={USCC: department},
            exchange=ExchangeFile((entry,)),
            revoked=RevokedFile(revoked, {}),
        )

    def signed(self, year: int, by: PrivateKey | None = None) -> str:
        """The same as the exchange signed it then."""
        key = by or (self.x if year < 2028 else self.y)
        return key.sign("fep-directory+jws", self.directory(year).payload())

    # --- batches --------------------------------------------------------------------

    def line(self, seq: int, by: PrivateKey | None = None) -> str:
        """Line 1 of a batch, chained to the one before it."""
        manifest = Manifest(
            aud=AUD,
            producer=NODE,
            resource=RESOURCE,
            catalog=CatalogRef(1, "sha256:" + "a" * 64),
            stream=StreamRef(
                1,
                seq,
                self.digests.get(seq - 1),
                "0" * 32,
                "first" if seq == 1 else None,
            ),
            content=Content(
                len(PAYLOAD), 100, "sha256:" + hashlib.sha256(PAYLOAD).hexdigest()
            ),
            rows=Rows(3, 0, 0),
            mode="full",
            snapshot=Snapshot(RUN, seq, final=False, rows=None),
            deletes_confirmed=None,
            as_of=at(2026),
            run_end=False,
            quality=Quality(3, 0, 0),
            sealed_at=at(2026),
            agent="fep-agent/0.1.0",
        )
        text = (by or self.a).sign("fep-batch+jws", manifest.payload())
        self.digests[seq] = message_digest(text)
        return text

    def receipt(
        self,
        seq: int,
        when: str,
        *,
        by: PrivateKey | None = None,
        state: State = "loaded",
        manifest: str | None = None,
    ) -> str:
        """What the exchange signed about a batch."""
        found = Receipt(
            exchange=AUD,
            producer=NODE,
            resource=RESOURCE,
            epoch=1,
            seq=seq,
            manifest=manifest or self.digests[seq],
            state=state,
            code="bad-payload" if state == "rejected" else None,
            rows=None if state == "rejected" else Rows(3, 0, 0),
            at=when,
        )
        return (by or self.x).sign("fep-receipt+jws", found.payload())


@dataclass
class Contents:
    """What goes into a pack: texts by seq, directories as signed."""

    manifests: dict[int, str] = field(default_factory=dict)
    receipts: list[tuple[int, str, str]] = field(default_factory=list)
    directories: list[str] = field(default_factory=list)

    def write(self, path: Path) -> Path:
        """The pack."""
        with path.open("wb") as file, Writer(file) as pack:
            for seq, text in self.manifests.items():
                pack.manifest(RESOURCE, 1, seq, text)
            for n, (seq, state, text) in enumerate(self.receipts, 1):
                pack.receipt((RESOURCE, 1, seq), state, n, text)
            for text in self.directories:
                pack.directory(text)
        return path


def two_batches(keys: Rotations) -> Contents:
    """Two batches of 2026, stored and loaded, with the directory of then."""
    lines = {seq: keys.line(seq) for seq in (1, 2)}
    receipts: list[tuple[int, str, str]] = []
    states: tuple[State, ...] = ("stored", "loaded")
    for seq in lines:
        for month, state in enumerate(states, 6):
            text = keys.receipt(seq, at(2026, month), state=state)
            receipts.append((seq, state, text))
    return Contents(lines, receipts, [keys.signed(2026)])
