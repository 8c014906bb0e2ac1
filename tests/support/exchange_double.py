# SPDX-License-Identifier: Apache-2.0
"""An exchange in memory that keeps the chain's rules and signs real receipts.

It loads nothing, it only counts; what it remembers is what the assertions look at.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

from agent.crypto.frames import bucket, digest_text
from agent.crypto.jose import PrivateKey, PublicKey, split, verify
from agent.errors import ExchangeRefused, UnknownKey
from agent.model.batch import BatchId, Rows
from agent.model.item import Item, ItemType
from agent.wire import batch as wire
from agent.wire import catalog, position, receipt, reconcile
from agent.wire.batch import Manifest
from agent.wire.grammar import format_time
from agent.wire.key_text import frames_of
from agent.wire.position import Position
from agent.wire.receipt import Receipt

Rewrite = Callable[[str], str | None]
Table = dict[int, str]
"""Rows by their one key of type I -> digest of each, 32 hex digits."""


def holding(table: Table, asked: reconcile.Request, digest: str) -> reconcile.Response:
    """What an exchange with these rows says."""
    item = Item("id", ItemType.I, None, None, True, "1")
    counts, sums = [0] * (1 << asked.bits), [0] * (1 << asked.bits)
    detail = []
    for number, row in table.items():
        place = bucket(frames_of([str(number)], [item]), asked.bits)
        counts[place] += 1
        sums[place] += int(row, 16)
        if place in (asked.detail or ()):
            detail.append(reconcile.Key(place, (str(number),), row))
    told = map(digest_text, sums)
    return reconcile.Response(
        iss=asked.aud,
        aud=asked.iss,
        irt=asked.jti,
        req_sha256=digest,
        iat=asked.iat,
        resource=asked.resource,
        epoch=asked.epoch,
        seq=asked.seq,
        catalog=asked.catalog,
        bits=asked.bits,
        rows=len(table),
        buckets=tuple(zip(counts, told, strict=True)),
        detail=None if asked.detail is None else tuple(detail),
    )


@dataclass
class Kept:
    """A stored batch."""

    manifest: Manifest
    digest: str
    state: str = "stored"
    code: str | None = None


@dataclass
class Place:
    """A stream."""

    epoch: int = 0
    seq: int = 0
    digest: str | None = None
    incarnation: str | None = None
    loaded: tuple[int, int] = (0, 0)
    dead: int = 0


@dataclass
class ExchangeDouble:
    """The double.

    Args:
        aud: its id.
        producer: the only node that it knows.
        sign_key: that node's public key.
        now: its clock.
    """

    aud: str
    producer: str
    sign_key: PublicKey
    now: Callable[[], datetime]
    key: PrivateKey = field(default_factory=lambda: PrivateKey.generate("receipt"))
    loading: bool = True
    batches: dict[BatchId, Kept] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=lambda: defaultdict(Place))
    catalogs: set[str] = field(default_factory=set)
    offered: dict[BatchId, set[str]] = field(default_factory=lambda: defaultdict(set))
    calls: list[str] = field(default_factory=list)
    uploads_now: int = 0
    most_uploads: int = 0
    clock_offset_s: float | None = None
    refuse_seq: dict[int, str] = field(default_factory=dict)
    loaded_rows: dict[str, int] = field(default_factory=dict)
    too_many: int = 0
    rows: dict[str, Table] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._before: dict[str, deque[BaseException]] = defaultdict(deque)
        self._after: dict[str, deque[BaseException]] = defaultdict(deque)
        self._rewrites: dict[str, deque[Rewrite]] = defaultdict(deque)
        self.down: BaseException | None = None

    # --- what a test sets up --------------------------------------------------------

    def fail(self, method: str, *errors: BaseException) -> None:
        """The next calls fail before anything happens."""
        self._before[method].extend(errors)

    def mend(self, method: str) -> None:
        """No further call fails."""
        self._before[method].clear()

    def fail_after(self, method: str, *errors: BaseException) -> None:
        """The next calls do their work, then the answer is lost."""
        self._after[method].extend(errors)

    def rewrite(self, method: str, *rewrites: Rewrite) -> None:
        """The next answers are changed on their way."""
        self._rewrites[method].extend(rewrites)

    def forget(self, resource: str) -> None:
        """Lose a stream, as after a restore of an older backup."""
        self.places.pop(resource, None)
        for batch in [b for b in self.batches if b.resource == resource]:
            del self.batches[batch]

    def rewind(self, resource: str, epoch: int, seq: int) -> None:
        """Lose what was stored behind a batch, as after a restore of a backup."""
        gone = [
            b
            for b in self.batches
            if b.resource == resource and (b.epoch, b.seq) > (epoch, seq)
        ]
        for batch in gone:
            del self.batches[batch]
        last = next(
            k
            for b, k in self.batches.items()
            if (b.resource, b.epoch, b.seq) == (resource, epoch, seq)
        )
        ref = last.manifest.stream
        loaded = (epoch, seq) if last.state == "loaded" else (0, 0)
        self.places[resource] = Place(epoch, seq, last.digest, ref.incarnation, loaded)

    # --- keys -----------------------------------------------------------------------

    voucher = "5a" * 32
    """What vouches for the key."""

    def receipt_key(self, kid: str) -> PublicKey:
        """As a directory would answer."""
        if kid != self.key.public.kid:
            raise UnknownKey(kid)
        return self.key.public

    # --- the client's seam ------------------------------------------------------------

    async def position(self, resource: str, nonce: str) -> str:
        """The signed position."""
        self._enter("position")
        place = self.places[resource]
        found = Position(
            aud=self.aud,
            producer=self.producer,
            resource=resource,
            epoch=place.epoch,
            seq=place.seq,
            digest=place.digest,
            incarnation=place.incarnation,
            loaded=place.loaded,
            proven=place.loaded != (0, 0),
            nonce=nonce,
            iat=int(self.now().timestamp()),
        )
        text = self.key.sign(position.TYP, found.payload())
        return self._leave("position", text) or ""

    async def receipt(self, batch: BatchId) -> str | None:
        """The newest receipt."""
        self._enter("receipt")
        kept = self.batches.get(batch)
        return self._leave("receipt", None if kept is None else self._sign(kept))

    async def put_catalog(self, statement: str) -> None:
        """Know a statement."""
        self._enter("put_catalog")
        message = split(statement, cap=catalog.CAP)
        catalog.parse(verify(message, self.sign_key, typ=catalog.TYP).payload)
        self.catalogs.add(message.digest)
        self._leave("put_catalog", "")

    async def reconcile(self, request: str) -> str:
        """What :attr:`rows` holds, else a count; for the last loaded batch only."""
        self._enter("reconcile")
        message = split(request, cap=reconcile.REQUEST_CAP)
        verified = verify(message, self.sign_key, typ=reconcile.TYP_REQUEST)
        asked = reconcile.parse_request(verified.payload)
        if asked.catalog not in self.catalogs:
            raise ExchangeRefused("PUT it", problem="catalog-unknown")
        loaded = self.places[asked.resource].loaded
        if (asked.epoch, asked.seq) != loaded:
            later = (asked.epoch, asked.seq) > loaded
            problem = "busy" if later else "stale-epoch"
            raise ExchangeRefused("not that batch", problem=problem)
        if asked.resource in self.rows or asked.bits:
            held = holding(self.rows.get(asked.resource, {}), asked, message.digest)
        else:
            held = self._counted(asked, message.digest)
        text = self.key.sign(reconcile.TYP_RESPONSE, held.payload())
        return self._leave("reconcile", text) or ""

    def _counted(self, asked: reconcile.Request, digest: str) -> reconcile.Response:
        rows = self.loaded_rows.get(asked.resource, 0) + self.too_many
        return reconcile.Response(
            iss=self.aud,
            aud=asked.iss,
            irt=asked.jti,
            req_sha256=digest,
            iat=int(self.now().timestamp()),
            resource=asked.resource,
            epoch=asked.epoch,
            seq=asked.seq,
            catalog=asked.catalog,
            bits=0,
            rows=rows,
            buckets=((rows, "0" * 32),),
            detail=None,
        )

    async def upload(
        self,
        path: Path,
        size: int,
        *,
        batch: BatchId,
        moved: Callable[[], None] = lambda: None,
    ) -> str | None:
        """Take a batch."""
        moved()
        self.uploads_now += 1
        self.most_uploads = max(self.most_uploads, self.uploads_now)
        try:
            return await self._upload(path, size, batch)
        finally:
            self.uploads_now -= 1

    async def _upload(self, path: Path, size: int, batch: BatchId) -> str | None:
        self._enter("upload")
        data = await asyncio.to_thread(path.read_bytes)
        assert len(data) == size
        line, _, payload = data.partition(b"\n")
        message = split(line, cap=wire.MESSAGE_CAP)
        manifest = wire.parse(verify(message, self.sign_key, typ=wire.TYP).payload)
        assert manifest.id == batch
        assert len(payload) == manifest.content.size
        self.offered[batch].add(message.digest)
        known = self.batches.get(batch)
        if known is None or known.digest != message.digest:
            known = self._take(manifest, message.digest)
        return self._leave("upload", self._sign(known))

    # --- rules ------------------------------------------------------------------------

    def _take(self, manifest: Manifest, digest: str) -> Kept:
        place, ref = self.places[manifest.resource], manifest.stream
        if manifest.catalog.digest not in self.catalogs:
            raise ExchangeRefused("PUT it", problem="catalog-unknown")
        if manifest.id in self.batches:
            raise ExchangeRefused("other manifest", problem="fork")
        fresh = ref.epoch > place.epoch
        if ref.epoch < place.epoch or ref.epoch <= place.dead:
            raise ExchangeRefused("old epoch", problem="stale-epoch")
        if ref.seq != (1 if fresh else place.seq + 1):
            raise ExchangeRefused("gap", problem="chain-gap")
        if ref.prev != place.digest:
            raise ExchangeRefused("other prev", problem="fork")
        kept = Kept(manifest, digest)
        self.batches[manifest.id] = kept
        place.epoch, place.seq, place.digest = ref.epoch, ref.seq, digest
        place.incarnation = ref.incarnation
        code = self.refuse_seq.pop(ref.seq, None)
        if code is not None:
            kept.state, kept.code = "rejected", code
            place.dead = ref.epoch
        elif self.loading and manifest.snapshot is None:
            kept.state, place.loaded = "loaded", (ref.epoch, ref.seq)
        elif self.loading and manifest.snapshot is not None and manifest.snapshot.final:
            self.load(manifest.resource)
        return kept

    def load(self, resource: str) -> None:
        """Load the newest snapshot of a resource, all parts at once."""
        place = self.places[resource]
        final = next(
            k
            for b, k in reversed(self.batches.items())
            if b.resource == resource
            and k.manifest.snapshot is not None
            and k.manifest.snapshot.final
        )
        run = final.manifest.snapshot.id  # type: ignore[union-attr]
        parts = [
            k
            for k in self.batches.values()
            if k.manifest.snapshot is not None and k.manifest.snapshot.id == run
        ]
        numbers = [k.manifest.snapshot.part for k in parts]  # type: ignore[union-attr]
        assert numbers == list(range(1, len(parts) + 1)), "a part is missing"
        for kept in parts:
            kept.state = "loaded"
        place.loaded = (final.manifest.stream.epoch, final.manifest.stream.seq)
        self.loaded_rows[resource] = sum(k.manifest.rows.upsert for k in parts)
        if not self.loaded_rows[resource]:
            self.rows[resource] = {}

    def reject(self, resource: str, code: str) -> None:
        """Reject the newest final part, as after looking at its rows."""
        final = next(
            k for b, k in reversed(self.batches.items()) if b.resource == resource
        )
        final.state, final.code = "rejected", code
        self.places[resource].dead = final.manifest.stream.epoch

    def _sign(self, kept: Kept) -> str:
        return self.key.sign(receipt.TYP, self.receipt_of(kept).payload())

    def receipt_of(self, kept: Kept) -> Receipt:
        """What would be signed."""
        m = kept.manifest
        rows: Rows | None = m.rows if kept.state == "loaded" else None
        return Receipt(
            exchange=self.aud,
            producer=m.producer,
            resource=m.resource,
            epoch=m.stream.epoch,
            seq=m.stream.seq,
            manifest=kept.digest,
            state=kept.state,  # type: ignore[arg-type]
            code=kept.code,
            rows=rows,
            at=format_time(self.now()),
        )

    def false(self, **changes: object) -> Rewrite:
        """Sign what a receipt does not say; give to :meth:`rewrite`."""

        def rewrite(text: str) -> str:
            found = receipt.parse(split(text, cap=receipt.CAP).payload)
            changed = replace(found, **changes)  # type: ignore[arg-type]
            return self.key.sign(receipt.TYP, changed.payload())

        return rewrite

    def _enter(self, method: str) -> None:
        self.calls.append(method)
        if self.down is not None:
            raise self.down
        if self._before[method]:
            raise self._before[method].popleft()

    def _leave(self, method: str, text: str | None) -> str | None:
        if self._after[method]:
            raise self._after[method].popleft()
        if self._rewrites[method] and text is not None:
            return self._rewrites[method].popleft()(text)
        return text
