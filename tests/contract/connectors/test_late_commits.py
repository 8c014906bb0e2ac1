# SPDX-License-Identifier: Apache-2.0
"""Increments beside twelve writers: nothing is lost; a cursor on the time loses.

The copies are compared with the table by the database's own program. With FEP_FULL=1
the writers are at work for 60 s instead of 6 s. A failure prints the seed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.support.late_commits import (
    CursorReader,
    Found,
    SessionReader,
    department,
    race,
)

pytestmark = pytest.mark.contract

SECONDS = 60 if os.environ.get("FEP_FULL") else 6
SEED = int(os.environ.get("FEP_SEED") or time.time_ns() % 10**6)


@pytest.mark.parametrize(
    ("kind", "stamp"),
    [("postgres", None), ("postgres", "changed"), ("mariadb", None)],
)
def test_nothing_is_lost_where_a_cursor_loses(
    kind: str, stamp: str | None, tmp_path: Path
) -> None:
    """Twelve writers, savepoints, rollbacks, two phases: the copy equals the table."""
    with department(kind) as source:
        readers = {
            "ours": SessionReader(source, tmp_path / "ours.db", stamp=stamp),
            "cursor": CursorReader(source, tmp_path / "cursor.db"),
        }
        done = race(source, readers, seconds=SECONDS, seed=SEED)
    assert sum(w.committed + w.prepared for w in done.written) > 5 * SECONDS
    assert done.found["ours"] == Found(0, 0, 0), (f"FEP_SEED={SEED}", done)
    assert done.found["cursor"].lost > 0, (f"FEP_SEED={SEED}", done)
