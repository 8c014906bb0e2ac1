# SPDX-License-Identifier: Apache-2.0
"""Numbers of heartbeats."""

from pathlib import Path

from agent.state import State
from agent.state.beats import BLOCK


def open_state(folder: Path) -> State:
    return State(folder / "state.db", new_incarnation=lambda: "0" * 32)


def test_numbers_grow_across_a_crash(tmp_path: Path) -> None:
    """What a life before gave out is never given out again."""
    state = open_state(tmp_path)
    given = [state.beats.next() for _ in range(3)]
    state.close()  # as after a crash: nothing is written at the end
    state = open_state(tmp_path)
    assert given == [1, 2, 3]
    assert state.beats.next() > max(given)
    state.close()


def test_beat_costs_no_write_but_once_a_block(tmp_path: Path) -> None:
    """A thousand beats change the database once."""
    writes = []
    state = State(
        tmp_path / "state.db",
        new_incarnation=lambda: "0" * 32,
        before=lambda: writes.append(1),
    )
    begun = len(writes)
    found = [state.beats.next() for _ in range(BLOCK + 1)]
    assert found == list(range(1, BLOCK + 2))
    assert len(writes) - begun == 2
    state.close()
