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
from tests.support.pushing import AgentReader, pushing

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
    assert done.steps["ours"] > SECONDS / 2, said
    assert done.found["ours"] == Found(0, 0, 0), said
    assert done.found["cursor"].lost > 0, said
