# SPDX-License-Identifier: Apache-2.0
"""A consumer's folder: its keys, its certificate, and how it gets them (EST)."""

from __future__ import annotations

import base64
import binascii
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from agent.crypto.certificates import certificates_of_pkcs7
from agent.crypto.jose import PrivateKey, PublicKey, message_digest, split, verify
from agent.crypto.keys import csr, load_private, save_private
from agent.crypto.notekey import NoteKey
from agent.errors import ExchangeUntrusted, MalformedMessage, NotEnrolled
from agent.wire import directory, keys, strict
from agent.wire.directory import Directory
from agent.wire.grammar import EXCHANGE, format_time
from agent.wire.keys import KeyStatement
from agent.wire.members import Members


@dataclass(frozen=True)
class Target:
    """An exchange, and what was told about it on a safe way.

    Args:
        url: its base.
        aud: its id.
        ca_sha256: SHA-256 of its authority's certificate, hex.
        kid: of its receipt key, which signs the directory.
    """

    url: str
    aud: str
    ca_sha256: str
    kid: str

    @classmethod
    def of_file(cls, path: Path) -> Target:
        """What an exchange's ``sandbox.json`` says.

        Raises:
            MalformedMessage: it is no such file.
        """
        body = strict.loads(path.read_bytes())
        m = Members(body, path.name, "url aud ca_sha256 kid", open_ended=True)
        aud = m.match("aud", EXCHANGE)
        return cls(m.text("url"), aud, m.text("ca_sha256"), m.text("kid"))

    def verified(self, text: str) -> Directory:
        """The directory, if this exchange signed it.

        Raises:
            MalformedMessage: it is none.
            BadSignature: another key signed it.
        """
        message = split(text, cap=directory.CAP)
        found = directory.parse(message.payload)
        key = found.exchange_key(self.aud, self.kid, "receipt")
        verify(message, key, typ=directory.TYP)
        return found


@dataclass(frozen=True)
class Home:
    """The folder of one consumer, readable by its owner alone."""

    folder: Path

    @property
    def ca(self) -> Path:
        """The exchange's authority in PEM."""
        return self.folder / "ca.pem"

    @property
    def certificate(self) -> Path:
        """Our certificate in PEM."""
        return self.folder / "tls.pem"

    @property
    def statement(self) -> Path:
        """Our key statement 1."""
        return self.folder / "keys.jws"

    def key(self, purpose: str) -> PrivateKey:
        """Our key of a purpose: ``tls``, ``sign`` or ``decrypt``.

        Raises:
            NotEnrolled: there is none yet.
        """
        path = self._key_path(purpose)
        if not path.exists():
            raise NotEnrolled(f"{path}: expected a key; run enrol first")
        return load_private(path, purpose=purpose)

    def node(self) -> str:
        """Who we are.

        Raises:
            NotEnrolled: nobody yet.
        """
        if not self.certificate.exists():
            raise NotEnrolled(f"{self.certificate}: run enrol first")
        message = split(self.statement.read_text("ascii"), cap=keys.CAP)
        return keys.parse(message.payload).node

    def tls(self) -> ssl.SSLContext:
        """For connections to the exchange, with our certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.certificate, self._key_path("tls"))
        return context

    # --- enrolment ----------------------------------------------------------------

    def make_keys(self, node: str, *, now: datetime) -> str:
        """Keys and statement 1, made once; the statement."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for purpose in ("tls", "sign", "decrypt"):
            if not (path := self._key_path(purpose)).exists():
                save_private(path, PrivateKey.generate(purpose))
        if not self.statement.exists():
            own = [self.key(p).public for p in ("tls", "sign", "decrypt")]
            statement = KeyStatement(
                node=node,
                n=1,
                keys=(*own, self._audit_key()),
                not_before=format_time(now.replace(microsecond=0)),
            )
            text = self.key("sign").sign(keys.TYP, statement.payload())
            self.statement.write_text(text, "ascii")
        return self.statement.read_text("ascii")

    def pin(self, body: bytes, *, ca_sha256: str) -> None:
        """Keep the authority of an EST ``cacerts`` answer.

        Raises:
            ExchangeUntrusted: it is another than we were told.
        """
        for found in certificates_of_pkcs7(_der(body)):
            if found.sha256 == ca_sha256:
                self.ca.write_bytes(found.pem)
                return
        raise ExchangeUntrusted(f"CA: expected {ca_sha256}")

    def request(self, node: str) -> bytes:
        """What EST is asked to certify, base64 PKCS#10."""
        digest = message_digest(self.statement.read_text("ascii"))
        der = csr(self.key("tls"), node=node, statement_digest=digest, cn=node)
        return base64.encodebytes(der)

    def take_certificate(self, body: bytes) -> None:
        """Keep the certificate of an EST answer.

        Raises:
            MalformedMessage: it holds none.
        """
        pems = b"".join(c.pem for c in certificates_of_pkcs7(_der(body)))
        if not pems:
            raise MalformedMessage("EST: expected a certificate")
        self.certificate.write_bytes(pems)

    def _audit_key(self) -> PublicKey:
        path = self._key_path("audit")
        key = NoteKey.generate("audit")
        path.unlink(missing_ok=True)  # half an enrolment; nothing was signed with it
        save_private(path, key)
        return key.public

    def _key_path(self, purpose: str) -> Path:
        return self.folder / f"{purpose}.key"


def _der(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as e:
        raise MalformedMessage("EST: expected base64") from e
