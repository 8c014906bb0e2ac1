# SPDX-License-Identifier: Apache-2.0
"""What a run reads."""

from __future__ import annotations

from typing import Literal

RunKind = Literal[
    "full", "incremental", "diff", "deletes", "reconcile", "compare", "recall"
]
"""All rows · rows changed since the frontier · rows that differ from the digests of the
last read · keys that are no longer there · rows in which the centre differs, and the
repair of them · the same without repair · nothing: the centre's rows go."""

ScheduledKind = Literal["full", "incremental", "deletes", "reconcile"]
"""What has times of its own; whether changes are found by a frontier or by comparing
digests is the connector's matter."""

SCHEDULED: tuple[ScheduledKind, ...] = ("full", "deletes", "reconcile", "incremental")
"""Which goes first where several are due at once."""

READABLE: frozenset[RunKind] = frozenset(
    {"full", "incremental", "deletes", "reconcile", "compare", "recall"}
)
"""What workers can do; another kind is a fault of the settings that ask for it."""

COMPARING: frozenset[RunKind] = frozenset({"reconcile", "compare"})
"""Those that ask the centre what it holds, row by row."""
