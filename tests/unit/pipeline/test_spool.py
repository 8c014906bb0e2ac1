# SPDX-License-Identifier: Apache-2.0
"""Batch files: named durably, compared before they leave, never more than allowed."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from agent.crypto.jose import message_digest
from agent.errors import SpoolDamaged, SpoolVersion, SpoolWriteFailed
from agent.model.batch import BatchId
from agent.pipeline.spool import Cleaned, Expected, Quota, Spool, free_bytes

BATCH = BatchId("11330100MB0000000A/fep-01", "yunxi.exchange", "330100001/000001", 2, 7)
LINE = b"aGVhZGVy.cGF5bG9hZA.c2lnbmF0dXJl"
PAYLOAD = b"rows" * 1000
DATA = LINE + b"\n" + PAYLOAD


def made(folder: Path, *, quota: Quota = Quota(10**6, 0), free: int = 10**9) -> Spool:  # noqa: B008
    return Spool(folder / "spool", quota=quota, free=lambda _folder: free)


def published(spool: Spool, batch: BatchId = BATCH, data: bytes = DATA) -> str:
    tmp = spool.tmp("run", batch.seq)
    tmp.write_bytes(data)
    name = spool.name(batch)
    spool.publish(tmp, name, size=len(data))
    return name


def expected(name: str) -> Expected:
    return Expected(
        file=name,
        size=len(DATA),
        digest=message_digest(LINE.decode()),
        content_size=len(PAYLOAD),
        content_digest="sha256:" + hashlib.sha256(PAYLOAD).hexdigest(),
    )


def test_a_file_is_named_after_its_batch(tmp_path: Path) -> None:
    """The exchange's folder, the resource's, the identity."""
    spool = made(tmp_path)
    name = published(spool)
    assert name == "yunxi.exchange/330100001_000001/330100001_000001.2.7.fepb"
    assert spool.path(name).read_bytes() == DATA
    assert list((tmp_path / "spool/tmp").iterdir()) == []
    assert spool.used == len(DATA)


def test_two_streams_may_be_the_first_at_once(tmp_path: Path) -> None:
    """Both need the exchange's folder; the one that comes second is not refused."""
    others = [replace(BATCH, resource=f"330100001/00000{n}", seq=n) for n in (1, 2)]
    for turn in range(150):
        spool, begin = made(tmp_path / f"{turn}"), threading.Barrier(2)

        def publish(batch: BatchId, spool: Spool, begin: threading.Barrier) -> None:
            begin.wait()
            published(spool, batch)

        with ThreadPoolExecutor(2) as threads:
            steps = [threads.submit(publish, b, spool, begin) for b in others]
        for step in steps:
            step.result()


def test_another_spool_finds_what_is_there(tmp_path: Path) -> None:
    """Use is counted from the files."""
    published(made(tmp_path))
    assert made(tmp_path).used == len(DATA)


def test_a_file_of_another_size_is_not_published(tmp_path: Path) -> None:
    """A worker that wrote less than it said."""
    spool = made(tmp_path)
    tmp = spool.tmp("run", 1)
    tmp.write_bytes(DATA[:-1])
    with pytest.raises(SpoolWriteFailed, match=f"expected {len(DATA)} bytes"):
        spool.publish(tmp, spool.name(BATCH), size=len(DATA))
    assert spool.used == 0


def test_a_file_that_is_not_there_is_not_published(tmp_path: Path) -> None:
    """It has exit code 74, as every refusal of the disk."""
    spool = made(tmp_path)
    with pytest.raises(SpoolWriteFailed) as caught:
        spool.publish(spool.tmp("run", 1), spool.name(BATCH), size=1)
    assert caught.value.exit_code == 74


def test_a_sound_file_may_leave(tmp_path: Path) -> None:
    """check gives its path."""
    spool = made(tmp_path)
    name = published(spool)
    assert spool.check(expected(name)) == spool.path(name)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (DATA[:-1], "size of the file"),
        (DATA + b"x", "size of the file"),
        (DATA.replace(b"rows", b"rowz", 1), "digest"),
        (DATA.replace(b"aGVh", b"bGVh"), "message digest"),
        (DATA.replace(b"\n", b"\r", 1), "LF"),
        (DATA.replace(b"aGVh", b"\xff\xff\xff\xff"), "message digest"),
        (LINE[:-1] + b"\nx" + PAYLOAD, "size of the payload"),
        (b"", "LF"),
        (b"x" * 70_000 + b"\n", "LF"),
    ],
)
def test_a_file_that_differs_never_leaves(
    tmp_path: Path, data: bytes, what: str
) -> None:
    """The detail says what differs."""
    spool = made(tmp_path)
    name = published(spool)
    spool.path(name).write_bytes(data)
    with pytest.raises(SpoolDamaged, match=what):
        spool.check(expected(name))


def test_a_file_that_is_gone_is_damage(tmp_path: Path) -> None:
    """As one that cannot be read."""
    spool = made(tmp_path)
    name = published(spool)
    spool.remove([name])
    with pytest.raises(SpoolDamaged, match="No such file"):
        spool.check(expected(name))


def test_a_crash_leaves_nothing_that_was_not_registered(tmp_path: Path) -> None:
    """tmp is emptied, orphans go, what is registered stays."""
    spool = made(tmp_path)
    name = published(spool)
    orphan = published(spool, replace(BATCH, seq=8))
    spool.tmp("run", 9).write_bytes(b"half")
    assert spool.clean({name, "a/b/c"}) == Cleaned(2, ("a/b/c",))
    assert not spool.path(orphan).exists()
    assert spool.used == len(DATA)


def test_what_a_run_left_half_written_goes_and_no_other(tmp_path: Path) -> None:
    """The run that goes on writes the same part again."""
    spool = made(tmp_path)
    spool.tmp("run", 2).write_bytes(b"half")
    spool.tmp("run2", 2).write_bytes(b"half")
    spool.discard("run")
    assert not spool.tmp("run", 2).exists()
    assert spool.tmp("run2", 2).exists()


def test_removing_twice_is_no_fault(tmp_path: Path) -> None:
    """A crash between deleting and marking is repeated harmlessly."""
    spool = made(tmp_path)
    name = published(spool)
    spool.remove([name, name])
    spool.remove([name])
    assert spool.used == 0


@pytest.mark.parametrize(
    ("size", "room"), [(10**6 - len(DATA), True), (10**6 - len(DATA) + 1, False)]
)
def test_the_quota_is_exact(tmp_path: Path, size: int, room: bool) -> None:
    """One byte more has no room."""
    spool = made(tmp_path)
    published(spool)
    assert spool.room(size) is room


def test_an_empty_spool_takes_a_file_larger_than_its_quota(tmp_path: Path) -> None:
    """A quota that is too small slows, it does not stop."""
    spool = made(tmp_path, quota=Quota(10, 0))
    assert spool.room(1000)
    published(spool)
    assert not spool.room(1)


@pytest.mark.parametrize(("size", "room"), [(500, True), (501, False)])
def test_the_free_space_floor_is_exact(tmp_path: Path, size: int, room: bool) -> None:
    """Also for an empty spool: the disk belongs to others too."""
    assert made(tmp_path, quota=Quota(10**6, 500), free=1000).room(size) is room


def test_free_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    """More than none."""
    assert free_bytes(tmp_path) > 0


def test_a_spool_that_cannot_be_made_is_a_write_fault(tmp_path: Path) -> None:
    """Its place is taken by a file."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(SpoolWriteFailed):
        made(tmp_path)


def test_folders_are_for_their_owner_only(tmp_path: Path) -> None:
    """Mode 0700 down to the resource's folder."""
    spool = made(tmp_path)
    folder = spool.path(published(spool)).parent
    modes = [
        p.stat().st_mode & 0o777 for p in (folder, folder.parent, tmp_path / "spool")
    ]
    assert modes == [0o700] * 3


# --- the folder -----------------------------------------------------------------------


def test_a_folder_has_its_version(tmp_path: Path) -> None:
    """Also one of before there was a version file."""
    made(tmp_path)
    version = tmp_path / "spool" / "VERSION"
    assert version.read_text() == "1\n"
    version.unlink()
    made(tmp_path)
    assert version.read_text() == "1\n"


@pytest.mark.parametrize(
    ("text", "shown"), [(b"2\n", "got 2"), (b"", "got b''"), (b"\xff" * 99, "xff")]
)
def test_a_folder_of_another_version_is_not_touched(
    tmp_path: Path, text: bytes, shown: str
) -> None:
    """A program that went back does not guess; a restart does not help: 78."""
    orphan = made(tmp_path).path("x.fepb")
    orphan.write_bytes(b"of a newer version")
    (tmp_path / "spool" / "VERSION").write_bytes(text)
    with pytest.raises(SpoolVersion, match=shown) as caught:
        made(tmp_path)
    assert caught.value.exit_code == 78
    assert orphan.exists()


def test_after_a_failure_nothing_is_tried_again(tmp_path: Path) -> None:
    """Though the disk would take it now: nobody knows which pages were dropped."""
    spool = made(tmp_path)
    out = tmp_path / "spool" / "out"
    out.rmdir()
    out.write_text("a file where a folder was")
    with pytest.raises(SpoolWriteFailed) as caught:
        published(spool)
    out.unlink()
    out.mkdir()
    tries = (
        lambda: published(spool),
        lambda: spool.remove(["x"]),
        lambda: spool.clean(()),
        lambda: spool.discard("run"),
    )
    for again in tries:
        with pytest.raises(SpoolWriteFailed) as repeated:
            again()
        assert repeated.value is caught.value
    published(made(tmp_path))


@pytest.mark.parametrize(
    ("size", "strain"),
    [
        (750_000 - len(DATA), 0.0),
        (800_000 - len(DATA), 0.0),
        (900_000 - len(DATA), 0.5),
        (1_000_000 - len(DATA), 1.0),
        (2_000_000, 1.0),
    ],
)
def test_from_four_fifths_of_the_quota_on_reading_slows(
    tmp_path: Path, size: int, strain: float
) -> None:
    """Up to the quota itself, where it stops."""
    spool = made(tmp_path)
    assert spool.strain(size) == 0
    published(spool)
    assert spool.strain(size) == pytest.approx(strain)


@pytest.mark.parametrize(
    ("free", "strain"), [(1_250, 0.0), (1_125, 0.5), (1_000, 1.0), (0, 1.0)]
)
def test_near_the_free_space_floor_reading_slows(
    tmp_path: Path, free: int, strain: float
) -> None:
    """From a quarter above it on."""
    spool = made(tmp_path, quota=Quota(10**6, 1_000), free=free)
    assert spool.strain(0) == pytest.approx(strain)


def test_no_more_goes_than_is_needed(tmp_path: Path) -> None:
    """What is kept may be wanted again."""
    spool = made(tmp_path)
    published(spool)
    assert spool.excess(800_000 - len(DATA)) == 0
    assert spool.excess(800_001 - len(DATA)) == 1
    assert made(tmp_path, quota=Quota(10**6, 100), free=90).excess(5) == 15
