# SPDX-License-Identifier: Apache-2.0
"""Commands that touch the keys run as the owner of the state folder."""

from __future__ import annotations

import os
from pathlib import Path


def act_as_owner(state: Path) -> None:
    """As root, become the owner of the state folder, who must read the keys."""
    if os.geteuid() != 0 or not state.exists():
        return
    owner = state.stat()
    if owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
