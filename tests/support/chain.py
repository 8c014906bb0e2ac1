# SPDX-License-Identifier: Apache-2.0
"""Check the centre's chains from its registry, importing nothing of ours.

Written from the wire description: a batch's line 1 is a compact JWS, its message digest
is the SHA-256 of ``header.payload``, ``prev`` is the digest of the batch before.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Link:
    """A batch that the centre stored."""

    resource: str
    epoch: int
    seq: int
    digest: str
    state: str
    manifest: dict[str, Any]


def links(centre: Path) -> dict[str, list[Link]]:
    """Resource -> its stored batches in chain order."""
    db = sqlite3.connect(f"file:{centre}?mode=ro", uri=True)
    try:
        rows = db.execute(
            "select resource, epoch, seq, message, state from batch"
            " order by resource, epoch, seq"
        ).fetchall()
    finally:
        db.close()
    found: dict[str, list[Link]] = {}
    for resource, epoch, seq, message, state in rows:
        signed, _, _ = message.rpartition(".")
        payload = signed.partition(".")[2]
        text = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        digest = "sha256:" + hashlib.sha256(signed.encode()).hexdigest()
        link = Link(resource, epoch, seq, digest, state, json.loads(text))
        found.setdefault(resource, []).append(link)
    return found


def faults(chain: list[Link]) -> list[str]:
    """What is wrong with a chain, in words; nothing if it is whole.

    Parts of a snapshot that never got its final part may stay ``stored``: a killed
    run left them, the next batch of the stream discarded them.
    """
    said = []
    whole = {_snapshot(link) for link in chain if link.manifest["run_end"]}
    before: Link | None = None
    for link in chain:
        stream = link.manifest["stream"]
        name = f"{link.resource} {link.epoch}/{link.seq}"
        if (stream["epoch"], stream["seq"]) != (link.epoch, link.seq):
            said.append(f"{name}: its manifest has another identity")
        first = before is None or before.epoch != link.epoch
        expected_seq = 1 if before is None or first else before.seq + 1
        if link.seq != expected_seq:
            said.append(f"{name}: expected seq {expected_seq}")
        if stream["prev"] != (None if before is None else before.digest):
            said.append(f"{name}: prev is not the batch before")
        if (stream["reason"] is not None) != first:
            said.append(f"{name}: reason {stream['reason']!r}")
        if link.state != "loaded" and _snapshot(link) in whole:
            said.append(f"{name}: {link.state}")
        before = link
    return said


def _snapshot(link: Link) -> str:
    snapshot = link.manifest["snapshot"]
    return snapshot["id"] if snapshot else link.digest
