# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from agent.demo.acts import _settled, flip_payload, forge_manifest
from agent.errors import InternalFault


def coded(body: object) -> bytes:
    data = json.dumps(body).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=")


MANIFEST = {"rows": {"upsert": 36}, "quality": {"read": 36}}
LINE = b".".join((coded({"alg": "ES256"}), coded(MANIFEST), b"c2ln"))
BATCH = LINE + b"\n" + bytes(range(64))


def test_flipped_payload_differs_in_one_bit() -> None:
    """Line 1 stays, the payload differs in exactly one bit."""
    line, _, payload = flip_payload(BATCH).partition(b"\n")
    assert line == LINE
    pairs = zip(payload, range(64), strict=True)
    assert [bin(a ^ b) for a, b in pairs if a != b] == ["0b1"]


def test_forged_manifest_keeps_header_signature_and_payload() -> None:
    """Only the signed counts are other ones."""
    line, _, payload = forge_manifest(BATCH).partition(b"\n")
    header, body, signature = line.split(b".")
    forged = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    assert forged == {"rows": {"upsert": 37}, "quality": {"read": 37}}
    assert (header, signature) == (LINE.split(b".")[0], b"c2ln")
    assert payload == bytes(range(64))


def status(**changes: Any) -> dict[str, Any]:
    run = {"run": "0002", "delivered": True}
    return {"resource": "r", "trouble": None, "run": run} | changes


def test_run_counts_once_every_receipt_is_there() -> None:
    """A run is settled when it is the one asked for, or a later one, and delivered."""
    assert _settled(status(), since="0001")
    assert not _settled(status(), since="0003")
    waiting = {"run": "0002", "delivered": False}
    assert not _settled(status(run=waiting), since="0002")


def test_trouble_of_the_line_is_waited_for() -> None:
    """A busy exchange is no reason to give up, a broken source is."""
    busy = {"code": "exchange-refused", "detail": "busy"}
    assert _settled(status(trouble=busy), since="0001")
    broken = {"code": "source-missing", "detail": "table person"}
    with pytest.raises(InternalFault, match="source-missing: table person"):
        _settled(status(trouble=broken), since="0001")
