# SPDX-License-Identifier: Apache-2.0
"""How kindly a source is read, as a worker is told."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time

from agent.model.windows import any_open


@dataclass(frozen=True)
class Rate:
    """Most of a second; 0 is no limit.

    Args:
        rows: of them.
        bytes: as the rows lie in memory.
    """

    rows: float = 0.0
    bytes: float = 0.0

    @property
    def limited(self) -> bool:
        """Whether there is a limit."""
        return self.rows > 0 or self.bytes > 0


@dataclass(frozen=True)
class Bounds:
    """Beyond these a source counts as unwell; 0: that is not looked at.

    Args:
        busy: share of the server's sessions that do something, 0 to 1.
        lock_waits: sessions that wait for a lock.
        replica_lag_s: how far a replica may be behind.
    """

    busy: float = 0.0
    lock_waits: int = 0
    replica_lag_s: float = 0.0


@dataclass(frozen=True)
class Pacing:
    """How kindly one source is read.

    Args:
        source: its name in the settings; what reads one that has a limit takes turns.
        usual: the limit outside of the windows.
        off_peak: the limit within them.
        windows: times of day, in the job's zone.
        probe_s: seconds between two looks at how the source feels; 0: nobody looks.
        bounds: what is unwell.
    """

    source: str
    usual: Rate = Rate()
    off_peak: Rate = Rate()
    windows: tuple[str, ...] = ()
    probe_s: float = 0.0
    bounds: Bounds = Bounds()

    @property
    def limited(self) -> bool:
        """Whether it has a limit at any time."""
        return self.usual.limited or (bool(self.windows) and self.off_peak.limited)

    def rate(self, clock: time) -> Rate:
        """The limit at a local time of day."""
        return self.off_peak if any_open(self.windows, clock) else self.usual

    @property
    def slowest_rows(self) -> float:
        """The least rows a second of any time; 0 if there is no such limit."""
        rates = [self.usual, *([self.off_peak] if self.windows else [])]
        return min((r.rows for r in rates if r.rows), default=0.0)
