# SPDX-License-Identifier: Apache-2.0
"""The private keys in use.

Whoever signs or opens holds the ring, not a key, so that a change needs no restart.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.control.identity import (
    IdentityFiles,
    load_audit_key,
    load_decrypt_key,
    load_sign_key,
)
from agent.control.staging import Staged, old_decrypt_keys
from agent.crypto.jose import PrivateKey, PublicKey
from agent.crypto.keys import load_private
from agent.crypto.notekey import NoteKey


class Keyring:
    """Our private keys.

    Args:
        files: where they are.

    Attributes:
        opening: by kid what opens requests: the ``decrypt`` key in use, those before
            it, and the one that is just being made known. The same object all the time.

    Raises:
        NotEnrolled: a key is missing.
        SecretUnreadable: a file is open to others, or damaged.
    """

    def __init__(self, files: IdentityFiles) -> None:
        self._files = files
        self._opening: dict[str, PrivateKey] = {}
        self._sign = load_sign_key(files)
        self._audit = load_audit_key(files)
        self._fill()

    @property
    def opening(self) -> Mapping[str, PrivateKey]:
        """See the class."""
        return self._opening

    @property
    def public(self) -> PublicKey:
        """The ``sign`` key in use."""
        return self._sign.public

    @property
    def audit(self) -> NoteKey:
        """The key that signs checkpoints."""
        return self._audit

    def sign(self, typ: str, payload: bytes) -> str:
        """The compact JWS of a payload, by the ``sign`` key in use."""
        return self._sign.sign(typ, payload)

    def reload(self) -> None:
        """Use what the files have now.

        Raises:
            NotEnrolled, SecretUnreadable: see the class; then nothing has changed.
        """
        sign, audit = load_sign_key(self._files), load_audit_key(self._files)
        self._fill()
        self._sign, self._audit = sign, audit

    def _fill(self) -> None:
        found = [load_decrypt_key(self._files)]
        more = [*old_decrypt_keys(self._files), Staged(self._files).key("decrypt")]
        found += [load_private(p, purpose="decrypt") for p in more if p.exists()]
        fresh = {key.public.kid: key for key in found}
        self._opening.update(fresh)
        for kid in self._opening.keys() - fresh.keys():
            del self._opening[kid]
