# SPDX-License-Identifier: Apache-2.0
"""What the centre says, laid over what this machine says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.wire import strict


@dataclass(frozen=True)
class Overlay:
    """What the centre says of this node, after the ceiling.

    Args:
        generation: the highest of its documents.
        digest: ``sha256:<hex>`` of its canonical JSON.
        tables: as in ``agent.toml``, only what the centre says.
        off: resources that the centre turns off.
        origins: dotted key -> the document that says it.
    """

    generation: int
    digest: str
    tables: Mapping[str, Any] = field(default_factory=dict)
    off: frozenset[str] = frozenset()
    origins: Mapping[str, str] = field(default_factory=dict)

    def as_json(self) -> bytes:
        """Its text on disk."""
        return strict.dumps(
            {
                "v": 1,
                "generation": self.generation,
                "digest": self.digest,
                "tables": dict(self.tables),
                "off": sorted(self.off),
                "origins": dict(self.origins),
            }
        )

    @staticmethod
    def from_json(data: bytes) -> Overlay:
        """The overlay of a text.

        Raises:
            MalformedMessage: it is none.
        """
        body = strict.loads(data)
        return Overlay(
            body["generation"],
            body["digest"],
            body["tables"],
            frozenset(body["off"]),
            body["origins"],
        )
