# SPDX-License-Identifier: Apache-2.0
"""Whose signatures count for a log: the content of ``keys.json`` (docs/audit.md)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agent.crypto.jose import PublicKey


def keys_document(
    origin: str,
    *,
    audit: Iterable[PublicKey],
    witness: str,
    cosigners: Iterable[PublicKey],
) -> dict[str, Any]:
    """The keys of a log and of its witness.

    Args:
        origin: name of the log.
        audit: every audit key that its node ever had.
        witness: name of the witness's key, ``<aud>/witness``.
        cosigners: the witness's keys.
    """
    own = {key.kid: key for key in audit}
    return {
        "v": 1,
        "origin": origin,
        "audit": [{"kid": key.kid, **key.jwk} for key in own.values()],
        "witness": [{"name": witness, "kid": key.kid, **key.jwk} for key in cosigners],
    }
