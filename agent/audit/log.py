# SPDX-License-Identifier: Apache-2.0
"""The audit log of a node: records, evidence, checkpoints, policies.

Rules

1. A record is durable when :meth:`AuditLog.append`, :meth:`AuditLog.settle` or
   :meth:`AuditLog.batch_left` returns; only then may what it speaks of be done. If it
   cannot be written they raise, and the caller refuses.
2. A request is begun before the source is asked and settled before its reply leaves.
   One that was begun and not settled when the process ended is found at the next start.
   Once it is forgotten, no request that ends as early is new: the clock may have been
   ahead when it was forgotten, and be right again.
3. No personal value stands in a record. The exact messages are evidence, encrypted with
   the key of their day; :meth:`AuditLog.erase` destroys the key and leaves the tree.
4. Lookups leave the last of the disk, ``floor``, to the records of everything else: a
   consumer, even one that is refused every time, can fill a disk with its messages, and
   a log that cannot be written stops pushes too.
5. A checkpoint is signed over durable records only, once a size; a size is never signed
   with two roots.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Literal

from agent.audit import leaf
from agent.audit.commit import Group, GroupCommit
from agent.audit.daykeys import DayKeys
from agent.audit.events import (
    AuditCosigned,
    AuditStarted,
    BatchLeft,
    EvidenceErased,
    LookupDecided,
    PolicyActivated,
    Recorded,
    Tell,
)
from agent.audit.tiles import Tree, rebuild, restore
from agent.crypto.daykey import DayKey
from agent.crypto.jose import PublicKey
from agent.crypto.note import (
    Checkpoint,
    format_checkpoint,
    parse_checkpoint,
    parse_line,
    parse_note,
)
from agent.crypto.notekey import NoteKey
from agent.crypto.tree import EMPTY_ROOT, consistency_path, inclusion_path
from agent.errors import (
    AuditDamaged,
    AuditWriteFailed,
    BadSignature,
    ChainMoved,
    EvidenceGone,
    FepError,
    InternalFault,
    RecordUnknown,
    UsageFault,
)
from agent.state.ledger import Ledger
from agent.state.ledger_records import KeptBox, KeptCheckpoint, KeptPolicy, KeptRequest
from agent.wire.grammar import format_time

KEPT_S = 120
"""A request is remembered until so long after its ``exp``, seconds."""
FLOOR = 64 * 1024 * 1024
"""Free bytes below which no lookup is begun."""
ERASABLE_S = 3600.0
"""A day can be erased so long after its end, seconds: nothing uses its key any more."""

New = Literal["new"]
Other = Literal["other"]
Open = Literal["open"]
Past = Literal["past"]
NEW: Final = "new"
"""Never seen: it is begun, go on."""
OTHER: Final = "other"
"""The jti was used for another message: deny."""
OPEN: Final = "open"
"""The same message, begun and not answered."""
PAST: Final = "past"
"""So old that it may have been answered and forgotten: deny."""
_FORGOTTEN = "forgotten"
"""Name of the latest ``exp`` of all requests that were forgotten."""
_LIFE = "life"
"""Name of how the last life ended: :data:`_CLEAN`, or the boot in which it did not."""
_CLEAN = "clean"


@dataclass(frozen=True)
class Same:
    """The same message, answered before.

    Args:
        reply: the signed reply, exactly.
    """

    reply: str = field(repr=False)


@dataclass(frozen=True)
class Evidence:
    """The exact messages of a record.

    Args:
        request: compact JWS; None where only its digest is known.
        reply: compact JWS.
    """

    request: str | None = field(repr=False)
    reply: str = field(repr=False)


@dataclass(frozen=True)
class Head:
    """How the log stands.

    Args:
        origin: its name.
        size: number of records.
        checkpoint: size of the newest signed head, 0 for none.
        checkpoint_at: when it was signed.
        cosigned: size of the newest head that the witness signed too, 0 for none.
        cosigned_at: when the agent signed that one.
        stopped: code of the fault that ended writing, or None.
    """

    origin: str
    size: int
    checkpoint: int
    checkpoint_at: str | None
    cosigned: int
    cosigned_at: str | None
    stopped: str | None


def free_bytes(folder: Path) -> int:
    """Bytes that are free in the file system of a folder, for us."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


class AuditLog:
    """The log of one node; made at start, :meth:`start` and :meth:`close` around it.

    Args:
        ledger: its database; closed by :meth:`close`.
        origin: name of the log, ``<node>/audit``.
        key: of purpose ``audit``.
        day_keys: the folder of day keys.
        tell: writes log lines and counters.
        now: aware UTC.

    Attributes:
        floor: gives the free bytes below which no lookup is begun.
        whole: whether this log must be all that the last life wrote, once the witness
            agrees too: that life closed it, or only the process died and the system did
            not. After anything else the last records may be missing.

    Raises:
        AuditDamaged: the ledger is that of another log, or not what was signed.
        AuditWriteFailed: the disk refuses.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        origin: str,
        key: NoteKey,
        day_keys: DayKeys,
        tell: Tell,
        now: Callable[[], datetime],
    ) -> None:
        self.origin = origin
        self.floor: Callable[[], int] = lambda: FLOOR
        self._ledger = ledger
        self._key = key
        self._day_keys = day_keys
        self._tell = tell
        self._now = now
        if (known := ledger.meta("origin", origin)) != origin:
            raise AuditDamaged(f"{ledger.path}: expected {origin}, got {known}")
        self._newest = ledger.newest_checkpoint()
        self._cosigned = ledger.newest_checkpoint(cosigned=True)
        self._policy = ledger.active_policy()
        self._erased = set(ledger.erased_days())
        self._unfinished = ledger.open_requests()
        self._forgotten = int(ledger.meta(_FORGOTTEN, "0"))
        self._room_of: Group | None = None
        self._room = False
        self._commit = GroupCommit(
            ledger, _sound_tree(ledger, self._newest), tell=tell, now=now
        )
        begun = _CLEAN if self._commit.tree.size == 0 else ""
        self._life = ledger.meta(_LIFE, begun)
        self._started = self.whole = False

    async def start(self, *, version: str, boot: str = "") -> None:
        """Begin to write; the first record says so. Unfinished erasures are finished.

        Args:
            version: of the agent.
            boot: another text after every start of the system; empty if not known.
        """
        self._commit.start()
        self._started = True
        for day in sorted(self._erased & set(self._day_keys.days())):
            self._day_keys.destroy(day)
        event = AuditStarted(version, len(self._unfinished))
        tail = leaf.tail(event)

        def op(group: Group) -> None:
            group.record(event, tail)
            group.tx.set_meta(_LIFE, boot)

        await self._commit.submit(op)
        self.whole = self._life == _CLEAN or boot == self._life != ""

    async def close(self) -> None:
        """Write what waits and that this was all, and close the ledger."""
        if self._started:
            with contextlib.suppress(AuditWriteFailed, AuditDamaged):
                await self._commit.submit(lambda g: g.tx.set_meta(_LIFE, _CLEAN))
        await asyncio.to_thread(self._commit.stop)
        self._ledger.close()

    # --- records ------------------------------------------------------------------

    async def append(self, event: Recorded) -> int:
        """Record an event, then tell it; the number of the record, which is durable.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be written.
        """
        tail = leaf.tail(event)
        return await self._commit.submit(lambda group: group.record(event, tail))

    async def changed(self, name: str, value: str, event: Recorded) -> bool:
        """Record an event if a named value is not what it was at the last call.

        Args:
            name: of what may have changed, such as ``config``.
            value: what it is now, such as a digest.
            event: the record.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be written.
        """
        tail, seen = leaf.tail(event), f"seen.{name}"

        def op(group: Group) -> bool:
            if group.tx.meta(seen) == value:
                return False
            group.record(event, tail)
            group.tx.set_meta(seen, value)
            return True

        return await self._commit.submit(op)

    async def begin(
        self, iss: str, jti: str, *, digest: str, exp: int
    ) -> New | Same | Other | Open | Past:
        """Remember a verified request before anything is done for it.

        Args:
            iss: node that asked.
            jti: of the request.
            digest: its message digest.
            exp: its end, NumericDate.

        Returns:
            :data:`NEW`, :data:`OTHER`, :data:`OPEN`, :data:`PAST`, or :class:`Same`
            with the reply.

        Raises:
            AuditWriteFailed: it could not be written, or the disk is nearly full; in
                that case the log goes on.
            AuditDamaged: it could not be written.
            EvidenceGone: it was answered, and the answer's key is missing.
        """
        request = KeptRequest(iss, jti, digest, exp)
        op = partial(self._begin, request)
        begun = await self._commit.submit(op, about=(iss, jti))
        if begun is None:
            wanted = self.floor() >> 20
            raise AuditWriteFailed(
                f"{self._ledger.path}: expected {wanted} MiB free, got less"
            )
        return begun

    def _begin(
        self, new: KeptRequest, group: Group
    ) -> New | Same | Other | Open | Past | None:
        """None: the disk has no room for it."""
        if not self._has_room(group):
            return None
        kept = group.tx.request(new.iss, new.jti)
        if kept is None and new.exp <= self._forgotten:
            return PAST
        if kept is None:
            group.tx.begin(new)
            return NEW
        if kept.digest != new.digest:
            return OTHER
        if kept.leaf is None:
            return OPEN
        found = self._opened(kept.leaf, group.box(kept.leaf), group.tree)
        return Same(found.reply)

    def _has_room(self, group: Group) -> bool:
        """Whether lookups may be begun; looked at once in a transaction."""
        if self._room_of is not group:
            self._room_of = group
            self._room = free_bytes(self._ledger.path.parent) >= self.floor()
        return self._room

    async def settle(
        self,
        iss: str,
        jti: str,
        *,
        event: LookupDecided,
        request: str | None,
        reply: str,
    ) -> int:
        """Record the answer of a request that was begun; it may be sent when this ends.

        Args:
            iss: node that asked.
            jti: of the request.
            event: the record; ``day`` says whose key encrypts the evidence.
            request: the exact compact JWS; None if the process that had it ended.
            reply: the exact compact JWS.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be written.
            InternalFault: no such request, or it has its answer already.
        """
        tail = leaf.tail(event)
        key = self.key_for(event.day)
        text = f"{request or ''}\n{reply}".encode()

        def op(group: Group) -> int:
            kept = group.tx.request(iss, jti)
            if kept is None or kept.leaf is not None or kept.digest != event.request:
                raise InternalFault(f"{jti}: expected a request that waits")
            n = group.record(event, tail)
            box = key.box(text, group.tree.hash_of(0, n))
            group.add_box(KeptBox(n, event.day, box))
            group.tx.answer(iss, jti, leaf=n)
            return n

        return await self._commit.submit(op, about=(iss, jti))

    async def batch_left(self, event: BatchLeft) -> None:
        """Record once that a batch is about to leave.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be written.
            ChainMoved: another manifest of its identity has left before, though the
                state does not remember it: it is an old copy.
        """
        tail = leaf.tail(event)
        place = (event.resource, event.epoch, event.seq)

        def op(group: Group) -> None:
            if not group.tx.pushed(*place):
                group.tx.add_pushed(*place, leaf=group.record(event, tail))
                return
            before = group.tx.left_as(*place)
            if before is not None and json.loads(before)["digest"] != event.digest:
                name = f"{event.resource} {event.epoch}/{event.seq}"
                raise ChainMoved(f"{name}: another manifest of it has left before")

        await self._commit.submit(op)

    def open_requests(self) -> tuple[KeptRequest, ...]:
        """Requests that the last life of the daemon began and did not answer."""
        return self._unfinished

    # --- policies -----------------------------------------------------------------

    async def activate(self, text: str, *, digest: str, uid: int) -> int:
        """Make a policy the active one; its number.

        Args:
            text: the file, exactly.
            digest: ``sha256:<hex>`` of it.
            uid: who asked.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be written.
        """

        def op(group: Group) -> KeptPolicy:
            rev = group.tx.newest_rev() + 1
            event = PolicyActivated(rev, digest, uid)
            n = group.record(event, leaf.tail(event))
            policy = KeptPolicy(rev, digest, text, group.at, uid, n)
            group.tx.add_policy(policy)
            return policy

        self._policy = await self._commit.submit(op)
        return self._policy.rev

    def active(self) -> KeptPolicy | None:
        """The policy that judges; None before the first activation."""
        return self._policy

    async def history(self) -> tuple[KeptPolicy, ...]:
        """Policies that were activated, newest first."""
        return await asyncio.to_thread(self._ledger.policies)

    # --- heads --------------------------------------------------------------------

    async def checkpoint(self) -> str | None:
        """Sign the head of the log; the note, or None if nothing is new.

        Raises:
            AuditWriteFailed, AuditDamaged: it could not be kept.
        """
        kept = await self._commit.submit(self._checkpoint)
        if kept is None:
            return None
        self._newest = kept
        return kept.note

    def _checkpoint(self, group: Group) -> KeptCheckpoint | None:
        size = group.tree.size
        if group.tx.checkpoint_size() >= size:
            return None
        head = Checkpoint(self.origin, size, group.tree.root())
        note = format_checkpoint(head, self._key, self.origin)
        kept = KeptCheckpoint(size, group.at, note)
        group.tx.add_checkpoint(kept)
        return kept

    async def cosigned(self, size: int, line: str) -> None:
        """Keep a witness's signature line (with its LF) for the head of this size.

        The caller has verified it.

        Raises:
            MalformedMessage: not a signature line.
            AuditWriteFailed, AuditDamaged: it could not be kept.
        """
        parse_line(line.removesuffix("\n"))
        text = line.removesuffix("\n") + "\n"
        await self._commit.submit(lambda g: g.tx.add_cosignature(size, text))
        found = await asyncio.to_thread(
            partial(self._ledger.newest_checkpoint, cosigned=True)
        )
        self._cosigned = found
        self._tell(AuditCosigned(size))

    def nothing(self) -> KeptCheckpoint:
        """The head of no records, which is the same in every life; it is not kept."""
        head = Checkpoint(self.origin, 0, EMPTY_ROOT)
        note = format_checkpoint(head, self._key, self.origin)
        return KeptCheckpoint(0, format_time(self._now()), note)

    def newest(self) -> KeptCheckpoint | None:
        """The newest signed head."""
        return self._newest

    def head(self) -> Head:
        """How the log stands, without asking the disk."""
        newest, cosigned = self._newest, self._cosigned
        stopped = self._commit.stopped
        return Head(
            origin=self.origin,
            size=self._commit.tree.size,
            checkpoint=0 if newest is None else newest.size,
            checkpoint_at=None if newest is None else newest.at,
            cosigned=0 if cosigned is None else cosigned.size,
            cosigned_at=None if cosigned is None else cosigned.at,
            stopped=None if stopped is None else stopped.code,
        )

    @property
    def trouble(self) -> FepError | None:
        """What ended writing, or None."""
        return self._commit.stopped

    def use_key(self, key: NoteKey) -> None:
        """Sign checkpoints with this key from now on; the old ones stay as they are."""
        self._key = key

    def note_of(self, head: KeptCheckpoint) -> str:
        """A head as the key in use signs it.

        One that an earlier key signed is signed again, word for word: the witness may
        not take that key any more.
        """
        note = parse_note(head.note)
        try:
            note.verify(self._key.public, name=self.origin)
        except BadSignature:
            checkpoint = parse_checkpoint(note.body)
            return format_checkpoint(checkpoint, self._key, self.origin)
        return head.note

    @property
    def audit_key(self) -> PublicKey:
        """The key that signs checkpoints."""
        return self._key.public

    async def consistency(self, old: int, new: int) -> list[bytes]:
        """Why the log of ``new`` records begins with that of ``old``."""
        tree = self._commit.tree
        return await asyncio.to_thread(consistency_path, old, new, tree.hash_of)

    async def inclusion(self, n: int, size: int) -> list[bytes]:
        """Why a record stands in the log of ``size`` records.

        Raises:
            RecordUnknown: there is no such record.
        """
        tree = self._commit.tree
        if not 0 <= n < size <= tree.size:
            raise RecordUnknown(f"{n}: expected one of {min(size, tree.size)} records")
        return await asyncio.to_thread(inclusion_path, n, size, tree.hash_of)

    async def tile(self, level: int, number: int, *, size: int) -> bytes:
        """A tile of the log of ``size`` records; empty if there is none."""
        tree = self._commit.tree
        size = min(size, tree.size)
        return await asyncio.to_thread(tree.tile, level, number, size)

    # --- reading ------------------------------------------------------------------

    async def lines(self, start: int, stop: int) -> tuple[str, ...]:
        """Exact records, a page of them at most."""
        stop = min(stop, self._commit.tree.size)
        return await asyncio.to_thread(self._ledger.leaves, start, stop)

    async def checkpoints(self, since: int = 0) -> tuple[KeptCheckpoint, ...]:
        """Signed heads of at least ``since`` records, a page of them."""
        return await asyncio.to_thread(self._ledger.checkpoints, since)

    async def covering(self, n: int) -> KeptCheckpoint | None:
        """The head to prove a record by: the first cosigned one, else the first."""
        return await asyncio.to_thread(self._ledger.checkpoint_after, n)

    async def evidence(self, n: int) -> Evidence | None:
        """The exact messages of a record; None if it is of a kind without.

        Raises:
            EvidenceGone: the day was erased, or its key is missing.
            EvidenceDamaged: the key does not open it.
        """
        box = await asyncio.to_thread(self._ledger.box, n)
        if box is None:
            return None
        tree = self._commit.tree
        return await asyncio.to_thread(self._opened, n, box, tree)

    def _opened(self, n: int, box: KeptBox | None, tree: Tree) -> Evidence:
        key = None if box is None else self.key_of(box.day)
        if box is None or key is None:
            raise EvidenceGone(f"record {n}")
        text = key.unbox(box.box, tree.hash_of(0, n)).decode()
        request, _, reply = text.partition("\n")
        return Evidence(request or None, reply)

    # --- day keys -----------------------------------------------------------------

    def today(self) -> str:
        """The day of new records, UTC."""
        return self._now().astimezone(UTC).date().isoformat()

    def key_for(self, day: str) -> DayKey:
        """The key for new records of a day; it is made if it is new.

        Raises:
            EvidenceGone: the day was erased.
            SecretUnreadable, AuditWriteFailed: it cannot be read or made.
        """
        if day in self._erased:
            raise EvidenceGone(f"{day} was erased")
        return self._day_keys.make(day)

    def key_of(self, day: str) -> DayKey | None:
        """The key of a day for reading; None if there is none any more."""
        return None if day in self._erased else self._day_keys.find(day)

    async def erase(self, day: str, *, uid: int | None) -> int:
        """Destroy the key of a day, once that is recorded; records that had evidence.

        Args:
            day: ``YYYY-MM-DD``, UTC, over for an hour at least.
            uid: who asked; None for the retention period.

        Raises:
            UsageFault: no such day, it is not over, or it was erased before.
            AuditWriteFailed, AuditDamaged: it could not be recorded or destroyed.
        """
        self._check_erasable(day)

        def op(group: Group) -> int:
            if group.tx.erased(day):
                raise UsageFault(f"{day} was erased before")
            event = EvidenceErased(day, uid, group.tx.boxes_of(day))
            n = group.record(event, leaf.tail(event))
            group.tx.add_erased(day, leaf=n)
            return event.records

        records = await self._commit.submit(op)
        self._erased.add(day)
        await asyncio.to_thread(self._day_keys.destroy, day)
        while await self._commit.submit(lambda g: g.tx.forget_boxes(day)):
            pass
        await self._forget_requests()
        await self._commit.emptied()
        return records

    def _check_erasable(self, day: str) -> None:
        try:
            end = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
            good = end.date().isoformat() == day
        except ValueError:
            good = False
        if not good:
            raise UsageFault("expected a day like 2026-11-21")
        over = end + timedelta(days=1, seconds=ERASABLE_S)
        if self._now() < over:
            raise UsageFault(f"{day} can be erased from {format_time(over)} on")

    async def purge(self, *, evidence_days: int) -> None:
        """Forget requests whose time has passed, and evidence of old days.

        Args:
            evidence_days: how many days evidence is kept.
        """
        await self._forget_requests()
        now = self._now()
        last = (now - timedelta(days=evidence_days)).astimezone(UTC).date().isoformat()
        known = set(await asyncio.to_thread(self._ledger.days))
        known |= set(await asyncio.to_thread(self._day_keys.days))
        for day in sorted(known - self._erased):
            if day < last:
                await self.erase(day, uid=None)
        for day in sorted(known & self._erased):  # a crash came between
            while await self._commit.submit(partial(_forget_boxes, day)):
                pass
        await self._commit.emptied()

    async def _forget_requests(self) -> None:
        """Forget those whose time has passed; no id must outlive its day's key."""
        before = int(self._now().timestamp()) - KEPT_S
        while await self._commit.submit(partial(self._forget, before)):
            pass

    def _forget(self, before: int, group: Group) -> bool:
        """Forget some requests, and remember how far; whether there were any."""
        latest = group.tx.forget_requests(before)
        if latest is None:
            return False
        self._forgotten = max(self._forgotten, latest)
        group.tx.set_meta(_FORGOTTEN, str(self._forgotten))
        return True


def _forget_boxes(day: str, group: Group) -> int:
    return group.tx.forget_boxes(day)


def _sound_tree(ledger: Ledger, newest: KeptCheckpoint | None) -> Tree:
    """The tree, held against the newest head; made anew if its tiles are at fault."""
    with contextlib.suppress(AuditDamaged):
        tree = restore(ledger)
        if _agrees(tree, newest):
            return tree
    tree = rebuild(ledger)
    if not _agrees(tree, newest):
        size = 0 if newest is None else newest.size
        raise AuditDamaged(
            f"{ledger.path}: expected the {size} records of the newest checkpoint"
        )
    return tree


def _agrees(tree: Tree, newest: KeptCheckpoint | None) -> bool:
    if newest is None:
        return True
    head = parse_checkpoint(parse_note(newest.note).body)
    return head.size <= tree.size and tree.root(head.size) == head.root
