# SPDX-License-Identifier: Apache-2.0
"""What the ledger keeps, as values."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class KeptRequest:
    """A request that was begun.

    Args:
        iss: node that asked.
        jti: of the request.
        digest: its message digest.
        exp: when it ends, NumericDate.
        leaf: number of the record of its answer; None while there is none.
    """

    iss: str
    jti: str
    digest: str
    exp: int
    leaf: int | None = None


@dataclass(frozen=True)
class Tile:
    """256 neighbours of one level of the tree, 32 bytes each; full, so for ever.

    Args:
        level: tile level; its hashes are the tree's nodes of level 8 * ``level``.
        number: place in its level.
        hashes: 8,192 bytes.
    """

    level: int
    number: int
    hashes: bytes = field(repr=False)


@dataclass(frozen=True)
class KeptBox:
    """The evidence of one record, encrypted with its day's key."""

    leaf: int
    day: str
    box: bytes = field(repr=False)


@dataclass(frozen=True)
class KeptCheckpoint:
    """A signed head of the log.

    Args:
        size: leaves that it covers.
        at: when it was signed.
        note: the signed note.
        cosignatures: further signature lines of the note, each with its LF.
    """

    size: int
    at: str
    note: str
    cosignatures: str = ""


@dataclass(frozen=True)
class KeptPolicy:
    """A policy that was activated; ``leaf`` is the record of it."""

    rev: int
    digest: str
    text: str = field(repr=False)
    activated_at: str
    uid: int
    leaf: int
