# SPDX-License-Identifier: Apache-2.0
"""Load sqlite-utils without numpy; imported before everything else of this room.

sqlite-utils imports numpy, where it is installed, only to know the types of its values.
The daemon never has any, but would carry its 12 MB for as long as it lives. Whoever
imports numpy later gets it as always.
"""

from __future__ import annotations

import sys
from typing import Any

_modules: dict[str, Any] = sys.modules
_hidden = "numpy" not in _modules
if _hidden:
    _modules["numpy"] = None  # what makes ``import numpy`` an ImportError
try:
    import sqlite_utils as sqlite_utils
finally:
    if _hidden:
        del _modules["numpy"]
