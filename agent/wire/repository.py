# SPDX-License-Identifier: Apache-2.0
"""Names in the city's TUF repository (wire.md §6; TUF specification 1.0.31).

Who may say what stands in the metadata, by role; these names and paths are the
agreement on which role that is. ``<department>`` is a unified social credit code,
``<node>`` is ``<department>/<machine>``.
"""

from __future__ import annotations

import re

from agent.wire.grammar import DEPARTMENT, NODE

TOP = ("root", "targets", "snapshot", "timestamp")
"""The roles that TUF itself names."""
DIRECTORY = "directory"
"""Delegated role of ``directory/*.json``: who is who. Offline."""
BRAKE = "brake"
"""Delegated role of ``revoked.json`` and ``halt.json``: online, it can only stop."""
RELEASES = "releases"
"""Delegated role of ``releases/*``: programs, by their own people. Offline."""

METADATA = "metadata"
"""Folder of the metadata, ``<version>.<role>.json`` and ``timestamp.json``, in the
repository; the exchange serves the repository at ``/tuf/``."""
TARGETS = "targets"
"""Folder of the files, ``<folder>/<SHA-256>.<name>`` (consistent snapshots)."""

EXCHANGE_FILE = "exchange.json"
LIMITS_FILE = "limits.json"
ROLLOUT_FILE = "rollout.json"
REVOKED_FILE = "revoked.json"
HALT_FILE = "halt.json"

OFFLINE = ("root", "targets", DIRECTORY, RELEASES)
"""Roles whose keys never lie on a machine with a line; departments' roles besides."""
ONLINE = ("snapshot", "timestamp", BRAKE)

_GROUP = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")

FILE_CAP = 1024 * 1024
"""Longest target that is read, bytes, but for ``directory/*.json``."""
DIRECTORY_CAP = 16 * 1024 * 1024
"""Longest ``directory/<department>.json``, bytes."""


def department_role(department: str) -> str:
    """The delegated role that signs for a department's nodes."""
    if DEPARTMENT.fullmatch(department) is None:
        raise ValueError("department: expected a unified social credit code")
    return f"department-{department}"


def department_paths(department: str) -> str:
    """The path pattern that this role may sign."""
    return f"nodes/{department}/*/config.json"


def node_file(node: str) -> str:
    """What the centre wants of one node."""
    if NODE.fullmatch(node) is None:
        raise ValueError("node: expected <credit code>/<machine>")
    return f"nodes/{node}/config.json"


def group_file(group: str) -> str:
    """What the centre wants of all nodes of a group."""
    if _GROUP.fullmatch(group) is None:
        raise ValueError("group: expected 1-32 of a-z, 0-9 and -")
    return f"groups/{group}/config.json"


def directory_file(department: str) -> str:
    """Who is who in one department."""
    return f"directory/{department}.json"
