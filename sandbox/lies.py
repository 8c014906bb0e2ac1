# SPDX-License-Identifier: Apache-2.0
"""False receipts and positions, for the fault switches: an agent must not believe them.

The registry keeps the true ones.
"""

from __future__ import annotations

import json
from typing import Any

from agent.crypto.jose import PrivateKey, base64url, split
from agent.wire import strict
from sandbox.faults import Faults
from sandbox.replies import Signer


def show_receipt(text: str, faults: Faults, signer: Signer) -> str:
    """The receipt, or a false one if a switch says so."""
    fault = faults.strike("receipt")
    if fault is None:
        return text
    if fault.lie == "bad-signature":
        return _broken(text)
    if fault.lie == "unknown-key":
        return _again(text, PrivateKey.generate("receipt"))
    if fault.lie == "wrong-exchange":
        return _again(text, signer.key, exchange="another.exchange")
    return _again(text, signer.key, manifest="sha256:" + "0" * 64)


def show_position(text: str, faults: Faults, signer: Signer) -> str:
    """The position, or a false one if a switch says so."""
    fault = faults.strike("position")
    if fault is None:
        return text
    if fault.lie == "bad-signature":
        return _broken(text)
    return _again(text, signer.key, nonce=base64url(bytes(24)))


def _broken(text: str) -> str:
    head, _, signature = text.rpartition(".")
    first = "A" if signature[0] != "A" else "B"
    return f"{head}.{first}{signature[1:]}"


def _again(text: str, key: PrivateKey, **changes: str) -> str:
    message = split(text, cap=len(text))
    body: dict[str, Any] = json.loads(message.payload)
    return key.sign(message.typ, strict.dumps({**body, **changes}))
