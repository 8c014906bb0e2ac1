# SPDX-License-Identifier: Apache-2.0
"""How often a property is tried: often when all rings run, less on every save."""

import os

from hypothesis import settings

FULL = os.environ.get("FEP_TRIES") == "full"


def tries(examples: int) -> settings:
    """Settings of a property test; a fifth of the examples unless FEP_TRIES=full."""
    return settings(max_examples=examples if FULL else examples // 5, deadline=None)
