# SPDX-License-Identifier: Apache-2.0
"""Exchange keys of this machine for new ones; an end at any step loses none.

Rules

1. The new keys stand in statement n+1, signed by the ``sign`` key of n. A new
   certificate is asked for with the old one, and the statement is handed in through it:
   so it has worked, handshake and request, before anything depends on it.
2. Nothing changes until the directory shows the new keys as active. What is on its way
   lies in a folder of its own (``staging``).
3. Where the exchange has statements of this node that are not ours, nothing is asked
   for: no statement of ours could follow them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.control.identity import (
    IdentityFiles,
    load_key,
    load_sign_key,
    write_file,
)
from agent.control.staging import Staged, carry_through, give_up
from agent.control.statements import (
    kept_statements,
    refuse_forked,
    said_of,
    taken_over,
    untold,
)
from agent.crypto.certificates import Certificate, certificates_of_pkcs7
from agent.crypto.jose import PublicKey, message_digest
from agent.crypto.keys import (
    certificate_node,
    csr,
    load_private,
)
from agent.errors import (
    ExchangeUntrusted,
    KeysUnpublished,
    MalformedMessage,
)
from agent.wire.directory import Directory
from agent.wire.grammar import format_time
from agent.wire.keys import (
    TYP,
    KeyChain,
    KeyStatement,
)


class Uplink(Protocol):
    """What a change needs of the exchange; all raise PeerFault."""

    async def reenrol(self, request: bytes) -> bytes:
        """EST ``simplereenroll``: base64 PKCS#10 in, base64 PKCS#7 out."""
        ...

    async def keys(self, statement: str) -> None:
        """Make a key statement known; one that is known already is no fault."""
        ...


@dataclass(frozen=True)
class Way:
    """The ways to the exchange.

    Args:
        uplink: with the certificate in use.
        proving: opens one with the certificate and key of these files.
        refresh: fetches and verifies the directory.
    """

    uplink: Uplink
    proving: Callable[[Path, Path], AbstractAsyncContextManager[Uplink]]
    refresh: Callable[[], Awaitable[Directory]]


async def carry_on(
    files: IdentityFiles, *, way: Way, now: Callable[[], datetime]
) -> tuple[str, ...]:
    """Do what is still missing of the change that is under way; its purposes.

    There are none if no change is under way, or an end left nothing but its folder.

    Raises:
        KeysForked: no statement of ours can follow those that the exchange has.
        PeerFault: the exchange does not answer, or refuses; call again later.
        SpoolWriteFailed: the disk refused.
    """
    staged = Staged(files)
    purposes = staged.purposes
    if not purposes and not staged.shown.exists():
        give_up(files)
        return ()
    if not staged.shown.exists():
        await _made_known(staged, way=way, now=now)
        write_file(staged.shown, b"")
    carry_through(files)
    return purposes


async def _made_known(staged: Staged, *, way: Way, now: Callable[[], datetime]) -> None:
    """Have the directory show the new keys."""
    before = await _agreed(staged.files, way)
    if "tls" in staged.purposes:
        await _certify(staged, way.uplink, now=now)
    text = _stated(staged, before, now=now)
    if "tls" in staged.purposes:
        async with way.proving(staged.certificate, staged.key("tls")) as proof:
            await proof.keys(text)
    else:
        await way.uplink.keys(text)
    _check_shown(await way.refresh(), text, _fresh(staged))


async def _agreed(files: IdentityFiles, way: Way) -> KeyChain:
    """Our statements, once the exchange and we have the same; see ``statements``."""
    directory = await way.refresh()
    kept = kept_statements(files)
    refuse_forked(files, kept, directory, staged=Staged(files).text)
    kept = taken_over(files, kept, directory)
    for text in untold(kept, directory):
        await way.uplink.keys(text)
    return kept


async def _certify(
    staged: Staged, uplink: Uplink, *, now: Callable[[], datetime]
) -> None:
    """Have a valid certificate for the new ``tls`` key."""
    files, key = staged.files, load_private(staged.key("tls"), purpose="tls")
    with suppress(OSError, MalformedMessage):
        if Certificate.from_pem(staged.certificate.read_bytes()).not_after > now():
            return
    said = certificate_node(files.tls_certificate.read_bytes())
    first = message_digest(files.statement(1).read_text("ascii"))
    request = csr(key, node=said.node, statement_digest=first, cn=said.node)
    answer = await uplink.reenrol(base64.encodebytes(request))
    ca = Certificate.from_pem(files.ca.read_bytes())
    for found in _certificates(answer):
        if found.sha256 == ca.sha256:
            continue
        names = certificate_node(found.pem)
        if (names.node, names.statement) != (said.node, first):
            raise ExchangeUntrusted("renewal: expected a certificate of the same names")
        if found.kid != key.public.kid or not found.issued_by(ca):
            raise ExchangeUntrusted(
                "renewal: expected a certificate for the new key, of the pinned CA"
            )
        write_file(staged.certificate, found.pem, mode=0o644)
        return
    raise MalformedMessage("simplereenroll: expected a certificate, got none")


def _certificates(answer: bytes) -> tuple[Certificate, ...]:
    try:
        der = base64.b64decode(b"".join(answer.split()), validate=True)
    except binascii.Error as e:
        raise MalformedMessage("EST: expected base64 of PKCS#7") from e
    return certificates_of_pkcs7(der)


def _stated(staged: Staged, before: KeyChain, *, now: Callable[[], datetime]) -> str:
    """Statement n+1; the new keys stand last: an encrypter takes the last.

    One that was made before others were taken over is made anew. Statement n, where no
    key is new.
    """
    if staged.statement.exists():
        text = staged.statement.read_text("ascii")
        known = {message.digest for message in before.messages}
        if said_of(text).n > len(known) or message_digest(text) in known:
            return text
    fresh = _fresh(staged)
    if {key.kid for key in fresh.values()} <= {key.kid for key in before.live}:
        return before.messages[-1].text
    stay = tuple(key for key in before.live if key.purpose not in fresh)
    statement = KeyStatement(
        before.node,
        len(before.statements) + 1,
        (*stay, *fresh.values()),
        not_before=format_time(now().replace(microsecond=0)),
    )
    text = load_sign_key(staged.files).sign(TYP, statement.payload())
    write_file(staged.statement, text.encode())
    return text


def _fresh(staged: Staged) -> Mapping[str, PublicKey]:
    return {p: load_key(staged.key(p), p).public for p in staged.purposes}


def _check_shown(
    directory: Directory, text: str, fresh: Mapping[str, PublicKey]
) -> None:
    """Refuse to go on until the directory has the statement and the new keys active.

    One that stays may be revoked: the next change is for it.

    Raises:
        KeysUnpublished: it has not.
    """
    statement = said_of(text)
    shown = directory.node_keys(statement.node)
    if shown.statements[-1] != statement:
        raise KeysUnpublished(
            f"{statement.node}: expected statement {statement.n},"
            f" the directory ends with {len(shown.statements)}"
        )
    for key in fresh.values():
        status = directory.key_status(statement.node, key.kid)
        if status is None or status.status != "active":
            raise KeysUnpublished(f"{key.purpose} {key.kid}: expected it to be active")
