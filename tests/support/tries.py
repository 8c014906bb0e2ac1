# SPDX-License-Identifier: Apache-2.0
"""How often a property is tried: often when all rings run, less on every save.

When all rings run, a commit gets the same examples every time: its verdict is about the
commit. Every other run draws new ones, and is where new faults are found.
"""

import os

from hypothesis import settings

FULL = os.environ.get("FEP_TRIES") == "full"


def tries(examples: int) -> settings:
    """Settings of a property test; a fifth of the examples unless FEP_TRIES=full."""
    return settings(
        max_examples=examples if FULL else examples // 5,
        deadline=None,
        derandomize=FULL,
    )
