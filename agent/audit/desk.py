# SPDX-License-Identifier: Apache-2.0
"""What people ask of the audit log: find, prove, take away, erase.

Answers are JSON objects, documented in ``docs/cli-json.md``; every one is bounded, and
says where to go on. Evidence is personal: seeing it is itself recorded, before it is
given.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Any

from agent.audit import leaf
from agent.audit.events import AdminAction
from agent.audit.log import AuditLog
from agent.audit.tiles import WIDTH
from agent.audit.trust import keys_document
from agent.audit.witness import Peer
from agent.crypto.jose import PublicKey
from agent.crypto.note import tlog_proof
from agent.errors import EvidenceGone, MalformedMessage, RecordUnknown, UsageFault
from agent.wire.grammar import parse_time

JsonObject = dict[str, Any]

LIMIT = 1_000
"""Most records of one answer."""
LOOKED_AT = 50_000
"""Most records that one search looks at before it answers where to go on."""
PAGE_CAP = 8 * 1024 * 1024
"""Most characters of records in one answer."""
TILES = 64
"""Most tiles of one answer."""
_SLACK = timedelta(days=1)
"""A clock that was set back: so much earlier may a later record be."""

Frames = Callable[[str, Mapping[str, str]], bytes]
"""(resource, key item -> text) -> canonical key of a subject; raises UsageFault."""


@dataclass(frozen=True)
class Query:
    """What to find.

    Args:
        kind: name of the event.
        consumer: node that asked.
        resource: code.
        since: aware UTC, inclusive.
        until: aware UTC, exclusive.
        subject: canonical key of whom the records speak.
        before: only records with smaller numbers; None for all.
        limit: most records.
    """

    kind: str | None = None
    consumer: str | None = None
    resource: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    subject: bytes | None = field(default=None, repr=False)
    before: int | None = None
    limit: int = 100

    def words(self) -> list[str]:
        """Text that every such line has; lines are compact, so this is exact."""
        named = (
            ("kind", self.kind),
            ("consumer", self.consumer),
            ("resource", self.resource),
        )
        return [f'"{name}":"{value}"' for name, value in named if value is not None]


class AuditDesk:
    """Answers about one log.

    Args:
        log: the log.
        frames: makes a canonical key of what a person typed.
        signers: every audit key that this node ever had, as the directory has them.
        witness: whose cosignatures count.
        looked_at: most records that one search looks at.
        signing: whether a head may be signed, which the witness decides.
    """

    def __init__(
        self,
        log: AuditLog,
        *,
        frames: Frames,
        signers: Callable[[], Sequence[PublicKey]],
        witness: Peer,
        looked_at: int = LOOKED_AT,
        signing: Callable[[], bool] = lambda: True,
    ) -> None:
        self._log = log
        self._frames = frames
        self._signers = signers
        self._witness = witness
        self._looked_at = looked_at
        self._signing = signing

    def head(self) -> JsonObject:
        """How the log stands."""
        return asdict(self._log.head())

    async def search(self, body: Mapping[str, Any]) -> JsonObject:
        """Records that fit, newest first.

        Args:
            body: may have ``kind``, ``consumer``, ``resource``, ``since``, ``until``,
                ``before``, ``limit``, and ``keys``: key items and their texts.

        Returns:
            ``records``, and ``next``: the ``before`` to go on with, or null.

        Raises:
            UsageFault: a member that makes no sense.
        """
        query = self._query(body)
        records: list[JsonObject] = []
        size = self._log.head().size
        stop = size if query.before is None else min(query.before, size)
        last = max(0, stop - self._looked_at)
        while stop > last and len(records) < query.limit:
            start = max(last, stop - WIDTH * 4)
            lines = await self._log.lines(start, stop)
            page = await asyncio.to_thread(self._fitting, query, start, lines)
            room = query.limit - len(records)
            records += page[:room]
            if len(page) > room:
                return {"records": records, "next": records[-1]["n"]}
            stop = start
            if lines and self._too_old(query, start, lines[0]):
                return {"records": records, "next": None}
        return {"records": records, "next": stop or None}

    def _fitting(
        self, query: Query, start: int, lines: tuple[str, ...]
    ) -> list[JsonObject]:
        """Fitting records of a page, newest first."""
        words = query.words()
        found = []
        subjects: dict[str, str | None] = {}
        for back, line in enumerate(reversed(lines)):
            if all(word in line for word in words):
                record = leaf.read(start + len(lines) - 1 - back, line)
                if self._fits(query, record, subjects):
                    found.append(record)
        return found

    def _fits(
        self, query: Query, record: JsonObject, subjects: dict[str, str | None]
    ) -> bool:
        at = parse_time(record["at"])
        if query.since is not None and at < query.since:
            return False
        if query.until is not None and at >= query.until:
            return False
        if query.subject is None:
            return True
        day = record.get("day")
        if day is None:
            return False
        if day not in subjects:
            key = self._log.key_of(day)
            subjects[day] = None if key is None else key.subject(query.subject)
        return subjects[day] in record["subjects"]

    def _too_old(self, query: Query, n: int, line: str) -> bool:
        if query.since is None:
            return False
        return parse_time(leaf.read(n, line)["at"]) < query.since - _SLACK

    def _query(self, body: Mapping[str, Any]) -> Query:
        keys, resource = body.get("keys"), _text(body, "resource")
        if keys is not None and resource is None:
            raise UsageFault("keys: expected the resource that they belong to, too")
        return Query(
            kind=_text(body, "kind"),
            consumer=_text(body, "consumer"),
            resource=resource,
            since=_time(body, "since"),
            until=_time(body, "until"),
            subject=None if keys is None else self._frames(str(resource), _keys(keys)),
            before=_number(body, "before", None, 1 << 53),
            limit=_number(body, "limit", 100, LIMIT) or 100,
        )

    async def prove(self, n: int) -> JsonObject:
        """A record with its C2SP proof.

        Raises:
            RecordUnknown: no such record.
        """
        head = await self._log.covering(n)
        if head is None:
            await self._sign()
            head = await self._log.covering(n)
        if n < 0 or head is None:
            known = self._log.head()
            signed = known.size if self._signing() else known.checkpoint
            raise RecordUnknown(f"{n}: expected one of {signed} signed records")
        path = await self._log.inclusion(n, head.size)
        (line,) = await self._log.lines(n, n + 1)
        proof = tlog_proof(n, path, head.note + head.cosignatures)
        cosigned = head.cosignatures != ""
        return {"n": n, "line": line, "proof": proof, "cosigned": cosigned}

    async def _sign(self) -> None:
        """Sign the head, if that may be done now."""
        if self._signing():
            await self._log.checkpoint()

    async def evidence(self, n: int, *, uid: int) -> JsonObject:
        """The exact messages of a record; who sees them is recorded first.

        Raises:
            RecordUnknown: no such record.
            EvidenceGone: there is none, or none any more.
        """
        if not 0 <= n < self._log.head().size:
            raise RecordUnknown(f"{n}: expected one of {self._log.head().size} records")
        await self._log.append(AdminAction(uid, f"audit evidence {n}", None))
        found = await self._log.evidence(n)
        if found is None:
            raise EvidenceGone(f"record {n}: a kind that has none, or erased")
        return {"n": n, "request": found.request, "reply": found.reply}

    async def erase(self, day: str, *, uid: int) -> JsonObject:
        """Destroy the key of a day.

        Raises:
            UsageFault: no such day, not over yet, or erased before.
        """
        return {"day": day, "records": await self._log.erase(day, uid=uid)}

    # --- taking the log away ------------------------------------------------------

    async def export(self, body: Mapping[str, Any]) -> JsonObject:
        """Sign the head; what an export up to there consists of.

        Args:
            body: may have ``since``; records before that day are told as hashes only.

        Returns:
            ``origin``, ``size``, ``first`` (number of the first record to take), and
            ``keys``, the content of ``keys.json``.

        Raises:
            RecordUnknown: the log is empty.
        """
        since = _time(body, "since")
        await self._sign()
        newest = self._log.newest()
        if newest is None:
            raise RecordUnknown("the log has no signed head yet")
        first = 0 if since is None else await self._first(since - _SLACK, newest.size)
        keys = keys_document(
            self._log.origin,
            audit=(*self._signers(), self._log.audit_key),
            witness=self._witness.name,
            cosigners=self._witness.signers(),
        )
        return {
            "origin": self._log.origin,
            "size": newest.size,
            "first": first,
            "keys": keys,
        }

    async def _first(self, since: datetime, size: int) -> int:
        """About the first record of a time; clocks may have been set back a little."""
        low, high = 0, size
        while low < high:
            middle = (low + high) // 2
            (line,) = await self._log.lines(middle, middle + 1)
            if parse_time(leaf.read(middle, line)["at"]) < since:
                low = middle + 1
            else:
                high = middle
        return low

    async def leaves(self, start: int, *, size: int) -> JsonObject:
        """Exact records from a number on; ``next`` is null at the end."""
        found = await self._log.lines(start, size)
        sizes = accumulate(len(line) for line in found)
        lines = [
            line for line, so_far in zip(found, sizes, strict=True) if so_far < PAGE_CAP
        ] or found[:1]
        after = start + len(lines)
        return {"lines": lines, "next": after if after < size and lines else None}

    async def tiles(self, level: int, number: int, *, size: int) -> JsonObject:
        """Tiles of a level from a number on, base64; ``next`` is null at the end."""
        tiles = []
        for at in range(number, number + TILES):
            data = await self._log.tile(level, at, size=size)
            if data:
                tiles.append(base64.b64encode(data).decode())
            if len(data) < WIDTH * 32:
                return {"tiles": tiles, "next": None}
        return {"tiles": tiles, "next": number + TILES}

    async def checkpoints(self, since: int, *, size: int) -> JsonObject:
        """Signed heads with their cosignatures, smallest first."""
        found = await self._log.checkpoints(since)
        notes = [c.note + c.cosignatures for c in found if c.size <= size]
        after = found[-1].size + 1 if found else size + 1
        return {"notes": notes, "next": after if after <= size else None}


def _text(body: Mapping[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not 0 < len(value) <= 128 or '"' in value:
        raise UsageFault(f"{name}: expected a short text")
    return value


def _time(body: Mapping[str, Any], name: str) -> datetime | None:
    text = _text(body, name)
    if text is None:
        return None
    try:
        return parse_time(text)
    except MalformedMessage as e:
        raise UsageFault(f"{name}: {e.detail}") from None


def _number(
    body: Mapping[str, Any], name: str, otherwise: int | None, most: int
) -> int | None:
    value = body.get(name)
    if value is None:
        return otherwise
    if type(value) is not int or not 0 < value <= most:
        raise UsageFault(f"{name}: expected a number from 1 to {most}")
    return value


def _keys(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not 0 < len(value) <= 8:
        raise UsageFault("keys: expected an object of 1 to 8 members")
    if not all(isinstance(v, str) for v in value.values()):
        raise UsageFault("keys: expected texts")
    return dict(value)
