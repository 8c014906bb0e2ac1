# SPDX-License-Identifier: Apache-2.0
"""Our key statements beside those that the exchange has of us.

They differ after a restore: keys that come back from a backup know nothing of the
statements since it was made, and an exchange that comes back does not have our last.
"""

from __future__ import annotations

from contextlib import suppress

from agent.control.identity import IdentityFiles, load_sign_key, write_file
from agent.errors import BadSignature, MalformedMessage, UnknownKey
from agent.wire.directory import Directory
from agent.wire.keys import KeyChain


def taken_over(files: IdentityFiles, kept: KeyChain, directory: Directory) -> KeyChain:
    """Our statements with those that only the directory has, which are kept from now.

    They are taken if they go on where ours end and the last one has our ``sign`` key:
    else the next statement could not be ours.

    Args:
        files: of the identity.
        kept: ours, verified.
        directory: verified.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    shown = _shown(kept, directory)
    if shown is None or _digests(shown)[: len(kept.messages)] != _digests(kept):
        return kept
    sign = load_sign_key(files).public
    if sign.kid not in {key.kid for key in shown.live}:
        return kept
    for n in range(len(kept.messages) + 1, len(shown.messages) + 1):
        write_file(files.statement(n), shown.messages[n - 1].text.encode("ascii"))
    return shown


def untold(kept: KeyChain, directory: Directory) -> tuple[str, ...]:
    """Our statements that the directory does not have, in order."""
    shown = _shown(kept, directory)
    known = set() if shown is None else set(_digests(shown))
    return tuple(m.text for m in kept.messages if m.digest not in known)


def _shown(kept: KeyChain, directory: Directory) -> KeyChain | None:
    with suppress(UnknownKey, MalformedMessage, BadSignature):
        return directory.statements(kept.node)
    return None


def _digests(found: KeyChain) -> list[str]:
    return [message.digest for message in found.messages]
