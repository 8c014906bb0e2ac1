# SPDX-License-Identifier: Apache-2.0
"""What the centre's configuration comes to on this node; as a value and as a file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from agent.errors import RunningDamaged

LARGEST = 4 * 1024 * 1024
"""Most bytes of the file."""


@dataclass(frozen=True)
class Overlay:
    """What the centre sets here, after every bound.

    Args:
        generation: of the documents it came from, the highest; 0 without any.
        tables: as in ``agent.toml``, only what the centre says or a bound made of it.
        off: resources that the centre has switched off.
        origins: dotted key, or ``off.<resource>`` -> ``groups/<g>``, ``nodes/<node>``,
            ``limits.json``, ``ceiling.toml`` or ``agent.toml``.
    """

    generation: int
    tables: Mapping[str, Any]
    off: frozenset[str]
    origins: Mapping[str, str]

    @cached_property
    def digest(self) -> str:
        """``sha256:<hex>`` of all of it; the name it goes by in heartbeats."""
        return f"sha256:{hashlib.sha256(_text(self._body())).hexdigest()}"

    @property
    def shaped(self) -> bool:
        """Whether its parts are of the types that they should be."""
        generation: Any = self.generation
        tables: Any = self.tables
        origins: Any = self.origins
        off: Any = self.off
        return (
            isinstance(generation, int)
            and isinstance(tables, dict)
            and all(isinstance(table, dict) for table in tables.values())
            and isinstance(origins, dict)
            and all(isinstance(text, str) for text in origins.values())
            and all(isinstance(code, str) for code in off)
        )

    def _body(self) -> dict[str, Any]:
        return {
            "generation": self.generation,
            "tables": self.tables,
            "off": sorted(self.off),
            "origins": self.origins,
        }

    def as_json(self) -> bytes:
        """The file; it holds its own digest, so damage is seen."""
        return _text({**self._body(), "digest": self.digest}) + b"\n"

    @classmethod
    def from_json(cls, data: bytes) -> Overlay:
        """What :meth:`as_json` wrote.

        Raises:
            RunningDamaged: it is not that.
        """
        try:
            body: Any = json.loads(data) if len(data) <= LARGEST else None
            found = cls(
                generation=body["generation"],
                tables=body["tables"],
                off=frozenset(body["off"]),
                origins=body["origins"],
            )
            whole = body["digest"] == found.digest and found.shaped
        except (ValueError, TypeError, KeyError, RecursionError):
            whole = False
        if not whole:
            raise RunningDamaged("expected the text of a digest in it, got another")
        return found


def read(path: Path) -> Overlay | None:
    """The overlay of a file; None if there is no such file.

    Raises:
        RunningDamaged: it cannot be read, or is not what was written.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise RunningDamaged(f"{path}: {e.strerror or type(e).__name__}") from None
    try:
        return Overlay.from_json(data)
    except RunningDamaged as e:
        raise RunningDamaged(f"{path}: {e.detail}") from None


def _text(body: Mapping[str, Any]) -> bytes:
    return json.dumps(
        body,
        ensure_ascii=False,
        sort_keys=True,
        separators=(",", ":"),
        allow_nan=False,
    ).encode("utf-8", "backslashreplace")
