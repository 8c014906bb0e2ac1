# SPDX-License-Identifier: Apache-2.0
"""The reserve of the disk: taken beforehand, given up when needed, taken again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from agent.audit.log import FLOOR
from agent.errors import SpoolFull, SpoolWriteFailed
from agent.pipeline.ballast import Ballast
from agent.pipeline.disk import failed_sync, refusal

SIZE = 1_000_000


class Disk:
    """A file system of which a test says how much is left."""

    def __init__(self, folder: Path, free: int = 10**9) -> None:
        self.path = folder / "ballast"
        self.left = free

    def ballast(self, size: int = SIZE) -> Ballast:
        """One of this disk, renewed."""
        found = Ballast(self.path, size=size, free=lambda _folder: self.left)
        found.renew()
        return found


def test_it_takes_up_all_of_its_bytes(tmp_path: Path) -> None:
    """Allocated, not a hole; for its owner only."""
    ballast = Disk(tmp_path).ballast()
    found = (tmp_path / "ballast").stat()
    assert (ballast.held, found.st_size, found.st_mode & 0o777) == (True, SIZE, 0o600)
    assert found.st_blocks * 512 >= SIZE
    assert ballast.trouble() is None


@pytest.mark.parametrize(("left", "held"), [(SIZE // 2, True), (SIZE // 2 - 1, False)])
def test_it_goes_before_a_write_on_a_full_disk(
    tmp_path: Path, left: int, held: bool
) -> None:
    """What is left is what lookups leave to the records of everything else."""
    disk = Disk(tmp_path)
    ballast = disk.ballast()
    disk.left = left
    ballast.guard()
    assert (ballast.held, disk.path.exists()) == (held, held)
    assert (ballast.trouble() is None) is held


def test_it_goes_when_the_disk_has_refused_a_write(tmp_path: Path) -> None:
    """Whatever the disk said before: a quota, or one write larger than what is left."""
    ballast = Disk(tmp_path).ballast()
    ballast.give_up()
    assert (ballast.held, (tmp_path / "ballast").exists()) == (False, False)
    assert ballast.trouble() is not None


@pytest.mark.parametrize(("left", "held"), [(2 * SIZE - 1, False), (2 * SIZE, True)])
def test_it_is_made_again_when_there_is_room_for_it_twice(
    tmp_path: Path, left: int, held: bool
) -> None:
    """So that making it does not make the disk full."""
    disk = Disk(tmp_path)
    ballast = disk.ballast()
    disk.left = 0
    ballast.guard()
    disk.left = left
    ballast.renew()
    assert (ballast.held, disk.path.exists()) == (held, held)


def test_the_next_life_finds_it(tmp_path: Path) -> None:
    """It is not written again."""
    disk = Disk(tmp_path)
    disk.ballast()
    before = disk.path.stat().st_ino
    assert Ballast(disk.path, size=SIZE, free=lambda _: 0).held
    assert disk.path.stat().st_ino == before


@pytest.mark.parametrize("hole", [True, False])
def test_a_hole_or_another_size_is_no_reserve(tmp_path: Path, hole: bool) -> None:
    """A copy that a backup put back may take no space at all."""
    disk = Disk(tmp_path)
    with disk.path.open("wb") as file:
        file.truncate(SIZE if hole else SIZE - 1)
    assert not Ballast(disk.path, size=SIZE).held
    assert disk.ballast().held


def test_a_disk_that_refuses_it_stops_nothing(tmp_path: Path) -> None:
    """It is told, and tried again."""
    path = tmp_path / "absent" / "ballast"
    ballast = Ballast(path, size=SIZE, free=lambda _: 10**9)
    ballast.renew()
    trouble = ballast.trouble()
    assert trouble is not None
    assert str(SIZE) in trouble.detail


def test_nobody_has_to_have_one(tmp_path: Path) -> None:
    """Size 0; what was there goes."""
    disk = Disk(tmp_path)
    ballast = disk.ballast()
    ballast.use(0)
    ballast.renew()
    assert (ballast.held, ballast.trouble(), disk.path.exists()) == (False, None, False)
    assert ballast.floor == FLOOR


def test_lookups_leave_half_of_it_to_the_rest(tmp_path: Path) -> None:
    """And never more than they did without one."""
    disk = Disk(tmp_path)
    assert disk.ballast().floor == SIZE // 2
    assert Ballast(disk.path, size=10**12).floor == FLOOR


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOSPC, SpoolFull),
        (errno.EDQUOT, SpoolFull),
        (errno.EIO, SpoolWriteFailed),
        (errno.EROFS, SpoolWriteFailed),
    ],
)
def test_only_a_full_disk_is_waited_for(number: int, kind: type[Exception]) -> None:
    """Everything else, and any failed sync, ends the daemon."""
    error = OSError(number, "")
    assert type(refusal(error, "writing part 1")) is kind
    assert "writing part 1" in refusal(error, "writing part 1").detail
    assert type(failed_sync(error, "syncing part 1")) is SpoolWriteFailed
