# SPDX-License-Identifier: Apache-2.0
"""The manifest of a sealed batch, ``fep-batch+jws`` (wire.md §2).

What can be judged from the manifest alone is judged here: the shape, operations by
mode, what goes with ``unchanged``, ``full`` and an epoch's first batch, and that
quality's counts add up. What needs the stream's state is the exchange's to judge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, cast, get_args

from agent.errors import MalformedMessage
from agent.model.batch import BatchId, Mode, Quality, Reason, Rows
from agent.wire import strict
from agent.wire.grammar import (
    DIGEST,
    EXCHANGE,
    INCARNATION,
    NODE,
    RESOURCE,
    UUID7,
    resource_file_part,
)
from agent.wire.members import Members, read

TYP = "fep-batch+jws"
LINE_CAP = 65_536
"""Longest line 1, bytes, its LF included."""
MESSAGE_CAP = LINE_CAP - 1
"""Longest JWS of line 1, bytes."""
PAYLOAD_CAP = 64 * 1024 * 1024
"""Largest payload, bytes."""
RAW_CAP = 512 * 1024 * 1024
"""Largest sum of decompressed buffers, bytes."""
EMPTY_DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""Digest of the empty string."""

OPS: dict[Mode, str] = {
    "full": "uk",
    "incremental": "udk",
    "diff": "udk",
    "cdc": "udk",
    "repair": "udk",
    "unchanged": "",
}
"""Mode -> the operations that its rows may have."""


@dataclass(frozen=True)
class CatalogRef:
    """The catalog statement that a batch follows."""

    version: int
    digest: str


@dataclass(frozen=True)
class StreamRef:
    """Place of a batch in its stream.

    Args:
        epoch: from 1.
        seq: from 1 in each epoch, contiguous.
        prev: message digest of the batch before; None iff nothing was ever stored.
        incarnation: 32 lower hex of the state that made it.
        reason: why the epoch began; set on its first batch only.
    """

    epoch: int
    seq: int
    prev: str | None
    incarnation: str
    reason: Reason | None


@dataclass(frozen=True)
class Content:
    """The payload: bytes, sum of its decompressed buffers, ``sha256:<hex>``."""

    size: int
    raw_size: int
    digest: str


@dataclass(frozen=True)
class Snapshot:
    """A part of a full read; ``rows`` (distinct keys of all) on the final part only."""

    id: str
    part: int
    final: bool
    rows: int | None


@dataclass(frozen=True)
class DeletesConfirmed:
    """A person confirmed up to ``count`` deletes at ``at``."""

    at: str
    count: int


@dataclass(frozen=True)
class Manifest:
    """What line 1 of a batch file says; members as on the wire, times as its text."""

    aud: str
    producer: str
    resource: str
    catalog: CatalogRef
    stream: StreamRef
    content: Content
    rows: Rows
    mode: Mode
    snapshot: Snapshot | None
    deletes_confirmed: DeletesConfirmed | None
    as_of: str
    run_end: bool
    quality: Quality
    sealed_at: str
    agent: str

    @property
    def id(self) -> BatchId:
        """The identity that no other manifest may have."""
        return BatchId(
            self.producer,
            self.aud,
            self.resource,
            self.stream.epoch,
            self.stream.seq,
        )

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit; :func:`parse` would refuse it.
        """
        data = strict.dumps({"v": 1, **asdict(self)})
        parse(data)
        return data


def parse(payload: bytes) -> Manifest:
    """The manifest of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(
        payload,
        "manifest",
        "aud producer resource catalog stream content rows mode snapshot"
        " deletes_confirmed as_of run_end quality sealed_at agent",
    )
    manifest = Manifest(
        aud=m.match("aud", EXCHANGE),
        producer=m.match("producer", NODE),
        resource=m.match("resource", RESOURCE),
        catalog=_catalog(m.inner("catalog", "version digest")),
        stream=_stream(m.inner("stream", "epoch seq prev incarnation reason")),
        content=_content(m.inner("content", "size raw_size digest")),
        rows=read_rows(m, "rows"),
        mode=cast("Mode", m.choice("mode", *OPS)),
        snapshot=_snapshot(m),
        deletes_confirmed=_confirmed(m),
        as_of=m.time("as_of"),
        run_end=m.boolean("run_end"),
        quality=_quality(m.inner("quality", "read quarantined skipped")),
        sealed_at=m.time("sealed_at"),
        agent=m.text("agent"),
    )
    _check_stream(manifest.stream)
    _check_mode(manifest)
    _check_counts(manifest)
    return manifest


def read_rows(members: Members, name: str, *, open_ended: bool = False) -> Rows:
    """The counts by operation that a member holds."""
    rows = members.inner(name, "upsert delete keep", open_ended=open_ended)
    return Rows(rows.integer("upsert"), rows.integer("delete"), rows.integer("keep"))


def _catalog(m: Members) -> CatalogRef:
    return CatalogRef(m.integer("version"), m.match("digest", DIGEST))


def _stream(m: Members) -> StreamRef:
    return StreamRef(
        epoch=m.integer("epoch", least=1),
        seq=m.integer("seq", least=1),
        prev=None if m.null("prev") else m.match("prev", DIGEST),
        incarnation=m.match("incarnation", INCARNATION),
        reason=None
        if m.null("reason")
        else cast("Reason", m.choice("reason", *get_args(Reason))),
    )


def _content(m: Members) -> Content:
    return Content(
        size=m.integer("size", most=PAYLOAD_CAP),
        raw_size=m.integer("raw_size", most=RAW_CAP),
        digest=m.match("digest", DIGEST),
    )


def _snapshot(outer: Members) -> Snapshot | None:
    if outer.null("snapshot"):
        return None
    m = outer.inner("snapshot", "id part final rows")
    final = m.boolean("final")
    if final == m.null("rows"):
        m.fail("rows", "a count exactly on the final part")
    return Snapshot(
        id=m.match("id", UUID7),
        part=m.integer("part", least=1),
        final=final,
        rows=m.integer("rows") if final else None,
    )


def _confirmed(outer: Members) -> DeletesConfirmed | None:
    if outer.null("deletes_confirmed"):
        return None
    m = outer.inner("deletes_confirmed", "at count")
    return DeletesConfirmed(m.time("at"), m.integer("count"))


def _quality(m: Members) -> Quality:
    return Quality(m.integer("read"), m.integer("quarantined"), m.integer("skipped"))


def _check_stream(stream: StreamRef) -> None:
    if (stream.reason is None) == (stream.seq == 1):
        raise MalformedMessage(
            "manifest.stream.reason: expected one exactly on an epoch's first batch"
        )
    if stream.seq > 1 and stream.prev is None:
        raise MalformedMessage("manifest.stream.prev: expected a digest after seq 1")


def _check_mode(manifest: Manifest) -> None:
    mode, rows = manifest.mode, manifest.rows
    counts = {"u": rows.upsert, "d": rows.delete, "k": rows.keep}
    foreign = [op for op, count in counts.items() if count and op not in OPS[mode]]
    if foreign:
        raise MalformedMessage(f"manifest.rows: mode {mode} has no {foreign[0]} rows")
    if (mode == "full") != (manifest.snapshot is not None):
        raise MalformedMessage("manifest.snapshot: expected one exactly in mode full")
    empty = Content(0, 0, EMPTY_DIGEST)
    if mode == "unchanged" and manifest.content != empty:
        raise MalformedMessage("manifest.content: mode unchanged has no payload")


def _check_counts(manifest: Manifest) -> None:
    quality, rows = manifest.quality, manifest.rows
    if quality.read != rows.upsert + quality.quarantined + quality.skipped:
        raise MalformedMessage(
            "manifest.quality: expected read = upsert + quarantined + skipped"
        )
    if rows.keep > quality.quarantined:
        raise MalformedMessage("manifest.rows.keep: expected at most the quarantined")


def file_name(batch: BatchId) -> str:
    """``<resource_>.<epoch>.<seq>.fepb``; a name is never trusted, line 1 is."""
    return f"{resource_file_part(batch.resource)}.{batch.epoch}.{batch.seq}.fepb"


def read_line1(source: Path | IO[bytes]) -> bytes:
    """Line 1 of a batch file without its LF; never reads more than its cap.

    Args:
        source: a path, or a file at its beginning, left at the first payload byte.

    Raises:
        MalformedMessage: no LF within the cap, or a CR.
        OSError: the file cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_line1(file)
    line = source.readline(LINE_CAP)
    if not line.endswith(b"\n"):
        raise MalformedMessage(f"line 1: expected an LF within {LINE_CAP} bytes")
    if b"\r" in line:
        raise MalformedMessage("line 1: expected no CR")
    return line[:-1]
