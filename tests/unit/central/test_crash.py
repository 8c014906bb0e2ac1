# SPDX-License-Identifier: Apache-2.0
"""The machine dies at any step of a publication; clients read on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from agent.central.change import Change
from agent.central.disk import RealDisk
from tests.support.city import GROUP_FILE, City, Client, document, fresh

BOTH = "targets-1 targets-2"


class Died(BaseException):
    """The machine is off."""


class MortalDisk(RealDisk):
    """Dies before the n-th step; names that no sync made durable may be lost.

    All links are one step: each is like the others.
    """

    def __init__(self, last: int) -> None:
        self.left = last
        self.linked = False
        self.unsynced: list[tuple[Path, Callable[[], None]]] = []

    def write(self, path: Path, data: bytes, *, mode: int = 0o644) -> None:
        self._step()
        old = path.read_bytes() if path.exists() else None
        super().write(path, data, mode=mode)

        def undo() -> None:
            path.unlink() if old is None else path.write_bytes(old)

        self.unsynced.append((path.parent, undo))

    def link(self, old: Path, new: Path) -> None:
        if not self.linked:
            self.linked = True
            self._step()
        super().link(old, new)
        self.unsynced.append((new.parent, new.unlink))

    def point(self, name: Path, target: str) -> None:
        self._step()
        old = name.readlink() if name.is_symlink() else None
        super().point(name, target)

        def undo() -> None:
            name.unlink()
            if old is not None:
                name.symlink_to(old)

        self.unsynced.append((name.parent, undo))

    def sync(self, folder: Path) -> None:
        self._step()
        super().sync(folder)
        self.unsynced = [each for each in self.unsynced if each[0] != folder]

    def lose(self) -> None:
        """What was not durable is gone."""
        for _, undo in reversed(self.unsynced):
            undo()

    def _step(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Died


@pytest.fixture
def city(tmp_path: Path) -> City:
    """A city whose group has generation 1."""
    found = City(tmp_path / "work")
    found.begin()
    found.put(GROUP_FILE, document(1), BOTH)
    return found


def push(city: City, generation: int) -> Change:
    """A group's next generation."""
    change = city.change()
    change.put(GROUP_FILE, document(generation))
    return city.sign(change, BOTH)


def rotate(city: City, generation: int) -> Change:
    """The same, and all keys of targets and timestamp become others at once."""
    change = city.change()
    names = f"targets-1{generation} targets-2{generation}"
    online = f"timestamp-{generation}"
    change.hold("targets", city.holders(names, 2))
    change.hold("timestamp", city.holders(online, 1))
    change.put(GROUP_FILE, document(generation))
    return city.sign(change, f"root-1 root-2 root-3 {names}")


@pytest.mark.parametrize("lost", [False, True], ids=["kept", "lost"])
@pytest.mark.parametrize("make", [push, rotate])
def test_death_at_any_step_leaves_a_repository_that_all_clients_read(
    city: City, tmp_path: Path, make: Callable[[City, int], Change], lost: bool
) -> None:
    """All of the publication is there or nothing, and the next one works."""
    old = Client.of(city, tmp_path / "old")
    current = document(1)
    for step in count():
        disk = MortalDisk(step)
        change = make(city, step + 2)
        new = document(step + 2)
        with contextlib.suppress(Died):
            city.press(disk).publish(change)
        if lost:  # also when all was done: what was told to be published is
            disk.lose()
        found = [c.read(GROUP_FILE)[GROUP_FILE] for c in (old, fresh(city))]
        assert found in ([current, current], [new, new])
        current = found[0]
        if disk.left >= 0:
            break
    assert step > 8
    assert current == document(step + 2)


def test_first_publication_that_died_is_begun_again(tmp_path: Path) -> None:
    """Nobody reads half of the first one."""
    city = City(tmp_path / "work")
    for step in count():
        disk = city.disk = MortalDisk(step)
        try:
            city.begin()
        except Died:
            disk.lose()
            assert not (city.workspace.published / "metadata").exists()
            continue
        break
    assert sorted(fresh(city).read("halt.json", "revoked.json")) == [
        "halt.json",
        "revoked.json",
    ]
