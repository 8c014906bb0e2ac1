# SPDX-License-Identifier: Apache-2.0
"""Digests of the centre's rows, by buckets of their keys (wire.md §3, Reconcile)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from agent.crypto.frames import CANON, bucket, digest_text
from agent.model.item import Item
from agent.wire import arrow
from agent.wire.reconcile import RESPONSE_CAP, Key, Request, Response
from sandbox import columns
from sandbox.accept import Refused
from sandbox.store import Registry, open_reader

_PAGE = 16_384
"""Rows in memory at once."""


@dataclass
class Tally:
    """What is counted while the table is read once."""

    bits: int
    wanted: frozenset[int] = frozenset()
    rows: list[int] = field(default_factory=list)
    sums: list[int] = field(default_factory=list)
    detail: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rows = [0] * (1 << self.bits)
        self.sums = [0] * (1 << self.bits)

    def add(self, page: pa.RecordBatch, items: tuple[Item, ...]) -> None:
        """Count a page of rows."""
        digests = arrow.row_digests(page, items)
        if not self.bits and not self.wanted:
            self.rows[0] += page.num_rows
            self.sums[0] += sum(digests)
            return
        texts = arrow.canonical_columns(page, columns.keys(items))
        keys = zip(*texts, strict=True)
        frames = arrow.key_frames(page, items)
        for key, frame, digest in zip(keys, frames, digests, strict=True):
            number = bucket(frame, self.bits)
            self.rows[number] += 1
            self.sums[number] += digest
            if number in self.wanted:
                text = tuple((part or b"").decode() for part in key)
                self.detail.append(Key(number, text, digest_text(digest)))

    def buckets(self) -> tuple[tuple[int, str], ...]:
        """(rows, digest) of each bucket."""
        pairs = zip(self.rows, self.sums, strict=True)
        return tuple((rows, digest_text(total)) for rows, total in pairs)


def answer(database: Path, request: Request, *, digest: str, iat: int) -> bytes:
    """The payload of ``fep-reconcile-res+jws``; reads the table in one snapshot.

    Args:
        database: the exchange's file; a connection of its own is opened.
        request: of the resource's owner.
        digest: message digest of the request.
        iat: the exchange's clock, seconds since 1970.

    Raises:
        Refused: busy, stale-epoch, catalog-unknown or too-large.
    """
    registry = open_reader(database)
    try:
        registry.connection.execute("begin")
        _check(registry, request)
        tally = Tally(request.bits, frozenset(request.detail or ()))
        items = registry.items(request.catalog)
        for page in pages(registry, request.resource, items):
            tally.add(page, items)
    finally:
        registry.connection.close()
    response = Response(
        iss=request.aud,
        aud=request.iss,
        irt=request.jti,
        req_sha256=digest,
        iat=iat,
        resource=request.resource,
        epoch=request.epoch,
        seq=request.seq,
        catalog=request.catalog,
        bits=request.bits,
        rows=sum(tally.rows),
        buckets=tally.buckets(),
        detail=None if request.detail is None else tuple(tally.detail),
    )
    payload = response.payload()
    if len(payload) * 4 // 3 + 512 > RESPONSE_CAP:
        raise Refused("too-large", "choose more bits, or fewer buckets")
    return payload


def totals(database: Path, resource: str) -> tuple[int, str]:
    """(rows, digest) of a resource's table as it stands."""
    registry = open_reader(database)
    try:
        registry.connection.execute("begin")
        stream = registry.stream(resource)
        tally = Tally(0)
        if stream.catalog is not None:
            items = registry.items(stream.catalog)
            for page in pages(registry, resource, items):
                tally.add(page, items)
    finally:
        registry.connection.close()
    return tally.buckets()[0]


def pages(
    registry: Registry, resource: str, items: tuple[Item, ...]
) -> Iterator[pa.RecordBatch]:
    """The rows of a table in the Arrow types of its items."""
    if registry.stream(resource).catalog is None:
        return
    table = columns.quoted(registry.table(resource))
    sql = f"select {columns.names(items)} from {table}"  # noqa: S608 - quoted
    cursor = registry.connection.execute(sql)
    while rows := cursor.fetchmany(_PAGE):
        yield columns.batch_of(rows, items)


def _check(registry: Registry, request: Request) -> None:
    if request.canon != CANON:
        raise Refused("malformed", f"canon: expected {CANON}")
    stream = registry.stream(request.resource)
    asked = (request.epoch, request.seq)
    if asked > stream.loaded:
        raise Refused("busy", "not loaded yet")
    if asked < stream.loaded:
        raise Refused("stale-epoch", "a later batch is loaded")
    if stream.catalog not in (None, request.catalog):
        raise Refused("catalog-unknown", "the table follows another statement")
    if registry.statement(request.catalog) is None:
        raise Refused("catalog-unknown", "no such statement")
