# SPDX-License-Identifier: Apache-2.0
"""A small program that takes one step of a configuration's life, to be killed in it.

``python -m tests.support.applied_driver FOLDER begin|prove|revert``
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.control.applied import Applied
from agent.control.overlay import Overlay

AT = "2026-11-23T08:00:00Z"
OLD = Overlay(1, {"log": {"level": "debug"}}, frozenset(), {})
NEW = Overlay(2, {"log": {"level": "error"}}, frozenset(), {})


def prepare(folder: Path, act: str) -> None:
    """The old one has run well; before its end, the new one is on probation."""
    store = Applied(folder)
    store.begin(OLD, at=AT, watched=())
    store.prove()
    if act != "begin":
        store.begin(NEW, at=AT, watched=("x",))


def take(folder: Path, act: str) -> None:
    """One step."""
    store = Applied(folder)
    if act == "begin":
        store.begin(NEW, at=AT, watched=("x",))
    elif act == "prove":
        store.prove()
    else:
        store.revert("source-timeout", "")


if __name__ == "__main__":
    take(Path(sys.argv[1]), sys.argv[2])
