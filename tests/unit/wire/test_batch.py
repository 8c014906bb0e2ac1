# SPDX-License-Identifier: Apache-2.0
"""Manifests and line 1 of batch files."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from agent.errors import MalformedMessage
from agent.model.batch import BatchId, Quality, Rows
from agent.wire import batch
from tests.support import vectors


@pytest.fixture
def manifest() -> batch.Manifest:
    """The full batch of the vectors."""
    return batch.parse(vectors.message("batch_full")["payload"].encode())


def test_identity_is_producer_exchange_resource_epoch_seq(manifest: batch.Manifest):
    """And the file's name comes from it."""
    assert manifest.id == BatchId(
        "11990100000000019F/front-1", "yunxi.exchange", "990100001/000001", 1, 1
    )
    assert batch.file_name(manifest.id) == "990100001_000001.1.1.fepb"


def test_manifest_that_would_be_refused_is_never_formatted(manifest: batch.Manifest):
    """The sealer learns of its own fault before it signs."""
    for wrong in (
        replace(manifest, agent=""),
        replace(manifest, rows=Rows(-2, 0, 1)),
        replace(manifest, quality=Quality(2, 1, 0)),
        replace(manifest, mode="cdc"),
        replace(manifest, sealed_at="2026-11-21 08:00:00"),
    ):
        with pytest.raises(MalformedMessage):
            wrong.payload()


@pytest.mark.parametrize("mode", ["incremental", "diff", "cdc", "repair"])
def test_modes_without_snapshot_take_all_operations(
    manifest: batch.Manifest, mode: batch.Mode
):
    """u, d and k."""
    rows = Rows(1, 2, 3)
    other = replace(
        manifest, mode=mode, snapshot=None, rows=rows, quality=Quality(4, 3, 0)
    )
    assert batch.parse(other.payload()) == other


@pytest.mark.parametrize("rows", [Rows(1, 0, 0), Rows(0, 1, 0), Rows(0, 0, 1)])
def test_unchanged_has_no_rows(manifest: batch.Manifest, rows: Rows):
    """Nothing changed means nothing travels."""
    quality = Quality(rows.upsert + 1, 1, 0)
    wrong = replace(
        manifest,
        mode="unchanged",
        snapshot=None,
        rows=rows,
        quality=quality,
        content=batch.Content(0, 0, batch.EMPTY_DIGEST),
    )
    with pytest.raises(MalformedMessage, match="mode unchanged has no"):
        wrong.payload()


def test_first_batch_of_a_later_epoch_follows_the_position(manifest: batch.Manifest):
    """seq 1 with a reason may have a digest before it, or none."""
    for prev in (None, batch.EMPTY_DIGEST):
        stream = replace(manifest.stream, epoch=7, prev=prev, reason="spool_lost")
        again = replace(manifest, stream=stream)
        assert batch.parse(again.payload()).stream == stream


def test_line_1_is_read_up_to_its_lf(tmp_path: Path):
    """From a path or a file, which is left at the payload."""
    path = tmp_path / "x.fepb"
    path.write_bytes(b"a.b.c\npayload")
    assert batch.read_line1(path) == b"a.b.c"
    with path.open("rb") as file:
        assert batch.read_line1(file) == b"a.b.c"
        assert file.read() == b"payload"


def test_line_1_has_its_cap():
    """65,536 bytes with LF pass, one more does not, and no more is read."""
    just = b"a" * (batch.LINE_CAP - 1)
    assert batch.read_line1(io.BytesIO(just + b"\n")) == just
    file = io.BytesIO(just + b"a\n" + bytes(100_000))
    with pytest.raises(MalformedMessage, match="65536"):
        batch.read_line1(file)
    assert file.tell() == batch.LINE_CAP


@pytest.mark.parametrize("data", [b"", b"abc", b"abc\r\n", b"a\rc\n"])
def test_line_1_without_lf_or_with_cr_is_refused(data: bytes):
    """One LF, no CR."""
    with pytest.raises(MalformedMessage):
        batch.read_line1(io.BytesIO(data))
