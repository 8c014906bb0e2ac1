# SPDX-License-Identifier: Apache-2.0
"""What verified documents want of a node."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from agent.control.trust import Verified
from agent.daemon.wanted import wanted
from agent.daemon.work import load
from agent.state import Stopped
from agent.wire.rollout import halt_file
from tests.support.settings_text import write

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)


def test_a_generation_that_was_ever_halted_stays_halted(tmp_path: Path) -> None:
    """Whoever steals the brake's key and lists less lets nothing go on."""
    write(tmp_path, "")
    (tmp_path / "catalog").mkdir()
    work = load(tmp_path / "agent.toml")
    ever = Stopped(generations=frozenset({4}))
    for files in ({}, {"halt.json": halt_file([5])}):
        found = wanted(Verified({}, files, {}, NOW, ever), work, NOW)
        assert found.halted == {4, *([5] if files else [])}
