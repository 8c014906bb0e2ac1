# SPDX-License-Identifier: Apache-2.0
"""Settings as a diagnostics bundle may show them: no secret, no name of a person.

A secret never stands in a settings file that is right; this one may be wrong. So what
is shown is chosen by name: numbers and switches, and texts of :data:`OPEN_TEXTS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agent.errors import ConfigInvalid
from agent.settings import Settings
from agent.settings.load import load, read
from agent.wire.grammar import RESOURCE

JsonObject = dict[str, Any]

OPEN_TEXTS = frozenset(
    {
        *("node", "timezone", "catalog", "language", "ceiling"),
        *("state", "run", "level", "listen", "policy"),
        *("aud", "url", "more_urls", "ca_sha256", "kid"),
        *("tuf_root_sha256", "tuf_folder"),
        *("window", "full", "incremental", "deletes", "reconcile"),
        *("connector", "host", "database"),
    }
)
"""Keys whose text is shown; of all others its length is."""
_TABLES = frozenset({"sources", "schedule", "limits"})
"""Tables below which names are a department's own."""
_MOST = 64


def _names(model: type[BaseModel]) -> frozenset[str]:
    found: set[str] = set(model.model_fields)
    for section in model.model_fields.values():
        inner = section.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= set(inner.model_fields)
    return frozenset(found)


_KNOWN = (
    _names(Settings)
    | OPEN_TEXTS
    | {"defaults", "kb_s", "port", "user", "password", "path", "schema", "sslmode"}
)


def settings_of(config: Path) -> JsonObject:
    """What the file says, and where its faults are."""
    try:
        raw = read(config)
    except ConfigInvalid:
        return {"readable": False, "settings": {}, "faults": []}
    return {
        "readable": True,
        "settings": _shown(raw, own=False, top=True),
        "faults": _faults(config),
    }


def _faults(config: Path) -> list[str]:
    """Keys of the faults; what was got there may be anything."""
    try:
        load(config, secrets=False)
    except ConfigInvalid as e:
        keys = (fault.key.split(".")[:2] for fault in e.faults)
        return sorted({".".join(k for k in parts if k in _KNOWN) for parts in keys})
    return []


def _shown(table: Mapping[str, Any], *, own: bool, top: bool = False) -> JsonObject:
    """A table without unknown names; ``own``: its names are the department's.

    Of those a resource's is shown, any other is a number.
    """
    shown: JsonObject = {}
    for n, (key, value) in enumerate(table.items(), 1):
        if key in _KNOWN or (own and RESOURCE.fullmatch(key)):
            shown[key] = _value(key, value, own=top and key in _TABLES)
        elif own:
            shown[f"({n})"] = _value(key, value, own=False)
    if len(shown) < len(table):
        shown["(others)"] = len(table) - len(shown)
    return shown


def _value(key: str, value: Any, *, own: bool) -> Any:
    if isinstance(value, Mapping):
        return _shown(value, own=own)
    if isinstance(value, list):
        return [_value(key, one, own=own) for one in value[:_MOST]]
    if isinstance(value, str):
        return value if key in OPEN_TEXTS else f"(text of {len(value)} characters)"
    return value if isinstance(value, bool | int | float) else "(left out)"
