# SPDX-License-Identifier: Apache-2.0
"""What would go live, judged by the rules of the client itself before anybody sees it.

Twice: as a client that knows only the first root, and as one that has taken everything
that is published now. What either would refuse is not published. A delegated role that
has expired meanwhile is no obstacle: a client refuses its files alone, and the brake
must not wait for a department's people.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from tuf.api.exceptions import ExpiredMetadataError, RepositoryError
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet
from tuf.ngclient.config import EnvelopeType

from agent.central import roles
from agent.central.standing import Standing
from agent.errors import CentralInvalid


@dataclass(frozen=True)
class Candidate:
    """Metadata as it would be served.

    Args:
        roots: every root, the first first.
        raw: the newest word of every other role, by role.
    """

    roots: Sequence[bytes]
    raw: Mapping[str, bytes]


def prove(found: Candidate, before: Standing | None, now: datetime) -> None:
    """Let both clients read it.

    Raises:
        CentralInvalid: one would refuse it.
    """
    try:
        _read(found, None, now)
        if before is not None:
            _read(found, before, now)
    except RepositoryError as e:
        raise CentralInvalid(f"a client would refuse it: {e}") from e


def _read(found: Candidate, before: Standing | None, now: datetime) -> None:
    known = 1 if before is None else len(before.roots)
    trusted = TrustedMetadataSet(found.roots[known - 1], EnvelopeType.METADATA)
    trusted.reference_time = now
    for root in found.roots[known:]:
        trusted.update_root(root)
    if before is not None:
        with suppress(RepositoryError):  # as the client does with what it kept
            trusted.update_timestamp(before.raw["timestamp"])
    trusted.update_timestamp(found.raw["timestamp"])
    if before is not None:
        with suppress(RepositoryError):
            trusted.update_snapshot(before.raw["snapshot"], trusted=True)
    trusted.update_snapshot(found.raw["snapshot"])
    targets = trusted.update_targets(found.raw["targets"])
    for role in roles.delegated(targets):
        if role not in found.raw:
            raise RepositoryError(f"{role} has keys but never said anything")
        with suppress(ExpiredMetadataError):  # that role's files only are refused
            trusted.update_delegated_targets(found.raw[role], role, "targets")
