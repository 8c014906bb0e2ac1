# SPDX-License-Identifier: Apache-2.0
"""How often a property is tried: often when all rings run, less on every save."""

import os

from hypothesis import settings

ASKED = os.environ.get("FEP_TRIES", "")
FULL = ASKED == "full"


def tries(examples: int) -> settings:
    """Settings of a property test; a fifth of the examples unless FEP_TRIES=full.

    FEP_TRIES=20 is twenty times all of them, to hunt with.
    """
    times = int(ASKED) if ASKED.isdecimal() else 1
    fewer = 1 if times > 1 or FULL else 5
    return settings(max_examples=examples * times // fewer, deadline=None)
