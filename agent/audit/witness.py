# SPDX-License-Identifier: Apache-2.0
"""Have the exchange cosign the log (C2SP tlog-witness ``add-checkpoint``).

Rules

1. A head is offered with a proof that it only adds to what the witness cosigned last;
   when the witness says that it knows another size (409), the proof is made from there.
2. A cosignature counts only if a witness key of the directory made it.
3. If the witness knows more than we have, or what it knows is no beginning of ours, an
   old copy of the log was put back or records were changed. That is recorded and shown
   until the daemon starts with a log that agrees; nothing mends it by itself. Lookups
   are refused: the records that are missing may be of requests that come again.
4. In each life the newest head of an earlier one is offered first, or, without one, the
   head of no records. Only once the witness agrees another is signed: a log that was
   put back would else sign a second root of a size that it has signed before.
5. A witness that is away delays no lookup: the log goes on, its heads are signed later.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from agent.audit.events import RolledBack, Tell, WitnessTrouble
from agent.audit.log import AuditLog
from agent.crypto.jose import PublicKey
from agent.crypto.note import format_add_checkpoint, parse_note
from agent.errors import (
    AuditDamaged,
    AuditRolledBack,
    AuditWriteFailed,
    BadSignature,
    FepError,
    PeerFault,
    WitnessRefused,
)
from agent.state.ledger_records import KeptCheckpoint

LOOK_S = 1.0
"""Pause between two looks at how far the log has grown."""
TRIES = 3
"""How often one head is offered in a row, the witness naming another size each time."""

Post = Callable[[bytes], Awaitable[tuple[int, str]]]
"""Sends the body of ``add-checkpoint``; status and text of the answer."""


@dataclass(frozen=True)
class Peer:
    """The witness.

    Args:
        name: of its key, ``<aud>/witness``.
        signers: its keys as the directory has them now, of purpose ``witness``.
        post: how to ask it; raises ``PeerFault`` when it cannot be reached.
    """

    name: str
    signers: Callable[[], Sequence[PublicKey]]
    post: Post


@dataclass(frozen=True)
class Pace:
    """When a head is signed and offered.

    Args:
        every_s: after so many seconds, if there is anything new.
        records: or after so many new records.
    """

    every_s: float = 60.0
    records: int = 1000


class Witness:
    """Signs heads and has them cosigned.

    Args:
        log: whose heads.
        peer: the witness.
        tell: for what goes wrong.
    """

    def __init__(self, log: AuditLog, peer: Peer, *, tell: Tell) -> None:
        self._log = log
        self._peer = peer
        self._tell = tell
        self._said = ""
        self.trouble: FepError | None = None
        self.state: Literal["unknown", "agrees", "beyond"] = "unknown"
        """Whether the witness agrees with this log since the start."""

    async def serve(
        self, pace: Pace, *, sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        """Sign and offer at this pace, the first time at once; ends with the log."""
        while self._log.trouble is None:
            await self.round()
            waited = 0.0
            while waited < pace.every_s and not self._due(pace):
                await sleep(LOOK_S)
                waited += LOOK_S

    async def round(self) -> None:
        """Meet the witness; then sign the head if anything is new, and offer it."""
        try:
            if self.state == "unknown":
                await self._offer(self._log.newest() or self._log.nothing())
            if self.state == "agrees":
                await self._log.checkpoint()
                if (newest := self._log.newest()) is not None:
                    await self._offer(newest)
        except (AuditWriteFailed, AuditDamaged):
            return  # the log itself has told that
        except PeerFault as e:
            self._complain(e)

    def _due(self, pace: Pace) -> bool:
        """Whether there are so many new records that a head is signed at once."""
        head = self._log.head()
        return self.state == "agrees" and head.size - head.checkpoint >= pace.records

    @property
    def barred(self) -> FepError | None:
        """Why no lookup may be answered with this log, or None."""
        return self.trouble if self.state == "beyond" else None

    async def _offer(self, head: KeptCheckpoint) -> None:
        old = self._log.head().cosigned
        if old == head.size and self.state == "agrees":
            return
        for _ in range(TRIES):
            path = await self._log.consistency(old, head.size)
            body = format_add_checkpoint(old, path, self._log.note_of(head))
            status, text = await self._peer.post(body)
            if status == 200:
                await self._take(head, text)
                return
            if status not in (409, 422):
                raise WitnessRefused(f"expected 200, got {status}")
            known = _size(text) if status == 409 else old
            if known > head.size or known == old:
                await self._rolled_back(known)
                return
            old = known
        raise WitnessRefused("it named another size each time")

    async def _take(self, head: KeptCheckpoint, text: str) -> None:
        line = self._genuine(head.note, text)
        if head.size > self._log.head().cosigned:
            await self._log.cosigned(head.size, line)
        self.state, self.trouble, self._said = "agrees", None, ""

    def _genuine(self, note: str, text: str) -> str:
        """The first line of the answer that a key of the witness made."""
        for line in text.splitlines():
            answered = parse_note(f"{note}{line}\n")
            for key in self._peer.signers():
                try:
                    answered.verify_cosignature(key, name=self._peer.name)
                except BadSignature:
                    continue
                return f"{line}\n"
        raise BadSignature(f"expected a cosignature of {self._peer.name}")

    async def _rolled_back(self, known: int) -> None:
        size = self._log.head().size
        self.state = "beyond"
        self.trouble = AuditRolledBack(
            f"here {size} records; the witness cosigned {known} others or more"
            if known <= size
            else f"here {size} records; the witness cosigned {known}"
        )
        await self._log.append(RolledBack(size, known))

    def _complain(self, fault: PeerFault) -> None:
        if self.state == "beyond":
            return
        self.trouble = fault
        if self._said != fault.detail:
            self._said = fault.detail
            self._tell(WitnessTrouble(fault.code, fault.detail))


def _size(text: str) -> int:
    """The size that a 409 names."""
    number = text.strip()
    if not number.isascii() or not number.isdecimal() or len(number) > 18:
        raise WitnessRefused("expected a size in the answer 409")
    return int(number)
