# SPDX-License-Identifier: Apache-2.0
"""What waits under a key that the exchange takes no more is sealed anew (wire.md §2).

Rules

1. The payload stays as it is: only line 1 is made again, by the key in use, in a new
   epoch of reason ``rekeyed`` that chains to the exchange's signed position. The source
   is not asked.
2. All that waits moves in one transaction, after the new files are synced. Ended before
   it, the new files are orphans; after it, the old ones are.
3. A catalog statement that has to be sent, for the first time or again, is signed anew,
   too, before the batches that name it. Its digest is another one then, so they are
   sealed anew also where their own key still counts.
4. Where that cannot be, because the disk has no room for a second copy or a batch was
   receipted once and waits again, the epoch is begun and the source is read again.
5. What was made by a try that failed is removed, and takes no part of the quota.
6. A run that reads meanwhile would move the chain, again and again. It is cut before,
   and goes on in the new epoch where it can.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agent.crypto.jose import message_digest, split
from agent.errors import MalformedMessage, SpoolDamaged, SpoolWriteFailed
from agent.model.stream import Head
from agent.pipeline import seal
from agent.pipeline.flow import files
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import Parts
from agent.state import Batch, Catalog, Epoch
from agent.state.rekeys import Resealed
from agent.wire import batch as wire
from agent.wire import catalog as wire_catalog
from agent.wire.batch import LINE_CAP, CatalogRef, StreamRef
from agent.wire.grammar import format_time

CHUNK = 1 << 20


def over(parts: Parts, batch: Batch) -> bool:
    """Whether the exchange takes a batch no more as it is sealed.

    Its key is spent, or that of the statement that it names and that has to be sent; or
    that statement was signed anew since.

    Raises:
        SpoolDamaged: nobody can say any more what it names.
    """
    line = parts.state.line(batch.stream, batch.epoch, batch.seq)
    if line is None:
        return False
    try:
        kid = split(line, cap=LINE_CAP).kid
    except MalformedMessage:
        return False  # its file says the same, and is found to be damaged
    return parts.spent(kid) or _unstated(parts, batch)


def _unstated(parts: Parts, batch: Batch) -> bool:
    named = files.manifest_of(parts, batch).catalog
    catalog = parts.state.catalog(batch.stream, named.version)
    if catalog is None:
        return False
    return catalog.digest != named.digest or unsendable(parts, catalog)


def unsendable(parts: Parts, catalog: Catalog) -> bool:
    """Whether a statement has to be sent, and its key is spent."""
    if catalog.sent:
        return False
    return parts.spent(split(catalog.jws, cap=wire_catalog.CAP).kid)


async def cut_reading(lane: Lane) -> None:
    """End the run that reads, rule 6; none begins before the next step of sending."""
    lane.ready = False
    lane.abort("epoch")
    while lane.reading is not None:
        await lane.bell.listen().wait()


def movable(lane: Lane, batches: Sequence[Batch]) -> bool:
    """Whether these can be sealed anew, rule 4."""
    parts = lane.parts
    if not parts.spool.room(sum(b.size + LINE_CAP for b in batches)):
        return False
    receipts = parts.state.receipts_of
    return not any(receipts(b.stream, b.epoch, b.seq) for b in batches)


def restate(lane: Lane, batches: Sequence[Batch]) -> None:
    """Sign the statements anew that these name and whose key is over, rule 3.

    No others: an old version that the exchange has must not come again as another one.

    Raises:
        SpoolDamaged: nobody can say any more what a batch names.
    """
    parts = lane.parts
    named = {files.manifest_of(parts, batch).catalog.version for batch in batches}
    for catalog in parts.state.unsent_catalogs(lane.stream_id):
        if catalog.version in named and unsendable(parts, catalog):
            payload = seal.payload_of(catalog.jws)
            jws = parts.signer.sign(wire_catalog.TYP, payload)
            parts.state.rekeys.restate(
                lane.stream_id, catalog.version, jws=jws, digest=message_digest(jws)
            )


def seal_anew(lane: Lane, batches: Sequence[Batch], *, epoch: Epoch, on: Head) -> None:
    """Move what waits into a new epoch.

    Args:
        lane: the stream.
        batches: everything of it that waits, in chain order.
        epoch: that is begun.
        on: the head of the stream before.

    Raises:
        SpoolDamaged: a file is not what was registered.
        SpoolWriteFailed: the disk refused.
        ChainMoved: the stream went on meanwhile; nothing has changed.
    """
    parts, made = lane.parts, list[Resealed]()
    written = f"rekey-{lane.stream_id}"  # other streams do the same meanwhile
    parts.spool.discard(written)
    try:
        for new in _written(lane, batches, head=epoch.head, name=written):
            made.append(new)
        parts.state.rekeys.sealed_anew(lane.stream_id, epoch, made, on=on)
    except BaseException:
        parts.spool.remove(new.file for new in made)
        parts.spool.discard(written)
        raise
    parts.spool.remove(b.file for b in batches)


def _written(
    lane: Lane, batches: Sequence[Batch], *, head: Head, name: str
) -> Iterator[Resealed]:
    """Each batch as it is on the new head, once its file is there."""
    parts = lane.parts
    for part, batch in enumerate(batches, 1):
        path = files.check(parts, batch)
        new = _sealed(lane, batch, head)
        tmp = parts.spool.tmp(name, part)
        _copy(path, tmp, new.line, payload=batch.content_size)
        parts.spool.publish(tmp, new.file, size=new.size)
        yield new
        head = head.after(new.digest)


def _sealed(lane: Lane, batch: Batch, head: Head) -> Resealed:
    """Line 1 of a batch on another head, and where its file will be."""
    parts = lane.parts
    at = format_time(parts.chance.now())
    sealed = files.manifest_of(parts, batch)
    catalog = parts.state.catalog(batch.stream, sealed.catalog.version)
    if catalog is None:
        raise SpoolDamaged(f"{batch.file}: its catalog is unknown")
    manifest = replace(
        sealed,
        catalog=CatalogRef(catalog.version, catalog.digest),
        stream=StreamRef(
            epoch=head.epoch,
            seq=head.seq + 1,
            prev=head.prev,
            incarnation=head.incarnation,
            reason=head.reason,
        ),
        sealed_at=at,
    )
    line = parts.signer.sign(wire.TYP, manifest.payload())
    return Resealed(
        old=(batch.epoch, batch.seq),
        head=head,
        line=line,
        digest=message_digest(line),
        file=parts.spool.name(lane.batch_id(head.epoch, head.seq + 1)),
        size=len(line) + 1 + batch.content_size,
        at=at,
    )


def _copy(old: Path, new: Path, line: str, *, payload: int) -> None:
    """Line 1 and the payload of an old file, synced.

    Raises:
        SpoolDamaged: the old file cannot be read.
        SpoolWriteFailed: the new one cannot be written.
    """
    try:
        with new.open("wb") as target:
            target.write(line.encode("ascii") + b"\n")
            target.writelines(_pieces(old, payload))
            target.flush()
            os.fsync(target.fileno())
    except OSError as e:
        raise SpoolWriteFailed(f"{new}: {e.strerror}") from e


def _pieces(path: Path, size: int) -> Iterator[bytes]:
    """The last ``size`` bytes of a file."""
    try:
        with path.open("rb") as source:
            source.seek(-size, os.SEEK_END)
            while piece := source.read(CHUNK):
                yield piece
    except OSError as e:
        raise SpoolDamaged(f"{path}: {e.strerror}") from e
