# SPDX-License-Identifier: Apache-2.0
"""Who is who: the directory's files made from the registry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import cast

from agent.crypto.jose import PublicKey
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeEntry,
    ExchangeFile,
    KeyStatus,
    NodeEntry,
    NodeStatus,
    RevokedFile,
    Status,
)
from agent.wire.grammar import format_time
from sandbox.store import KeyRecord, Registry


def build(
    registry: Registry,
    *,
    keys: Sequence[PublicKey],
    aud: str,
    url: str,
    now: datetime,
) -> Directory:
    """Every file as the registry stands; ``keys`` are the exchange's own."""
    records = registry.keys()
    exchange = ExchangeEntry(aud, (url,), tuple((key, "active") for key in keys))
    revoked = {
        r.key.kid: format_time(r.since) for r in records if r.status == "revoked"
    }
    return Directory(
        iat=int(now.timestamp()),
        departments=_departments(registry, records),
        exchange=ExchangeFile((exchange,)),
        revoked=RevokedFile(kids=revoked, nodes=registry.revoked_nodes()),
    )


def _departments(
    registry: Registry, records: list[KeyRecord]
) -> dict[str, DepartmentFile]:
    nodes: dict[str, list[NodeEntry]] = {}
    resets = registry.resets()
    for node in registry.nodes():
        entry = NodeEntry(
            node=node,
            status=_stands(registry, node),
            statements=tuple(registry.statements(node)),
            keys=tuple(_status(r) for r in records if r.node == node),
            reset=resets.get(node),
        )
        nodes.setdefault(_department(node), []).append(entry)
    resources: dict[str, dict[str, str]] = {}
    for resource, node in registry.owners():
        resources.setdefault(_department(node), {})[resource] = node
    return {
        d: DepartmentFile(d, tuple(nodes.get(d, ())), resources.get(d, {}))
        for d in sorted(nodes.keys() | resources.keys())
    }


def _stands(registry: Registry, node: str) -> NodeStatus:
    if registry.node_revoked(node):
        return "revoked"
    return "left" if registry.left(node) else "active"


def _status(record: KeyRecord) -> KeyStatus:
    return KeyStatus(
        kid=record.key.kid,
        status=cast("Status", record.status),
        since=format_time(record.since),
        until=None if record.until is None else format_time(record.until),
    )


def _department(node: str) -> str:
    return node.partition("/")[0]
