# SPDX-License-Identifier: Apache-2.0
"""How often a property is tried: often when all rings run, less on every save.

When all rings run, a commit gets the same examples every time: its verdict is about the
commit. Every other run draws new ones, and is where new faults are found.
"""

import os

from hypothesis import settings

TOLD = os.environ.get("FEP_TRIES")
FULL = TOLD == "full"
SHARE = {"full": 1, "few": 25}.get(TOLD or "", 5)


def tries(examples: int) -> settings:
    """Settings of a property test.

    A fifth of the examples; with FEP_TRIES=full all, with ``few`` a twenty-fifth, for
    what runs the same tests a second time in slow surroundings.
    """
    return settings(
        max_examples=max(1, examples // SHARE),
        deadline=None,
        derandomize=TOLD is not None,
    )
