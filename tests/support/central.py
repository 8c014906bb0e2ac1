# SPDX-License-Identifier: Apache-2.0
"""What a centre publishes for a node, and a ceiling over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from agent.control.ceiling import Ceiling
from agent.control.merge import merge
from agent.control.overlay import Overlay
from agent.wire.configuration import Bounds
from agent.wire.repository import LIMITS_FILE, group_file, node_file

NODE = "11990100MB0000018H/rsj-fep1"
URL = "https://127.0.0.1:8443"

LOCAL: dict[str, Any] = {
    "agent": {"node": NODE},
    "exchange": {"url": URL},
    "sources": {"rsj": {"connector": "sqlite"}},
}
"""The tables of an ``agent.toml`` that says as little as it can."""

EVERYTHING = frozenset(
    {"schedule", "limits", "uplink", "push", "exchange", "spool", "log", "off"}
)


def ceiling(*, allow: frozenset[str] = EVERYTHING, **bounds: Any) -> Ceiling:
    """One that opens sections, within bounds."""
    return Ceiling(
        Path("/etc/fep/ceiling.toml"),
        present=True,
        allow=allow,
        bounds=Bounds.model_validate(bounds),
    )


def config(generation: int = 1, **members: Any) -> bytes:
    """A document of a group or node."""
    return json.dumps({"v": 1, "generation": generation, **members}).encode()


def published(
    *,
    own: dict[str, Any] | None = None,
    groups: dict[str, dict[str, Any]] | None = None,
    limits: dict[str, Any] | None = None,
) -> dict[str, bytes]:
    """Files of the repository.

    Args:
        own: ``settings`` of the node's document.
        groups: group -> ``settings`` of its document, in the order of the node's list.
        limits: members of ``limits.json``.
    """
    files = {group_file(g): config(settings=said) for g, said in (groups or {}).items()}
    files[node_file(NODE)] = config(groups=list(groups or ()), settings=own or {})
    if limits is not None:
        files[LIMITS_FILE] = config(**limits)
    return files


def merged(
    files: dict[str, bytes],
    *,
    local: dict[str, Any] | None = None,
    under: Ceiling | None = None,
) -> Overlay:
    """What they come to."""
    return merge(
        {**LOCAL, **(local or {})},
        files,
        node=NODE,
        ceiling=under if under is not None else ceiling(),
    )
