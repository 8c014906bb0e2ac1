# SPDX-License-Identifier: Apache-2.0
"""Reading the golden vectors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from agent.crypto.jose import PrivateKey
from agent.crypto.notekey import NoteKey
from agent.model.item import Item, ItemType

VECTORS = Path(__file__).parent.parent / "vectors"


@cache
def load(name: str) -> dict[str, Any]:
    """A JSON vector file."""
    found: dict[str, Any] = json.loads((VECTORS / name).read_text("utf-8"))
    return found


PURPOSES = {
    "sign2": "sign",
    "consumer_sign": "sign",
    "consumer_decrypt": "decrypt",
}
"""Test keys that are not called as their purpose."""


def key(name: str) -> PrivateKey:
    """A test key of P-256."""
    pem = (VECTORS / "keys" / f"{name}.pem").read_bytes()
    return PrivateKey.from_pem(pem, purpose=PURPOSES.get(name, name))


def note_key(purpose: str) -> NoteKey:
    """A test key of Ed25519: ``audit`` or ``witness``."""
    pem = (VECTORS / "keys" / f"{purpose}.pem").read_bytes()
    return NoteKey.from_pem(pem, purpose=purpose)


def message(name: str) -> dict[str, str]:
    """One message of ``wire.json``."""
    return next(m for m in load("wire.json")["messages"] if m["name"] == name)


def items() -> tuple[Item, ...]:
    """The items of ``rows.json``."""
    return tuple(
        Item(**{**entry, "type": ItemType(entry["type"])})
        for entry in load("rows.json")["items"]
    )
