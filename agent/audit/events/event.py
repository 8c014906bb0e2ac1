# SPDX-License-Identifier: Apache-2.0
"""What every event is: a frozen class with a stable name, a level and fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Event:
    """Base of all events.

    ``name`` is stable and dotted. Fields named in ``quiet`` stand in the audit record
    only, not in the log line.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[Level] = "info"
    quiet: ClassVar[frozenset[str]] = frozenset()

    def heard(self) -> Literal["debug"] | Level:
        """The level of its log line; :attr:`level` unless it says otherwise."""
        return self.level

    def told(self) -> dict[str, Any]:
        """The fields of its log line."""
        return {n: v for n, v in self.members().items() if n not in self.quiet}

    def members(self) -> dict[str, Any]:
        """All fields in their order; those of an audit record."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Recorded(Event):
    """Base of the events that are audit records: text, integers, lists and maps."""


Tell = Callable[[Event], None]
"""How a part of the daemon tells an event; ``logs.py`` makes the real one."""
