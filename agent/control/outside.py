# SPDX-License-Identifier: Apache-2.0
"""Private keys that are not in the files of this machine: credentials and tokens.

Their files only name them (``agent.crypto.keyfile``), and a person put them there. So
nothing here makes, copies out or destroys them: who is asked to says so, by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from agent.control.identity import IdentityFiles
from agent.crypto import keyfile
from agent.errors import KeyElsewhere
from agent.wire.keys import NODE_PURPOSES


def outside(
    files: IdentityFiles, purposes: Collection[str] = NODE_PURPOSES
) -> Mapping[str, keyfile.Where]:
    """Purpose -> ``credential`` or ``token``, of the keys that are not in their file.

    Raises:
        SecretUnreadable: a key file cannot be read.
    """
    found = {p: files.key(p) for p in NODE_PURPOSES if p in purposes}
    places = {p: keyfile.where(path) for p, path in found.items() if path.exists()}
    return {p: at for p, at in places.items() if at in {"credential", "token"}}


def refuse_outside(
    files: IdentityFiles, purposes: Collection[str] = NODE_PURPOSES
) -> None:
    """Refuse what needs these keys in their files.

    Raises:
        KeyElsewhere: some are not; their purposes and where they are.
        SecretUnreadable: a key file cannot be read.
    """
    found = outside(files, purposes)
    if found:
        raise KeyElsewhere("; ".join(f"{p}: in a {at}" for p, at in found.items()))
