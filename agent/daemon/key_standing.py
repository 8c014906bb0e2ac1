# SPDX-License-Identifier: Apache-2.0
"""How the keys of this machine stand: here, and in the directory's eyes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from agent.audit.events import KeysChanged
from agent.audit.log import AuditLog
from agent.control.directory import TrustedDirectory
from agent.control.identity import (
    IdentityFiles,
    load_audit_key,
    load_decrypt_key,
    load_sign_key,
    load_tls_key,
)
from agent.control.keyring import Keyring
from agent.control.staging import Staged, old_decrypt_keys
from agent.control.statements import kept_statements, refuse_forked
from agent.crypto import keyfile
from agent.errors import (
    FepError,
    KeysForked,
    NotEnrolled,
    OwnKeyRevoked,
    SecretUnreadable,
    TokenFailed,
)
from agent.wire.directory import Directory
from agent.wire.grammar import parse_time
from agent.wire.keys import NODE_PURPOSES


class Standing:
    """What is known of our keys.

    Args:
        files: where they are.
        directory: what others know of them.
        node: ours.

    Attributes:
        kids: purpose -> kid of those in use.

    Raises:
        NotEnrolled, SecretUnreadable: a key cannot be read.
    """

    def __init__(
        self, files: IdentityFiles, directory: TrustedDirectory, node: str
    ) -> None:
        self._files = files
        self._directory = directory
        self._node = node
        self.kids = kids_of(files)

    def read_again(self) -> None:
        """The files have other keys now."""
        self.kids = kids_of(self._files)

    def mute(self) -> FepError | None:
        """Why no key can be changed any more, until a person has done something."""
        return self.revoked(("sign",)) or self.forked()

    def forked(self) -> FepError | None:
        """That the exchange has statements of this node that are not ours."""
        known = self._known()
        if known is None:
            return None
        with suppress(NotEnrolled, SecretUnreadable, TokenFailed):  # said elsewhere
            kept, staged = kept_statements(self._files), Staged(self._files).text
            try:
                refuse_forked(self._files, kept, known, staged=staged)
            except KeysForked as e:
                return e
        return None

    def revoked(self, purposes: Collection[str] = NODE_PURPOSES) -> FepError | None:
        """That a key in use, of one of these purposes, is revoked."""
        known = self._known()
        held = [(p, self.kids[p]) for p in purposes if p in self.kids]
        for purpose, kid in held if known else ():
            status = known.key_status(self._node, kid) if known else None
            if status is not None and status.status == "revoked":
                return OwnKeyRevoked(f"{purpose} {kid}, since {status.since}")
        return None

    def rows(self) -> list[dict[str, Any]]:
        """Every key that we ever had, oldest first."""
        known, held = self._known(), set(self.kids.values())
        places = places_of(self._files, self.kids)
        rows: dict[str, dict[str, Any]] = {}
        for statement in kept_statements(self._files).statements:
            for key in statement.keys:
                status = known and known.key_status(self._node, key.kid)
                rows.setdefault(
                    key.kid,
                    {
                        "purpose": key.purpose,
                        "kid": key.kid,
                        "statement": statement.n,
                        "in_use": key.kid in held,
                        "where": places.get(key.kid),
                        "status": status.status if status else None,
                        "since": status.since if status else None,
                        "until": status.until if status else None,
                    },
                )
        return list(rows.values())

    def _known(self) -> Directory | None:
        try:
            return self._directory.current
        except FepError:
            return None


def kids_of(files: IdentityFiles) -> Mapping[str, str]:
    """Purpose -> kid of the keys in use.

    Raises:
        NotEnrolled, SecretUnreadable: see the loaders.
    """
    keys = (load_tls_key(files), load_sign_key(files), load_decrypt_key(files))
    found = {key.public.purpose: key.public.kid for key in keys}
    return {**found, "audit": load_audit_key(files).public.kid}


def places_of(
    files: IdentityFiles, kids: Mapping[str, str]
) -> Mapping[str, keyfile.Where]:
    """Kid -> where it is, of the private keys that this machine has.

    Args:
        files: of the identity.
        kids: see :func:`kids_of`.
    """
    paths = {kid: files.key(purpose) for purpose, kid in kids.items()}
    old = old_decrypt_keys(files)
    paths |= {path.stem.removeprefix("decrypt-"): path for path in old}
    found: dict[str, keyfile.Where] = {}
    for kid, path in paths.items():
        with suppress(SecretUnreadable):  # gone or open: others say so
            found[kid] = keyfile.where(path)
    return found


async def record_keys(log: AuditLog, node: str, files: IdentityFiles) -> None:
    """Put down which keys are in use, if they are others than at the last time.

    Raises:
        AuditDamaged, AuditWriteFailed: it could not be put down.
    """
    kids = kids_of(files)
    await log.changed("keys", json.dumps(kids), KeysChanged(node, kids))


def spent(
    directory: TrustedDirectory,
    keyring: Keyring,
    node: str,
    now: Callable[[], datetime],
    kid: str,
) -> bool:
    """Whether the exchange takes nothing any more that a key of ours signed.

    The key in use never is: if it is revoked, only a person can help.
    """
    if kid == keyring.public.kid:
        return False
    try:
        status = directory.current.key_status(node, kid)
    except FepError:
        return False
    if status is None or status.status == "active":
        return False
    over = status.until is not None and parse_time(status.until) <= now()
    return status.status == "revoked" or over
