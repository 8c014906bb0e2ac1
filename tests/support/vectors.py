# SPDX-License-Identifier: Apache-2.0
"""Reading the golden vectors."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from agent.crypto.jose import PrivateKey
from agent.model.item import Item, ItemType

VECTORS = Path(__file__).parent.parent / "vectors"


@cache
def load(name: str) -> dict[str, Any]:
    """A JSON vector file."""
    found: dict[str, Any] = json.loads((VECTORS / name).read_text("utf-8"))
    return found


def key(name: str) -> PrivateKey:
    """A test key; ``sign2`` is of purpose ``sign`` too."""
    pem = (VECTORS / "keys" / f"{name}.pem").read_bytes()
    return PrivateKey.from_pem(pem, purpose="sign" if name == "sign2" else name)


def message(name: str) -> dict[str, str]:
    """One message of ``wire.json``."""
    return next(m for m in load("wire.json")["messages"] if m["name"] == name)


def items() -> tuple[Item, ...]:
    """The items of ``rows.json``."""
    return tuple(
        Item(**{**entry, "type": ItemType(entry["type"])})
        for entry in load("rows.json")["items"]
    )
