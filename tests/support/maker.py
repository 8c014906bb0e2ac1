# SPDX-License-Identifier: Apache-2.0
"""The packager's modules, which lie in a folder that is no package."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "packaging"))

from maker import elf, native, packages, place, sbom, signing, sources, tree, wheels

__all__ = [
    "elf",
    "native",
    "packages",
    "place",
    "sbom",
    "signing",
    "sources",
    "tree",
    "wheels",
]
