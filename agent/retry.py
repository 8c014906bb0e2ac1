# SPDX-License-Identifier: Apache-2.0
"""How long to wait before the next try: exponential back-off with full jitter.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Waits between tries; tries are never given up.

    Args:
        base_s: upper bound of the first wait, seconds.
        cap_s: upper bound of any wait, seconds.
    """

    base_s: float = 5.0
    cap_s: float = 600.0

    def wait_s(self, attempt: int, uniform: Callable[[float, float], float]) -> float:
        """Seconds to wait after failure number ``attempt`` (from 1).

        Args:
            attempt: how many tries in a row have failed.
            uniform: ``random.uniform`` or a stand-in.
        """
        bound = min(self.cap_s, self.base_s * 2.0 ** min(attempt - 1, 32))
        return uniform(0.0, bound)
