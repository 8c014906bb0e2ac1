# SPDX-License-Identifier: Apache-2.0
"""How a process that answers people spends little time collecting garbage."""

from __future__ import annotations

import gc

YOUNG = 20_000
"""New objects before the collector looks at them; a lookup makes some hundred."""
MIDDLE = 20
"""Such looks before it also looks at what survived one."""


def settle_heap() -> None:
    """Set apart what there is now, which stays; call it once everything is imported.

    Else the collector walks through all modules every few seconds: some 40 ms in which
    nobody gets an answer.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, MIDDLE)
