# SPDX-License-Identifier: Apache-2.0
"""What this machine's disk has left, and what its refusals mean.

A disk that is full refuses a write before anything has become durable: what was written
of a new file is deleted, and the rows are read again once there is room. Any other
refusal, and every failed sync, ends the daemon: the kernel may have dropped pages that
it calls clean, so a second try on the same file would prove nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from agent.errors import OwnFault, SpoolFull, SpoolWriteFailed

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def free_bytes(folder: Path) -> int:
    """Bytes that an ordinary user can still write here."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def refusal(error: OSError, doing: str) -> OwnFault:
    """What a refused write of a new file is; the file must be gone.

    Args:
        error: what the system said.
        doing: what was written, such as ``writing part 3``.
    """
    name = errno.errorcode.get(error.errno or 0, "EIO")
    kind = SpoolFull if error.errno in _FULL else SpoolWriteFailed
    return kind(f"{name} while {doing}")


def failed_sync(error: OSError, doing: str) -> SpoolWriteFailed:
    """What a failed sync is, whatever the system says."""
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return SpoolWriteFailed(f"{name} while {doing}")
