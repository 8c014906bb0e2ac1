# SPDX-License-Identifier: Apache-2.0
"""Loading: what a stored batch does to the centre's rows (wire.md §2).

Rules

1. A batch, its receipt and its stream change in one transaction.
2. Parts of a snapshot go to a staging table; the final part makes it the resource's
   table in that transaction. Any other batch of the stream drops the staging.
3. A ``k`` row never changes or removes anything; in a snapshot its key takes the row
   that the centre has, if any.
4. Too many deletes in 24 hours, a snapshot that is not whole, or a batch that does not
   fit its table is rejected, and with it what waits behind it in its epoch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from agent.crypto.jose import message_digest
from agent.errors import BadPayload
from agent.model.batch import BatchId
from agent.model.item import Item
from agent.wire import arrow
from agent.wire import batch as wire
from agent.wire.batch import Manifest, Snapshot
from sandbox import columns
from sandbox.columns import quoted
from sandbox.options import Options
from sandbox.replies import Signer
from sandbox.store import Due, Known, Store, Stream, payload_of

_DAY = timedelta(hours=24)


class Rejected(Exception):
    """The batch is not loaded; ``code`` goes into the receipt."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        super().__init__(f"{code}: {detail}")


@dataclass(frozen=True)
class BatchFile:
    """A batch file on disk; ``offset`` is where the payload begins."""

    path: Path
    offset: int

    def payload(self) -> pa.Buffer:
        """The payload, mapped, not read."""
        whole = pa.memory_map(str(self.path)).read_buffer()
        return whole.slice(self.offset)

    def trusted(self) -> Iterator[pa.RecordBatch]:
        """Its rows, which were validated before the batch was stored."""
        if self.path.stat().st_size > self.offset:
            with pa.ipc.open_stream(self.payload()) as reader:
                yield from reader

    def batches(
        self, manifest: Manifest, items: tuple[Item, ...]
    ) -> Iterator[pa.RecordBatch]:
        """Its rows, validated.

        Raises:
            BadPayload: while iterating.
        """
        payload = self.payload() if manifest.content.size else pa.py_buffer(b"")
        if payload.size and arrow.raw_size(payload) != manifest.content.raw_size:
            raise BadPayload("raw_size is not the sum of the decompressed buffers")
        return arrow.read_payload(
            payload,
            items,
            mode=manifest.mode,
            raw_size=manifest.content.raw_size,
            rows=manifest.rows,
        )


def batch_path(folder: Path, batch: BatchId) -> Path:
    """Where a stored batch lies."""
    return folder / batch.producer.replace("/", "_") / wire.file_name(batch)


@dataclass(frozen=True)
class Target:
    """The table of one batch: its names, its items, and the batch."""

    table: str
    items: tuple[Item, ...]
    manifest: Manifest

    @property
    def staging(self) -> str:
        """Rows of the snapshot so far."""
        return self.table + "__s"

    @property
    def kept(self) -> str:
        """Keys of the snapshot's ``k`` rows so far."""
        return self.table + "__k"


class Loader:
    """Loads stored batches in the order in which they were stored."""

    def __init__(
        self, store: Store, signer: Signer, options: Options, *, batches: Path
    ) -> None:
        self._store = store
        self._sql = store.connection
        self._signer = signer
        self._options = options
        self._batches = batches

    def load_next(self) -> Due | None:
        """Load or reject the oldest batch that is due; None if there is none."""
        due = self._store.due()
        if due is None:
            return None
        manifest = wire.parse(payload_of(due.message))
        try:
            with self._store.transaction():
                self._load(due, manifest)
        except Rejected as e:
            code = e.code
            with self._store.transaction():
                self._reject(due, manifest, code)
        return due

    # --- one batch ----------------------------------------------------------------

    def _load(self, due: Due, manifest: Manifest) -> None:
        stream = self._store.stream(due.resource)
        items = self._store.items(manifest.catalog.digest)
        target = Target(self._store.table(due.resource), items, manifest)
        file = BatchFile(batch_path(self._batches, manifest.id), len(due.message) + 1)
        if manifest.snapshot is None:
            stream = self._drop_staging(target, due.resource, stream)
            if manifest.mode != "unchanged":
                self._fit(target, stream)
                self._apply(target, file)
                stream = replace(stream, catalog=manifest.catalog.digest)
        else:
            stream = self._stage(target, file, stream, manifest.snapshot)
            if not manifest.snapshot.final:
                self._keep_staged(due, stream)
                return
            self._swap(target, manifest.snapshot)
            self._finish_parts(due, manifest)
            stream = replace(
                stream,
                catalog=manifest.catalog.digest,
                proven=True,
                snapshot=None,
                part=0,
            )
        stream = replace(stream, loaded=(due.epoch, due.seq))
        self._store.put_stream(due.resource, stream)
        receipt = self._signer.receipt(
            manifest.id, digest_of(due.message), "loaded", rows=manifest.rows
        )
        self._settle(due, Known(digest_of(due.message), "loaded", receipt))

    def _settle(self, due: Due, known: Known) -> None:
        self._store.put_batch(due.resource, due.epoch, due.seq, known)

    def _reject(self, due: Due, manifest: Manifest, code: str) -> None:
        """Reject a batch, and as stale what waits behind it in its epoch."""
        stream = self._store.stream(due.resource)
        target = Target(self._store.table(due.resource), (), manifest)
        stream = self._drop_staging(target, due.resource, stream)
        stream = replace(stream, dead=max(stream.dead, due.epoch))
        self._store.put_stream(due.resource, stream)
        for seq, digest in self._store.waiting(due.resource, due.epoch):
            first = seq == due.seq
            batch = replace(manifest.id, seq=seq)
            receipt = self._signer.receipt(
                batch, digest, "rejected", code=code if first else "stale-epoch"
            )
            known = Known(digest, "rejected", receipt)
            self._store.put_batch(due.resource, due.epoch, seq, known)

    # --- increments ---------------------------------------------------------------

    def _fit(self, target: Target, stream: Stream) -> None:
        """The table has the batch's columns, at most some appended ones are new."""
        if stream.catalog is None:
            self._sql.execute(columns.table_sql(target.table, target.items))
            return
        if stream.catalog == target.manifest.catalog.digest:
            return
        old = self._store.items(stream.catalog)
        head, rest = target.items[: len(old)], target.items[len(old) :]
        if _shape(head) != _shape(old) or any(item.key for item in rest):
            raise Rejected(
                "bad-manifest", "a change of key, type or order needs a full snapshot"
            )
        for item in rest:
            self._sql.execute(
                f"alter table {quoted(target.table)} add column"
                f" {columns.column_sql(item)}"
            )

    def _apply(self, target: Target, file: BatchFile) -> None:
        manifest, items = target.manifest, target.items
        self._brake(target, manifest.rows.delete)
        insert = columns.insert_sql(target.table, items)
        delete = columns.delete_sql(target.table, items)
        for batch in file.trusted():
            for op, sql, what in (
                ("u", insert, items),
                ("d", delete, columns.keys(items)),
            ):
                part = _only(batch, op)
                self._sql.executemany(sql, columns.rows_of(part, what))

    def _brake(self, target: Target, count: int) -> None:
        """Count unconfirmed deletes.

        Raises:
            Rejected: mass-delete, above max(floor, percent of the loaded rows).
        """
        confirmed = target.manifest.deletes_confirmed
        count = max(0, count - (confirmed.count if confirmed else 0))
        if not count:
            return
        now = self._signer.now()
        resource = target.manifest.resource
        recent = self._store.deletes_since(resource, now - _DAY)
        loaded = self._count(target.table)
        share = loaded * self._options.delete_percent / 100
        limit = max(self._options.delete_floor, share)
        if recent + count > limit:
            raise Rejected("mass-delete", f"{recent} + {count} are above {limit:.0f}")
        self._store.add_deletes(resource, count, now=now)

    def _count(self, table: str) -> int:
        sql = f"select count(*) from {quoted(table)}"  # noqa: S608 - quoted
        return int(self._sql.execute(sql).fetchone()[0])

    # --- snapshots ----------------------------------------------------------------

    def _drop_staging(self, target: Target, resource: str, stream: Stream) -> Stream:
        if stream.snapshot is None:
            return stream
        for table in (target.staging, target.kept):
            self._sql.execute(f"drop table if exists {quoted(table)}")
        stream = replace(stream, snapshot=None, part=0)
        self._store.put_stream(resource, stream)
        self._store.unstage(resource)
        return stream

    def _stage(
        self, target: Target, file: BatchFile, stream: Stream, snapshot: Snapshot
    ) -> Stream:
        manifest, items = target.manifest, target.items
        if stream.snapshot != snapshot.id:
            stream = self._drop_staging(target, manifest.resource, stream)
            key_only = columns.keys(items)
            self._sql.execute(columns.table_sql(target.staging, items))
            self._sql.execute(columns.table_sql(target.kept, key_only))
            stream = replace(stream, snapshot=snapshot.id)
        elif self._staged_catalog(manifest, stream) != manifest.catalog.digest:
            raise Rejected("snapshot-incomplete", "one snapshot has one catalog")
        if snapshot.part != stream.part + 1:
            raise Rejected(
                "snapshot-incomplete",
                f"expected part {stream.part + 1}, got {snapshot.part}",
            )
        insert = columns.insert_sql(target.staging, items)
        keep = columns.insert_sql(target.kept, columns.keys(items))
        for batch in file.trusted():
            self._sql.executemany(insert, columns.rows_of(_only(batch, "u"), items))
            kept = columns.rows_of(_only(batch, "k"), columns.keys(items))
            self._sql.executemany(keep, kept)
        return replace(stream, part=snapshot.part)

    def _staged_catalog(self, manifest: Manifest, stream: Stream) -> str | None:
        staged = self._store.staged(manifest.resource)
        if not staged or not stream.part:
            return manifest.catalog.digest
        return wire.parse(payload_of(staged[0].message)).catalog.digest

    def _keep_staged(self, due: Due, stream: Stream) -> None:
        """A part stays ``stored``; it becomes ``loaded`` with the final one."""
        self._store.put_stream(due.resource, stream)
        self._store.stage(due.resource, due.epoch, due.seq)

    def _swap(self, target: Target, snapshot: Snapshot) -> None:
        """The staged rows become the resource's rows."""
        table, staging, kept = target.table, target.staging, target.kept
        same = columns.same_key(staging, kept, target.items)
        self._sql.execute(
            f"delete from {quoted(kept)} where exists"  # noqa: S608 - quoted
            f" (select 1 from {quoted(staging)} where {same})"
        )
        catalog = self._store.stream(target.manifest.resource).catalog
        old = () if catalog is None else self._store.items(catalog)
        if old:
            self._brake(target, self._gone(target, old))
        found = self._count(staging) + self._count(kept)
        if found != snapshot.rows:
            raise Rejected(
                "snapshot-incomplete", f"expected {snapshot.rows} keys, got {found}"
            )
        if old:
            self._take_kept(target, old)
            self._sql.execute(f"drop table {quoted(table)}")
        self._sql.execute(f"alter table {quoted(staging)} rename to {quoted(table)}")
        self._sql.execute(f"drop table {quoted(kept)}")

    def _gone(self, target: Target, old: tuple[Item, ...]) -> int:
        """Keys that the centre has and the snapshot has not."""
        if not _same_keys(old, target.items):
            return self._count(target.table)
        missing = " and ".join(
            f"not exists (select 1 from {quoted(other)} where"  # noqa: S608 - quoted
            f" {columns.same_key(target.table, other, target.items)})"
            for other in (target.staging, target.kept)
        )
        sql = f"select count(*) from {quoted(target.table)} where {missing}"  # noqa: S608
        return int(self._sql.execute(sql).fetchone()[0])

    def _take_kept(self, target: Target, old: tuple[Item, ...]) -> None:
        """Keys with only ``k`` take the centre's row, in the columns both have."""
        if not _same_keys(old, target.items):
            return
        shapes = {(i.name, i.type) for i in old}
        both = columns.names(i for i in target.items if (i.name, i.type) in shapes)
        same = columns.same_key(target.table, target.kept, target.items)
        self._sql.execute(
            f"insert into {quoted(target.staging)} ({both})"  # noqa: S608 - quoted
            f" select {both} from {quoted(target.table)} where exists"
            f" (select 1 from {quoted(target.kept)} where {same})"
        )

    def _finish_parts(self, due: Due, manifest: Manifest) -> None:
        """The earlier parts are loaded with the final one."""
        for part in self._store.staged(due.resource):
            earlier = wire.parse(payload_of(part.message))
            digest = digest_of(part.message)
            receipt = self._signer.receipt(
                earlier.id, digest, "loaded", rows=earlier.rows
            )
            self._settle(part, Known(digest, "loaded", receipt))
        self._store.unstage(manifest.resource)


def digest_of(message: str) -> str:
    """Message digest of a kept message."""
    return message_digest(message)


def _only(batch: pa.RecordBatch, op: str) -> pa.RecordBatch:
    mask = pc.equal(batch.column(arrow.OP), pa.scalar(op))
    return batch if pc.all(mask).as_py() else batch.filter(mask)


def _same_keys(old: tuple[Item, ...], new: tuple[Item, ...]) -> bool:
    return _shape(columns.keys(old)) == _shape(columns.keys(new))


def _shape(items: tuple[Item, ...] | list[Item]) -> list[tuple[str, str, bool]]:
    return [(item.name, item.type, item.key) for item in items]
