# SPDX-License-Identifier: Apache-2.0
"""Sources: a connector's name, its plain settings, and where its secrets lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import nearest, shown
from agent.settings.secret import Secret

SECRET_KEYS = frozenset({"password", "passphrase", "secret", "token", "private_key"})
"""Keys that are secret whatever the connector says of them."""

FILE_KEYS = frozenset({"path", "sslrootcert"})
"""Keys that name a file; a relative one starts at the folder of the settings."""

INLINE = (
    'a table: password = { file = "/etc/fep/secrets/NAME" } or'
    ' { credential = "NAME" }; a secret never stands in this file'
)

SECRET_SCHEMA: dict[str, Any] = {
    "type": "object",
    "minProperties": 1,
    "maxProperties": 1,
    "additionalProperties": False,
    "properties": {"file": {"type": "string"}, "credential": {"type": "string"}},
}
"""JSON Schema of where a secret lies."""
SOURCES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "default": {},
    "additionalProperties": {
        "type": "object",
        "required": ["connector"],
        "properties": {
            "connector": {"type": "string"},
            **dict.fromkeys(sorted(SECRET_KEYS), SECRET_SCHEMA),
        },
    },
}
"""JSON Schema of ``[sources]``; the other keys of a source are its connector's."""

Note = Callable[[str, str, str], None]
"""Takes a fault: key, expected, got."""

_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class Source:
    """One database.

    Args:
        connector: name in the connector registry.
        options: plain settings.
        secrets: key -> where it lies.
    """

    connector: str
    options: Mapping[str, Any]
    secrets: Mapping[str, Secret]

    def config(self) -> dict[str, Any]:
        """All settings for the connector, secrets read now. Never to be logged.

        Raises:
            SecretUnreadable: one of them.
        """
        return {**self.options, **{k: s.read() for k, s in self.secrets.items()}}

    def fingerprint(self) -> dict[str, str]:
        """Key -> text that changes when the secret's file does.

        Raises:
            SecretUnreadable: one of them.
        """
        return {key: secret.fingerprint() for key, secret in self.secrets.items()}


@dataclass(frozen=True)
class Places:
    """Where relative files and credentials lie."""

    folder: Path
    credentials: Path | None


def source(
    name: str,
    table: Mapping[str, Any],
    *,
    places: Places,
    spec: Mapping[str, Any] | None,
    note: Note,
) -> Source:
    """A source from its table; what is wrong goes to ``note``.

    Args:
        name: ``[sources.<name>]``.
        table: as in the file.
        places: see there.
        spec: the connector's JSON Schema of its settings, None if it is not known.
        note: takes every fault.
    """
    connector = table.get("connector")
    if not isinstance(connector, str) or not connector:
        note(f"sources.{name}.connector", "a connector's name", shown(connector))
        connector = ""
    known = dict((spec or {}).get("properties", {}))
    options: dict[str, Any] = {}
    secrets: dict[str, Secret] = {}
    for key, value in table.items():
        if key == "connector":
            continue
        where = f"sources.{name}.{key}"
        if key in SECRET_KEYS or known.get(key, {}).get("secret"):
            found = secret_of(where, value, places, note)
            if found is not None:
                secrets[key] = found
        else:
            a_file = key in FILE_KEYS and isinstance(value, str)
            options[key] = str(places.folder / value) if a_file else value
            if spec is not None:
                _judge(where, value, known, note)
    for key in (spec or {}).get("required", ()):
        if key not in table:
            note(f"sources.{name}.{key}", _words(known.get(key, {})), "nothing")
    return Source(connector, options, secrets)


def secret_of(key: str, value: object, places: Places, note: Note) -> Secret | None:
    """Where a secret lies, by the table that says so; else a fault goes to ``note``."""
    if isinstance(value, dict) and len(value) == 1:
        [(kind, text)] = value.items()
        if kind == "file" and isinstance(text, str) and text:
            return Secret(key, places.folder / text)
        if kind == "credential" and _is_name(text):
            folder = places.credentials
            return Secret(key, folder / text if folder else None)
    got = "the secret itself" if isinstance(value, str) else type(value).__name__
    note(key, INLINE, got)
    return None


def _is_name(text: object) -> bool:
    return isinstance(text, str) and bool(text) and "/" not in text and text != ".."


def _judge(where: str, value: object, known: Mapping[str, Any], note: Note) -> None:
    key = where.rpartition(".")[2]
    if key not in known:
        note(where, nearest(key, known, "a key of this connector"), "an unknown key")
        return
    allowed = known[key].get("enum")
    kinds = _TYPES.get(known[key].get("type", ""), (object,))
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits or (allowed and value not in allowed):
        note(where, _words(known[key]), shown(value))


def _words(rule: Mapping[str, Any]) -> str:
    if rule.get("enum"):
        return "one of " + ", ".join(str(v) for v in rule["enum"])
    return f"a value of type {rule.get('type', 'any')}"
