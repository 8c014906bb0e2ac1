# SPDX-License-Identifier: Apache-2.0
"""``agent.toml`` to settings, or every fault of it at once."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.errors import ConfigInvalid, Fault, SecretUnreadable, nearest, shown
from agent.settings.faults import told
from agent.settings.model import LIMITS_EXPECTED, Settings
from agent.settings.secret import Secret
from agent.settings.source import Note, Places, Source, secret_of, source

LARGEST = 1024 * 1024
"""Most bytes of a settings file."""

Specs = Mapping[str, Mapping[str, Any]]
"""Connector -> JSON Schema of its settings."""


def load(
    path: Path,
    *,
    overlay: Mapping[str, Any] | None = None,
    specs: Specs | None = None,
    environ: Mapping[str, str] | None = None,
    secrets: bool = True,
) -> Settings:
    """The settings of a file.

    Args:
        path: ``agent.toml``; relative paths in it start at its folder.
        overlay: tables whose keys stand over those of the file.
        specs: the connectors there are; without it their keys are not judged.
        environ: the environment; by default this process's.
        secrets: whether an unreadable secret is a fault now, not at its use.

    Raises:
        ConfigInvalid: with every fault, each with file, key, expected and got.
    """
    raw = read(path)
    if overlay is not None:
        raw = overlaid(raw, overlay)
    return _judged(path, raw, specs=specs, environ=environ, secrets=secrets)


def tables(path: Path) -> dict[str, Any]:
    """The file's tables as they stand in it, once they are known to be right.

    Raises:
        ConfigInvalid: they are not; with every fault.
    """
    raw = read(path)
    _judged(path, raw, specs=None, environ=None, secrets=False)
    return raw


def _judged(
    path: Path,
    raw: dict[str, Any],
    *,
    specs: Specs | None,
    environ: Mapping[str, str] | None,
    secrets: bool,
) -> Settings:
    faults: list[Fault] = []

    def note(key: str, expected: str, got: str) -> None:
        faults.append(Fault(str(path), key, expected, got))

    folder = path.absolute().parent
    credentials = (os.environ if environ is None else environ).get(
        "CREDENTIALS_DIRECTORY"
    )
    places = Places(folder, Path(credentials) if credentials else None)
    sources = _sources(raw, places, specs, note)
    _limits(raw, sources, note)
    exchange = _exchange(raw.get("exchange"), places, note)
    settings: Settings | None = None
    try:
        found = {**raw, "sources": sources}
        if exchange is not None:
            found["exchange"] = exchange
        settings = Settings.model_validate(found)
    except ValidationError as e:
        faults += told(str(path), Settings, e)
    if secrets:
        faults += _unreadable(path, _secrets(sources, exchange))
    if settings is None or faults:
        raise ConfigInvalid(faults=tuple(sorted(faults, key=lambda f: f.key)))
    return _placed(settings, folder)


def template() -> str:
    """The commented settings file that comes with the program."""
    return resources.files("agent.settings").joinpath("agent.toml").read_text("utf-8")


def read(path: Path) -> dict[str, Any]:
    """The file's tables.

    Raises:
        ConfigInvalid: no such file, too large, not UTF-8, or not TOML.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as e:
        raise _one(path, "a readable file", e.strerror or type(e).__name__) from None
    if len(data) > LARGEST:
        raise _one(path, f"at most {LARGEST} bytes", "more")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as e:
        raise _one(path, "UTF-8 text", f"another byte at {e.start}") from None
    except RecursionError:
        raise _one(path, "TOML", "tables or lists nested too deeply") from None
    except ValueError as e:  # TOMLDecodeError, and numbers of thousands of digits
        raise _one(path, "TOML", str(e)) from None


def overlaid(raw: Mapping[str, Any], overlay: Mapping[str, Any]) -> dict[str, Any]:
    """Tables with those of an overlay over them, key by key.

    Limits of a source that the file does not have any more are left out.
    """
    found = dict(raw)
    for section, table in overlay.items():
        if section == "limits":
            known = ("defaults", *raw.get("sources", {}))
            table = {name: keys for name, keys in table.items() if name in known}
        found[section] = _over(raw.get(section, {}), table)
    return found


def _over(below: Any, above: Any) -> Any:
    """What is above counts; tables are joined."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    joined = {key: _over(below.get(key), value) for key, value in above.items()}
    return {**below, **joined}


def _one(path: Path, expected: str, got: str) -> ConfigInvalid:
    return ConfigInvalid(faults=(Fault(str(path), "", expected, got),))


def _sources(
    raw: Mapping[str, Any], places: Places, specs: Specs | None, note: Note
) -> dict[str, Source]:
    tables = raw.get("sources", {})
    if not isinstance(tables, dict):
        note("sources", "tables [sources.<name>]", shown(type(tables).__name__))
        return {}
    found: dict[str, Source] = {}
    for name, table in tables.items():
        if not isinstance(table, dict):
            note(f"sources.{name}", "a table", type(table).__name__)
            continue
        connector = table.get("connector")
        known = specs is not None and isinstance(connector, str)
        spec = (specs or {}).get(str(connector))
        if known and spec is None:
            expected = nearest(str(connector), specs or {}, "a known connector")
            note(f"sources.{name}.connector", expected, shown(connector))
        found[name] = source(name, table, places=places, spec=spec, note=note)
    return found


def _limits(raw: Mapping[str, Any], sources: Mapping[str, Source], note: Note) -> None:
    """Limits of a source that there is not would hold for nobody."""
    tables = raw.get("limits", {})
    for name in tables if isinstance(tables, dict) else ():
        if name not in (*sources, "defaults"):
            expected = nearest(name, sources, LIMITS_EXPECTED)
            note(f"limits.{name}", expected, "no such source")


def _exchange(table: object, places: Places, note: Note) -> dict[str, Any] | None:
    """The exchange's table with the place of the proxy's password; None without."""
    if not isinstance(table, dict) or not isinstance(table.get("proxy"), dict):
        return None
    proxy = dict(table["proxy"])
    if "password" in proxy:
        key = "exchange.proxy.password"
        proxy["password"] = secret_of(key, proxy["password"], places, note)
    return {**table, "proxy": proxy}


def _secrets(
    sources: Mapping[str, Source], exchange: Mapping[str, Any] | None
) -> Iterator[Secret]:
    """Everything that lies in a file of its own."""
    for one in sources.values():
        yield from one.secrets.values()
    password = None if exchange is None else exchange["proxy"].get("password")
    if password is not None:
        yield password


def _unreadable(path: Path, secrets: Iterable[Secret]) -> Iterator[Fault]:
    for secret in secrets:
        try:
            secret.read()
        except SecretUnreadable as e:
            where, _, words = e.detail.partition(": expected ")
            expected, _, got = words.rpartition(", got ")
            key = secret.key
            yield Fault(str(path), key, expected, f"{got} ({secret.path or where})")


def _placed(settings: Settings, folder: Path) -> Settings:
    """With the paths of the file made absolute."""
    agent, paths, lookup = settings.agent, settings.paths, settings.lookup
    return settings.model_copy(
        update={
            "agent": agent.model_copy(
                update={
                    "catalog": folder / agent.catalog,
                    "ceiling": folder / agent.ceiling,
                }
            ),
            "paths": paths.model_copy(
                update={"state": folder / paths.state, "run": folder / paths.run}
            ),
            "lookup": lookup.model_copy(update={"policy": folder / lookup.policy}),
        }
    )
