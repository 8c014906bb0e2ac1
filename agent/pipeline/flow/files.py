# SPDX-License-Identifier: Apache-2.0
"""Whether a batch file is what was registered, and may still leave.

Both are asked before every byte that leaves, whether it leaves for the first time or
is sent again: documents may have changed meanwhile, and disks do err.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import GateClosed, MalformedMessage, SpoolDamaged
from agent.model.item import Item
from agent.pipeline import seal
from agent.pipeline.flow import judge
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.seams import Parts
from agent.pipeline.spool import Expected
from agent.state import Batch, Catalog
from agent.wire import batch as wire
from agent.wire import catalog as wire_catalog
from agent.wire.batch import Manifest


def check(parts: Parts, batch: Batch) -> Path:
    """The file of a batch, after every byte of it was compared.

    Raises:
        SpoolDamaged: it is missing, cannot be read or differs.
    """
    return parts.spool.check(
        Expected(
            file=batch.file,
            size=batch.size,
            digest=batch.digest,
            content_size=batch.content_size,
            content_digest=batch.content_digest,
            line=parts.state.line(batch.stream, batch.epoch, batch.seq),
        )
    )


def manifest_of(parts: Parts, batch: Batch) -> Manifest:
    """What a batch says, as it was signed; of an old one from its file.

    Raises:
        SpoolDamaged: it was not kept, and the file cannot be read.
    """
    line = parts.state.line(batch.stream, batch.epoch, batch.seq)
    try:
        if line is None:
            path = parts.spool.path(batch.file)
            line = wire.read_line1(path).decode("ascii")
        return wire.parse(seal.payload_of(line))
    except (OSError, MalformedMessage, UnicodeDecodeError) as e:
        raise SpoolDamaged(f"{batch.file}: {e}") from e


def before(parts: Parts, batch: Batch) -> str | None:
    """What a batch must chain to by the state: its epoch's base, or the one before."""
    state = parts.state
    if batch.seq == 1:
        return state.epoch_base(batch.stream, batch.epoch)
    found = state.batch(batch.stream, batch.epoch, batch.seq - 1)
    return None if found is None else found.digest


def check_gate(lane: Lane, batch: Batch) -> None:
    """Judge a batch by the documents of today, not by those of its sealing.

    Raises:
        GateClosed: it holds an item that is not shared now, or was read where nothing
            may be read now. Without rows it holds none.
        SpoolDamaged: nobody can say any more what it holds.
    """
    if not any(vars(batch.rows).values()):
        return
    version = manifest_of(lane.parts, batch).catalog.version
    catalog = lane.parts.state.catalog(lane.stream_id, version)
    if catalog is None or not may_leave(lane, catalog):
        raise GateClosed(
            f"{lane.resource}: batch {batch.epoch}/{batch.seq}, sealed as version"
            f" {version}, holds an item that is not shared any more"
        )
    _check_place(lane, batch)


def _check_place(lane: Lane, batch: Batch) -> None:
    """Judge where a batch was read by the ceiling of today.

    Raises:
        GateClosed: it does not allow that, or nobody knows where.
    """
    allowed = lane.parts.allowed
    if allowed is None:
        return
    place = lane.parts.state.places.of(batch.run)
    if place is None or not place.within(allowed):
        raise GateClosed(
            f"{lane.resource}: batch {batch.epoch}/{batch.seq} was read at"
            f" {place or 'a place that nobody knows'}, by columns that ceiling.toml"
            " does not allow any more"
        )


def sealed_items(lane: Lane, batch: Batch) -> tuple[Item, ...]:
    """The items of the catalog by which a batch was sealed.

    Raises:
        SpoolDamaged: nobody can say any more what they were.
    """
    version = manifest_of(lane.parts, batch).catalog.version
    catalog = lane.parts.state.catalog(lane.stream_id, version)
    if catalog is None:
        raise SpoolDamaged(f"{batch.file}: its catalog, version {version}, is unknown")
    return wire_catalog.parse(seal.payload_of(catalog.jws)).items


def may_leave(lane: Lane, catalog: Catalog) -> bool:
    """Whether everything that a statement names may leave today."""
    items = wire_catalog.parse(seal.payload_of(catalog.jws)).items
    return judge.still_shared(items, lane.leaving.items)
