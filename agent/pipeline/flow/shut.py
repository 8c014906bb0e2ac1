# SPDX-License-Identifier: Apache-2.0
"""Recalling what may not leave any more (撤回 of a resource whose gate is shut).

A shut gate, a lower share type or a document that is gone keep rows here. They must not
keep a department from taking back what it sent before. So a recall needs no open gate
and no document, only that the exchange has loaded something of the resource: it asks
how many rows there are, and sends one snapshot without a row, a key or a value, under
the last catalog statement that was sent. Of items only their digest is told, and that
has left before: the ceiling is not touched.

Everything else of such a resource stays barred. What still waits of it is given up, as
everywhere where the gate has closed: it would come behind the recall.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from agent.model.item import Item
from agent.model.job import BoundItem, Job
from agent.model.run import RunKind
from agent.pipeline import seal
from agent.pipeline.flow.seams import Leaving, Parts
from agent.state import StreamKey
from agent.wire import catalog as wire_catalog


@dataclass(frozen=True)
class Shut:
    """A resource of which nothing may leave.

    Args:
        resource: its code.
        version: of the last catalog statement that was sent.
        sealed: the items of that statement, which the centre's table has.
        items: what may leave: none.
    """

    resource: str
    version: int
    sealed: tuple[Item, ...]
    items: tuple[Item, ...] = ()


def sent(parts: Parts, resource: str) -> Shut | None:
    """A resource that the exchange has something of, or None."""
    key = StreamKey(parts.sender.producer, parts.sender.aud, resource)
    state = parts.state
    stream = state.stream_of(key)
    if stream is None or state.last_loaded(stream) == (0, 0):
        return None
    catalog = state.leftovers.newest_sent(stream)
    if catalog is None:
        return None
    items = wire_catalog.parse(seal.payload_of(catalog.jws)).items
    return Shut(resource, catalog.version, items)


def recalled(parts: Parts, but: Collection[str]) -> list[Shut]:
    """Resources whose recall stands, though they may not leave."""
    sender = parts.sender
    known = parts.state.leftovers.recalled(sender.producer, sender.aud)
    found = [sent(parts, resource) for resource in known if resource not in but]
    return [leaving for leaving in found if leaving is not None]


def is_shut(leaving: Leaving) -> bool:
    """Whether nothing of a resource may leave but its recall."""
    return isinstance(leaving, Shut)


def job(leaving: Shut, run: str, kind: RunKind) -> Job:
    """What a worker needs to recall: it opens no source and meets no row."""
    return Job(
        kind="pull",
        resource=leaving.resource,
        run=run,
        connector="",
        source={},
        table=(),
        items=tuple(BoundItem(item, item.name) for item in leaving.sealed),
        timezone="UTC",
        severity={},
        batch_raw_bytes=1,
        max_rows_per_batch=1,
        quarantine="",
        statement_timeout_s=1,
        mode=kind,
    )
