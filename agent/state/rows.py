# SPDX-License-Identifier: Apache-2.0
"""Table rows to records and back; no SQL here."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from agent.errors import StateDamaged
from agent.model.batch import Quality, Rows
from agent.model.stream import Head
from agent.state.records import (
    Batch,
    Catalog,
    KeptReceipt,
    NewBatch,
    NewReceipt,
    Run,
    RunTotals,
    Stream,
    StreamKey,
    Sums,
)

Record = dict[str, Any]


def many(cursor: sqlite3.Cursor) -> list[Record]:
    """All rows by column name."""
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


def one(cursor: sqlite3.Cursor) -> Record:
    """The only row.

    Raises:
        StateDamaged: there is none.
    """
    records = many(cursor)
    if len(records) != 1:
        raise StateDamaged(f"expected one row, got {len(records)}")
    return records[0]


def stream(r: Record) -> Stream:
    """A row of ``streams``."""
    return Stream(
        id=r["id"],
        key=StreamKey(r["producer"], r["aud"], r["resource"]),
        head=Head(r["epoch"], r["seq"], r["prev"], r["incarnation"], r["reason"]),
        halt_code=r["halt_code"],
        halt_detail=r["halt_detail"],
        halt_at=r["halt_at"],
    )


def batch_values(new: NewBatch) -> list[Any]:
    """The columns of ``batches`` up to ``n_skipped``, then ``sealed_at``."""
    rows, quality = new.rows, new.quality
    return [
        new.stream,
        new.head.epoch,
        new.head.seq + 1,
        new.run,
        new.digest,
        new.file,
        new.size,
        new.content_size,
        new.content_digest,
        new.mode,
        new.part,
        int(new.final),
        new.distinct,
        *(rows.upsert, rows.delete, rows.keep),
        *(quality.read, quality.quarantined, quality.skipped),
        new.at,
    ]


def batch(r: Record) -> Batch:
    """A row of ``batches``."""
    return Batch(
        stream=r["stream"],
        epoch=r["epoch"],
        seq=r["seq"],
        run=r["run"],
        digest=r["digest"],
        file=r["file"],
        size=r["size"],
        content_size=r["content_size"],
        content_digest=r["content_digest"],
        mode=r["mode"],
        part=r["part"],
        final=bool(r["final"]),
        distinct=r["distinct_rows"],
        rows=_rows(r),
        quality=_quality(r),
        state=r["state"],
        gone=bool(r["gone"]),
        sealed_at=r["sealed_at"],
        settled_at=r["settled_at"],
    )


def receipt_values(new: NewReceipt) -> list[Any]:
    """The columns of ``receipts`` from ``epoch`` to ``jws``; see its insertion."""
    rows = new.rows
    counts = (
        (None, None, None) if rows is None else (rows.upsert, rows.delete, rows.keep)
    )
    return [new.epoch, new.seq, new.state, new.code, *counts, new.at, new.jws]


def kept_receipt(r: Record) -> KeptReceipt:
    """A row of ``receipts``."""
    return KeptReceipt(
        epoch=r["epoch"],
        seq=r["seq"],
        state=r["state"],
        code=r["code"],
        rows=None if r["n_upsert"] is None else _rows(r),
        at=r["at"],
        jws=r["jws"],
        kept_at=r["kept_at"],
        voucher=r["voucher"],
    )


def run(r: Record) -> Run:
    """A row of ``runs``."""
    return Run(
        id=r["id"],
        stream=r["stream"],
        state=r["state"],
        deletes_confirmed=r["deletes_confirmed"],
        asked_at=r["asked_at"],
        started_at=r["started_at"],
        ended_at=r["ended_at"],
        totals=None if r["totals"] is None else _totals(r["totals"]),
        code=r["code"],
        detail=r["detail"],
        successor=r["successor"],
        keys_gone=r["keys_gone"],
        kind=r["kind"],
    )


def catalog(r: Record) -> Catalog:
    """A row of ``catalogs``."""
    return Catalog(r["version"], r["digest"], r["jws"], r["sent_at"] is not None)


def sums(records: Sequence[Record]) -> Sums:
    """Batches by state with the receipts' upserts, added up."""

    def upserts(*states: str) -> int:
        return sum(r["n_upsert"] for r in records if r["state"] in states)

    return Sums(
        batches=sum(r["batches"] for r in records),
        open_upsert=upserts("waiting", "stored"),
        loaded_upsert=sum(
            r["receipted"] or 0 for r in records if r["state"] == "loaded"
        ),
        lost_upsert=upserts("rejected", "dropped"),
        rows=sum((_rows(r) for r in records), Rows(0, 0, 0)),
        quality=sum((_quality(r) for r in records), Quality(0, 0, 0)),
        states={r["state"]: r["batches"] for r in records},
        uneven=sum(r["uneven"] for r in records),
        overkept=sum(r["overkept"] for r in records),
    )


def _rows(r: Record) -> Rows:
    return Rows(upsert=r["n_upsert"], delete=r["n_delete"], keep=r["n_keep"])


def _quality(r: Record) -> Quality:
    return Quality(
        read=r["n_read"], quarantined=r["n_quarantined"], skipped=r["n_skipped"]
    )


def _totals(text: str) -> RunTotals:
    body = json.loads(text)
    return RunTotals(
        rows=Rows(**body["rows"]),
        quality=Quality(**body["quality"]),
        reasons=body["reasons"],
        warnings=body["warnings"],
    )
