# SPDX-License-Identifier: Apache-2.0
"""Settings key by key: what holds and who said it; what the centre wants besides."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agent.errors import FepError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agent.daemon.effective import Effective

Tables = Mapping[str, Any]

AGENT, DEFAULT = "agent.toml", "default"
_LOGIN = re.compile(r"//[^/]*@")


def shown(config: Path) -> dict[str, Any]:
    """What holds by the files, as the JSON answer of ``fep config show``.

    No secret is read: of one only its place is told.

    Raises:
        ConfigInvalid: ``agent.toml`` or the ceiling cannot be used; with every fault.
    """
    from agent import registry, settings
    from agent.daemon.effective import effective

    specs = {name: registry.find(name).spec() for name in registry.names()}
    settings.load(config, specs=specs, secrets=False)  # it knows all that is secret
    holds, local = effective(config), settings.tables(config)
    overlay = holds.overlay
    return {
        "config": str(config),
        "pinned": bool(holds.settings.exchange.tuf_root_sha256),
        "ceiling": holds.ceiling.present,
        "generation": None if overlay is None else overlay.generation,
        "digest": None if overlay is None else overlay.digest,
        "settings": list(_words(holds, local)),
        "refused": None if holds.refused is None else _error(holds.refused),
    }


def _error(error: FepError) -> dict[str, str]:
    return {"code": error.code, "detail": error.detail}


def _words(holds: Effective, local: Tables) -> Iterator[dict[str, Any]]:
    """Each key with its value and its origin."""
    origins = {} if holds.overlay is None else holds.overlay.origins
    for way, value in _values(holds, local):
        key = ".".join(way)
        origin = origins.get(key) or (AGENT if _written(local, way) else DEFAULT)
        yield {"key": key, "value": value, "origin": origin}
    for code in sorted(() if holds.overlay is None else holds.overlay.off):
        yield {"key": f"off.{code}", "value": True, "origin": origins[f"off.{code}"]}


def _values(
    holds: Effective, local: Tables
) -> Iterator[tuple[tuple[str, ...], object]]:
    found = holds.settings
    for section in type(found).model_fields:
        if section == "sources":
            yield from _written_values(local.get(section, {}), (section,))
        elif section in ("schedule", "limits"):
            for name, table in getattr(found, section).items():
                yield from _keys(table, (section, name), table.model_fields_set)
        else:
            model = getattr(found, section)
            yield from _keys(model, (section,), set(type(model).model_fields))
            proxy = local.get(section, {}).get("proxy", {})
            yield from _written_values(proxy, (section, "proxy"))


def _keys(
    model: BaseModel, way: tuple[str, ...], keys: set[str]
) -> Iterator[tuple[tuple[str, ...], object]]:
    values = model.model_dump(mode="json", include=keys - {"proxy"})
    for key, value in values.items():
        yield (*way, key), value


def _written_values(
    table: Tables, way: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], object]]:
    """Values as they stand in the file: of a secret it is the place.

    A login that somebody wrote into an address is not told.
    """
    for key, value in table.items():
        if isinstance(value, dict) and len(way) == 1:
            yield from _written_values(value, (*way, key))
        else:
            hidden = _LOGIN.sub("//...@", value) if isinstance(value, str) else value
            yield (*way, key), hidden


def _written(local: Tables, way: tuple[str, ...]) -> bool:
    table: Any = local
    for key in way:
        if not isinstance(table, dict) or key not in table:
            return False
        table = table[key]
    return True


def changes(running: Tables | None, desired: Tables | None) -> list[dict[str, Any]]:
    """What the centre wants otherwise than it runs, key by key.

    Args:
        running: the overlay that runs, as the daemon tells it; None for none.
        desired: the one that is wanted; None if there is none that could be made.
    """
    if desired is None:
        return []
    old, new = _overlay(running), _overlay(desired)
    origins = {**(running or {}).get("origins", {}), **desired["origins"]}
    return [
        {
            "key": key,
            "running": old.get(key),
            "desired": new.get(key),
            "origin": origins.get(key, ""),
        }
        for key in sorted(old.keys() | new)
        if old.get(key) != new.get(key)
    ]


def _overlay(body: Tables | None) -> dict[str, Any]:
    if body is None:
        return {}
    found = {f"off.{code}": True for code in body["off"]}
    for section, table in body["tables"].items():
        for key, value in table.items():
            if section in ("schedule", "limits"):
                found |= {f"{section}.{key}.{k}": v for k, v in value.items()}
            else:
                found[f"{section}.{key}"] = value
    return found


def text(value: object) -> str:
    """A value as people read it."""
    return "—" if value is None else json.dumps(value, ensure_ascii=False)
