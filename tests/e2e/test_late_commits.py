# SPDX-License-Identifier: Apache-2.0
"""Twelve writers, increments every second: at the centre nothing is lost or stale.

With FEP_FULL=1 the writers are at work for 60 s instead of 6 s. Beside the agent a
cursor on ``max(updated_at)`` reads the same; it loses rows, so the test can fail. A
failure prints the seed: FEP_SEED runs it again.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.late_commits import CursorReader, Found, department, race
from tests.support.pushing import WORK, AgentReader, pushing
from tests.support.writers import add_on

pytestmark = pytest.mark.e2e

SECONDS = 60 if os.environ.get("FEP_FULL") else 6
SEED = int(os.environ.get("FEP_SEED") or time.time_ns() % 10**6)


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_nothing_is_lost_at_the_centre(kind: str, tmp_path: Path) -> None:
    """Savepoints, rollbacks, two phases: the centre's table equals the source's."""
    with department(kind) as source, pushing(source) as agent:
        readers = {
            "ours": AgentReader(agent),
            "cursor": CursorReader(source, tmp_path / "cursor.db"),
        }
        done = race(source, readers, seconds=SECONDS, seed=SEED)
        assert agent.named() == []
    said = f"FEP_SEED={SEED} {done}"
    assert sum(w.committed + w.prepared for w in done.written) > 5 * SECONDS
    assert done.steps["ours"] >= SECONDS / 3, said
    assert done.found["ours"] == Found(0, 0, 0), said
    assert done.found["cursor"].lost > 0, said


@pytest.mark.parametrize("kind", ["postgres", "mariadb"])
def test_nothing_is_lost_of_a_table_with_nothing_but_a_number(
    kind: str, tmp_path: Path
) -> None:
    """Numbers that commit late fill gaps of the ledger; a cursor on them loses rows."""
    with (
        department(kind, numbered=True) as source,
        pushing(source, binding='number = "id"') as agent,
    ):
        readers = {
            "ours": AgentReader(agent),
            "cursor": CursorReader(source, tmp_path / "cursor.db", by="id"),
        }
        done = race(source, readers, seconds=SECONDS, seed=SEED, write=add_on)
        shown = agent.fep("status", WORK)["resources"][0]
        assert agent.named() == []
    said = f"FEP_SEED={SEED} {done}"
    assert shown["increments"]["method"] == "number", shown
    assert sum(w.committed + w.prepared for w in done.written) > 2 * SECONDS, said
    assert done.steps["ours"] >= SECONDS / 6, said
    assert done.found["ours"] == Found(0, 0, 0), said
    assert done.found["cursor"].lost > 0, said
