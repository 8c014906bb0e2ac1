# SPDX-License-Identifier: Apache-2.0
"""Our key statements beside those that the exchange has of us.

They differ after a restore: keys that come back from a backup know nothing of the
statements since it was made, and an exchange that comes back does not have our last.
"""

from __future__ import annotations

from contextlib import suppress

from agent.control.identity import IdentityFiles, load_sign_key, write_file
from agent.crypto.jose import message_digest, split
from agent.errors import (
    BadSignature,
    KeysForked,
    MalformedMessage,
    NotEnrolled,
    UnknownKey,
)
from agent.wire.directory import Directory
from agent.wire.keys import CAP, KeyChain, KeyStatement, chain, parse


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


def refuse_forked(
    files: IdentityFiles, kept: KeyChain, directory: Directory, *, staged: str | None
) -> None:
    """Refuse to state keys where the exchange has statements that are not ours.

    Args:
        files: of the identity.
        kept: ours, verified.
        directory: verified.
        staged: one of ours that may be there already, or None.

    Raises:
        KeysForked: it has others, or later ones by a ``sign`` key that is not ours.
    """
    shown = _shown(kept, directory)
    if shown is None:
        return
    ours, theirs = _digests(kept), _digests(shown)
    known = min(len(ours), len(theirs))
    more = theirs[known:]
    follows = ours[:known] == theirs[:known] and (
        not more
        or (staged is not None and message_digest(staged) in more)
        or load_sign_key(files).public.kid in {key.kid for key in shown.live}
    )
    if not follows:
        raise KeysForked(
            f"{kept.node}: the directory has {len(theirs)} key statements, of which"
            f" this machine's {len(ours)} are not the beginning, or the last ones are"
            " signed by a key that it does not have"
        )


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


def kept_statements(files: IdentityFiles) -> KeyChain:
    """Our key statements, verified.

    Raises:
        NotEnrolled: there is none.
        MalformedMessage, BadSignature: they are no chain.
    """
    texts: list[str] = []
    while (path := files.statement(len(texts) + 1)).exists():
        texts.append(path.read_text("ascii"))
    if not texts:
        raise NotEnrolled(f"expected {files.statement(1)}")
    return chain(texts)


def said_of(text: str) -> KeyStatement:
    """What a statement of our own says.

    Raises:
        MalformedMessage: it is none.
    """
    return parse(split(text, cap=CAP).payload)
