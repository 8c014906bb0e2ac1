# SPDX-License-Identifier: Apache-2.0
"""Keys and certificates of this node and of its peers, the directory, the trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


@dataclass(frozen=True)
class KeysChanged(Recorded):
    """Whose keys changed, and which count now.

    Args:
        node: this node, or another whose keys were accepted.
        kids: purpose -> kid of the newest key.
    """

    name = "keys.changed"
    node: str
    kids: Mapping[str, str]


@dataclass(frozen=True)
class CertificateEnds(Event):
    """The certificate should have been renewed, and ends within so many days.

    Args:
        days: 30, 7 or 1; 0 when it has ended.
        not_after: when it ends, wire grammar.
    """

    name = "certificate.ends"
    level = "warning"
    days: int
    not_after: str


@dataclass(frozen=True)
class KeyChangeFailed(Event):
    """A step of an exchange of keys failed; the old ones stay in use.

    Args:
        purposes: of the new keys.
        code: of the error.
        detail: of it.
        attempt: tries in a row that have failed.
        wait_s: pause before the next one, seconds.
    """

    name = "keys.trouble"
    level = "warning"
    purposes: tuple[str, ...]
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class PeerBroke(Recorded):
    """A node's keys do not follow from those that we knew; its lookups stop.

    Args:
        node: whose they are.
        known: message digest of its first key statement, as we know it.
        found: that of the directory.
        reason: of the reset, as the directory has it; None: it has none.
    """

    name = "peer.broke"
    level = "error"
    node: str
    known: str
    found: str
    reason: str | None


@dataclass(frozen=True)
class PeerWasReset(Event):
    """A node that is seen for the first time began anew before that.

    Nothing was known of it, so nothing is held against it; who knew it earlier may know
    other keys.

    Args:
        node: whose keys they are.
        first: message digest of its first key statement.
        at: of the reset, as the directory has it, wire grammar.
        reason: of it.
    """

    name = "peer.was_reset"
    level = "warning"
    node: str
    first: str
    at: str
    reason: str


@dataclass(frozen=True)
class DirectoryKept(Event):
    """A new directory takes away what was known; the last good one stays in use.

    Args:
        detail: what is missing in it.
    """

    name = "directory.refused"
    level = "error"
    detail: str


@dataclass(frozen=True)
class TrustVerified(Event):
    """The city's TUF repository said something newer, and it verified.

    Args:
        root: version of its metadata, and so on.
    """

    name = "trust.verified"
    root: int
    timestamp: int
    snapshot: int
    targets: int


@dataclass(frozen=True)
class TrustTrouble(Event):
    """The city's TUF repository could not be verified anew; what was, goes on."""

    name = "trust.trouble"
    level = "warning"
    code: str
    detail: str


@dataclass(frozen=True)
class PeerUnsound(Event):
    """A node's new key statements are not signed as its chain demands.

    Its keys are not used any more; lookups with it fail.
    """

    name = "directory.unsound"
    level = "error"
    node: str
