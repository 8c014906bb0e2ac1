# SPDX-License-Identifier: Apache-2.0
"""Exchange keys of this machine for new ones; an end at any step loses none.

::

    keys/next/<purpose>.key     new private keys, while they are being made known
    keys/next/tls.pem           certificate of the new tls key
    keys/next/statement.jws     the key statement that names the new keys
    keys/next/shown             the directory shows them: they are put in place now
    keys/old/decrypt-<kid>.key  what still opens requests that are on their way

Rules

1. The folder ``next`` appears whole, with all keys of the change, and goes when it is
   done. Each step leaves a file and is skipped when it is there, so that whoever finds
   the folder goes on where the last life stopped.
2. The new keys stand in statement n+1, signed by the ``sign`` key of n. A new
   certificate is asked for with the old one, and the statement is handed in through it:
   so it has worked, handshake and request, before anything depends on it.
3. Nothing changes until the directory shows the new keys as active.
4. Of the old keys only ``decrypt`` is kept, until its retirement ends: what was sealed
   to it is still on its way.
   Their public halves stay in the statements, which is all that verifying needs.
5. A key whose file only names it (a credential, a token) is a person's to change. The
   certificate of such a key is renewed with the same key: its file is copied into
   ``next`` and dropped in the end, and no statement is made, for no key is new.
"""

from __future__ import annotations

import base64
import binascii
import os
import shutil
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from agent.control.identity import (
    IdentityFiles,
    load_sign_key,
    make_folder,
    write_file,
    writing,
)
from agent.control.outside import refuse_outside
from agent.control.statements import taken_over, untold
from agent.crypto import keyfile
from agent.crypto.certificates import Certificate, certificates_of_pkcs7
from agent.crypto.jose import PrivateKey, PublicKey, message_digest, split
from agent.crypto.keys import (
    certificate_node,
    csr,
    load_note_key,
    load_private,
    save_private,
)
from agent.crypto.notekey import NoteKey
from agent.errors import (
    Busy,
    ExchangeRefused,
    ExchangeUntrusted,
    KeysUnpublished,
    MalformedMessage,
    NotEnrolled,
)
from agent.wire.directory import Directory
from agent.wire.grammar import format_time
from agent.wire.keys import (
    CAP,
    NODE_PURPOSES,
    TYP,
    KeyChain,
    KeyStatement,
    chain,
    parse,
)

NEVER = frozenset({"fork", "key-revoked"})
"""Problems with which the exchange refuses a statement for good."""


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


@dataclass(frozen=True)
class Staged:
    """The folder of a change.

    Args:
        files: of the identity.
    """

    files: IdentityFiles

    @property
    def folder(self) -> Path:
        """It is there while a change is under way."""
        return self.files.folder / "next"

    @property
    def certificate(self) -> Path:
        """Certificate of the new ``tls`` key."""
        return self.folder / "tls.pem"

    @property
    def statement(self) -> Path:
        """Statement n+1."""
        return self.folder / "statement.jws"

    @property
    def shown(self) -> Path:
        """It is there once the directory shows the new keys."""
        return self.folder / "shown"

    def key(self, purpose: str) -> Path:
        """The new private key of a purpose."""
        return self.folder / f"{purpose}.key"

    @property
    def purposes(self) -> tuple[str, ...]:
        """Which keys are new."""
        return tuple(p for p in NODE_PURPOSES if self.key(p).exists())


def old_decrypt_keys(files: IdentityFiles) -> tuple[Path, ...]:
    """Private keys that still open what was sealed to them."""
    return tuple(sorted((files.folder / "old").glob("decrypt-*.key")))


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


def begin(files: IdentityFiles, purposes: Collection[str]) -> None:
    """Make new keys of these purposes; the folder is there whole or not at all.

    Raises:
        KeyElsewhere: a key of these is not in its file; nothing was made.
        Busy: another change is under way.
        SecretUnreadable: a key file or the passphrase cannot be read.
        SpoolWriteFailed: the disk refused.
    """
    refuse_outside(files, purposes)
    _stage(files, purposes)


def begin_renewal(files: IdentityFiles) -> None:
    """Begin the change of the certificate, with a new key if the old is in its file.

    Raises:
        Busy, SecretUnreadable, SpoolWriteFailed: see :func:`begin`.
    """
    _stage(files, ("tls",))


def _stage(files: IdentityFiles, purposes: Collection[str]) -> None:
    staged = Staged(files)
    if staged.folder.exists():
        under_way = ", ".join(staged.purposes) or "keys"
        raise Busy(f"a change of {under_way} is under way; it goes on by itself")
    draft = staged.folder.with_name("next.tmp")
    with writing(draft):
        shutil.rmtree(draft, ignore_errors=True)
        make_folder(draft)
        for purpose in purposes:
            path, used = draft / f"{purpose}.key", files.key(purpose)
            if used.exists() and keyfile.elsewhere(used):
                write_file(path, used.read_bytes(), mode=0o400)
            else:
                save_private(path, _made(purpose))
        draft.rename(staged.folder)
        _sync(files.folder)


def _made(purpose: str) -> PrivateKey | NoteKey:
    if purpose == "audit":
        return NoteKey.generate("audit")
    return PrivateKey.generate(purpose)


async def carry_on(
    files: IdentityFiles, *, way: Way, now: Callable[[], datetime]
) -> tuple[str, ...]:
    """Do what is still missing of the change that is under way; its purposes.

    There are none if no change is under way, or an end left nothing but its folder.

    Raises:
        PeerFault: the exchange does not answer, or refuses; call again later. Where it
            never will take it (:data:`NEVER`), the change is given up.
        SpoolWriteFailed: the disk refused.
    """
    staged = Staged(files)
    purposes = staged.purposes
    if not purposes and not staged.shown.exists():
        give_up(files)
        return ()
    if not staged.shown.exists():
        try:
            await _made_known(staged, way=way, now=now)
        except ExchangeRefused as e:
            if e.problem in NEVER:
                give_up(files)
            raise
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
    kept = taken_over(files, kept_statements(files), directory)
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
        if chain_end(text).n > len(known) or message_digest(text) in known:
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


def load_key(path: Path, purpose: str) -> PrivateKey | NoteKey:
    """A private key from its file.

    Raises:
        SecretUnreadable: missing, open to others, or damaged.
    """
    if purpose == "audit":
        return load_note_key(path, purpose=purpose)
    return load_private(path, purpose=purpose)


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
    statement = chain_end(text)
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


def chain_end(text: str) -> KeyStatement:
    """What a statement of our own says.

    Raises:
        MalformedMessage: it is none.
    """
    return parse(split(text, cap=CAP).payload)


def give_up(files: IdentityFiles) -> None:
    """Drop the change that is under way; its keys were never in use.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    folder = Staged(files).folder
    with writing(folder), suppress(FileNotFoundError):
        shutil.rmtree(folder)


def carry_through(files: IdentityFiles) -> bool:
    """Put the new keys into the place of the old ones; whether there were any.

    It is only done once the directory has shown them; doing it again, after an end in
    the middle, does the rest.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    staged = Staged(files)
    if not staged.shown.exists():
        return False
    with writing(staged.folder):
        _keep_decrypt(staged)
        for purpose in staged.purposes:
            if keyfile.elsewhere(staged.key(purpose)):
                staged.key(purpose).unlink()
            else:
                staged.key(purpose).replace(files.key(purpose))
        if staged.certificate.exists():
            staged.certificate.replace(files.tls_certificate)
        if staged.statement.exists():
            n = chain_end(staged.statement.read_text("ascii")).n
            staged.statement.replace(files.statement(n))
        _sync(files.folder)
        staged.shown.unlink()
        staged.folder.rmdir()
        _sync(files.folder)
    return True


def forget_old(files: IdentityFiles, over: Callable[[str], bool]) -> int:
    """Delete old ``decrypt`` keys to which nobody seals any more; how many.

    Args:
        files: of the identity.
        over: whether a key, by its kid, is revoked or was retired for long enough.

    Raises:
        SpoolWriteFailed: the disk refused.
    """
    kept = old_decrypt_keys(files)
    gone = [p for p in kept if over(p.stem.removeprefix("decrypt-"))]
    for path in gone:
        with writing(path):
            path.unlink()
    return len(gone)


def _keep_decrypt(staged: Staged) -> None:
    """Keep the old ``decrypt`` key under its kid, before the new one replaces it."""
    if not staged.key("decrypt").exists():
        return
    now = staged.files.key("decrypt")
    kid = load_private(now, purpose="decrypt").public.kid
    kept = staged.files.folder / "old" / f"decrypt-{kid}.key"
    make_folder(kept.parent)
    with suppress(FileExistsError):
        kept.hardlink_to(now)
    _sync(kept.parent)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
