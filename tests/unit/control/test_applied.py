# SPDX-License-Identifier: Apache-2.0
"""The overlays on disk: whatever kills the daemon, one of the two runs."""

from __future__ import annotations

import json
from collections.abc import Callable
from errno import ENOSPC
from pathlib import Path
from typing import Any, cast

import pytest

from agent.control.applied import Applied, Standing
from agent.control.overlay import Overlay

AT = "2026-11-23T08:00:00Z"
A = Overlay(1, {"log": {"level": "debug"}}, frozenset(), {})
B = Overlay(2, {"log": {"level": "error"}}, frozenset(), {})


class DiedHere(BaseException):
    """The power went."""


class Falling:
    """Dies at one step."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.taken = 0

    def __call__(self, _: str) -> None:
        self.taken += 1
        if self.taken == self.at:
            raise DiedHere


def applied(folder: Path, at: int = 0) -> Applied:
    return Applied(folder / "config", step=Falling(at))


def digest(overlay: Overlay | None) -> str | None:
    return None if overlay is None else overlay.digest


def life(folder: Path, *, good: Overlay | None) -> Applied:
    """A folder where an overlay has proven itself."""
    store = applied(folder)
    if good is not None:
        store.begin(good, at=AT, watched=())
        store.prove()
    return store


def test_nothing_of_the_centre_at_first(tmp_path: Path) -> None:
    """No file, no overlay, no probation."""
    store = applied(tmp_path)
    assert (store.running(), store.good(), store.open()) == (None, None, False)
    assert store.restart(most=3, reason="daemon-died") is None


@pytest.mark.parametrize("good", [None, A])
def test_probation_ends_well_or_goes_back(tmp_path: Path, good: Overlay | None) -> None:
    """Begun, it runs and is open; proven, it ran well; else the old one runs."""
    store = life(tmp_path, good=good)
    store.begin(B, at=AT, watched=["x"])
    assert (digest(store.running()), digest(store.good())) == (B.digest, digest(good))
    assert store.standing() == Standing(2, B.digest, AT, ("x",))
    store.revert("source-timeout", "1 s")
    assert digest(store.running()) == digest(good)
    assert not store.open()
    given_up = store.given_up()
    assert given_up is not None
    assert (given_up.digest, given_up.reason) == (B.digest, "source-timeout")
    store.begin(B, at=AT, watched=[])
    store.prove()
    assert (digest(store.running()), store.open()) == (B.digest, False)
    assert store.given_up() is None


@pytest.mark.parametrize("key", ["deaths", "generation", "began", "watched", "detail"])
@pytest.mark.parametrize("odd", [None, [None], {}])
def test_standing_of_another_shape_tells_nothing(
    tmp_path: Path, key: str, odd: object
) -> None:
    """The probation goes on as one that nothing is known of."""
    store = life(tmp_path, good=A)
    store.begin(B, at=AT, watched=["x"])
    path = tmp_path / "config" / "trial.json"
    path.write_text(json.dumps({**json.loads(path.read_bytes()), key: odd}))
    standing = store.restart(most=3, reason="daemon-died")
    assert standing is not None
    assert (standing.digest, standing.deaths) == (B.digest, 1)


@pytest.mark.parametrize(
    "odd",
    [
        Overlay(2, cast("Any", []), frozenset(), {}),
        Overlay(2, {"push": []}, frozenset(), {}),
        Overlay(2, {}, frozenset(), cast("Any", {"push.workers": 1})),
        Overlay(cast("Any", "2"), {}, frozenset(), {}),
    ],
)
def test_overlay_of_another_shape_is_damaged(tmp_path: Path, odd: Overlay) -> None:
    """Though its digest is right: what ran well runs."""
    store = life(tmp_path, good=A)
    (tmp_path / "config" / "running.json").write_bytes(odd.as_json())
    assert digest(store.running()) == A.digest


def test_reserve_of_the_disk_is_given_up_for_it(tmp_path: Path) -> None:
    """Full, then not: each step is taken all the same."""
    room: list[str] = []

    def step(name: str) -> None:
        if name.startswith("write") and not room:
            raise OSError(ENOSPC, "No space left on device")

    store = Applied(tmp_path, full=lambda: room.append("ballast"), step=step)
    for act in ("begin", "restart", "revert"):
        room.clear()
        ACTS[act](store)
        assert room
    assert (store.running(), store.open()) == (None, False)


Act = Callable[[Applied], None]
ACTS: dict[str, Act] = {
    "begin": lambda store: store.begin(B, at=AT, watched=["x"]),
    "prove": lambda store: store.prove(),
    "revert": lambda store: store.revert("source-timeout", ""),
    "restart": lambda store: ignored(store.restart(most=3, reason="daemon-died")),
    "stop": lambda store: store.stop(),
}


def ignored(_: object) -> None:
    """A value that nobody wants."""


@pytest.mark.parametrize("good", [None, A])
@pytest.mark.parametrize("name", ACTS)
def test_killed_at_any_step_the_old_or_the_new_one_runs(
    tmp_path: Path, name: str, good: Overlay | None
) -> None:
    """Never neither; an open probation stays open until it has ended; what was given
    up is gone back from at the next start."""
    steps = 1
    while True:
        folder = tmp_path / f"{name}{steps}"
        store = life(folder, good=good)
        if name != "begin":
            store.begin(B, at=AT, watched=["x"])
        try:
            ACTS[name](applied(folder, at=steps))
        except DiedHere:
            pass
        else:
            break
        found = applied(folder)
        assert digest(found.running()) in {digest(good), B.digest}
        assert digest(found.good()) in {digest(good), B.digest}
        runs_new = digest(found.running()) == B.digest
        proven = digest(found.good()) == B.digest
        assert found.open() == (runs_new and not proven)
        given_up = found.given_up()
        stands = found.restart(most=3, reason="daemon-died")
        if given_up is not None:
            assert (digest(found.running()), stands) == (digest(good), None)
        elif found.open():
            assert stands is not None
            assert (stands.digest, stands.watched) == (B.digest, ("x",))
            assert stands.deaths in ({0, 1} if name == "stop" else {1, 2})
        steps += 1
    assert steps > 4


def test_deaths_are_counted_and_the_third_goes_back(tmp_path: Path) -> None:
    """A stop in good order is no death."""
    life(tmp_path, good=A).begin(B, at=AT, watched=[])
    counted = []
    for stop in (True, False, True, False):
        found = applied(tmp_path).restart(most=3, reason="daemon-died")
        counted.append(None if found is None else found.deaths)
        if stop:
            applied(tmp_path).stop()
    assert counted == [1, 1, 2, 2]
    assert applied(tmp_path).restart(most=3, reason="daemon-died") is None
    assert digest(applied(tmp_path).running()) == A.digest
    given_up = applied(tmp_path).given_up()
    assert given_up is not None
    assert (given_up.reason, given_up.digest) == ("daemon-died", B.digest)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b"null"])
def test_damaged_file_is_what_ran_well(tmp_path: Path, damage: bytes) -> None:
    """Bad sectors lose a probation, not the daemon."""
    store = life(tmp_path, good=A)
    store.begin(B, at=AT, watched=[])
    (tmp_path / "config" / "running.json").write_bytes(damage)
    assert digest(store.running()) == A.digest
    assert store.restart(most=3, reason="daemon-died") is None
    running = tmp_path / "config" / "running.json"
    assert running.read_bytes() == A.as_json()
    (tmp_path / "config" / "good.json").write_bytes(damage)
    assert (digest(store.running()), store.good()) == (A.digest, None)
    running.write_bytes(damage)
    assert store.running() is None


def test_another_one_may_follow_before_the_first_has_proven_itself(
    tmp_path: Path,
) -> None:
    """What ran well stays what it was."""
    store = life(tmp_path, good=A)
    store.begin(B, at=AT, watched=[])
    other = Overlay(3, {}, frozenset(), {})
    store.begin(other, at=AT, watched=[])
    store.revert("source-timeout", "")
    assert digest(store.running()) == A.digest
