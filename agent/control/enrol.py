# SPDX-License-Identifier: Apache-2.0
"""Become known to the exchange: EST (RFC 7030) over a pinned CA.

Rules

1. The one thing fetched without trust is ``cacerts``. A certificate in it counts only
   if its SHA-256 equals ``exchange.ca_sha256`` from the slip; everything after it is
   verified with that certificate alone, never with the system's trust store.
2. Keys are made here and never leave; files are 0400. Certificate and key statement
   name each other: the CSR carries the digest of statement 1, and a certificate that
   does not keep it is refused. A machine enrolled when an agent had fewer keys gets the
   others by a further statement.
3. Each step leaves a file and is skipped when the file is there and fits, so that an
   interrupted enrolment is simply run again. Keys of a backup learn of the statements
   that were made since.
4. A clock that is off is said first: with it every certificate looks wrong. The time
   that an unverified stranger says only ever ends the enrolment.
5. The one-time code goes to the pinned exchange alone, with the request that it is for.
6. While a person has not approved, an exchange that is away for a time ends nothing.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import aiohttp

from agent.control.directory import TrustedDirectory
from agent.control.identity import (
    IdentityFiles,
    check_pin,
    make_folder,
    write_file,
    writing,
)
from agent.control.statements import taken_over
from agent.crypto.certificates import Certificate, certificates_of_pkcs7
from agent.crypto.jose import PrivateKey, PublicKey, message_digest
from agent.crypto.keys import (
    certificate_node,
    csr,
    load_note_key,
    load_private,
    save_private,
    tls_files,
)
from agent.crypto.notekey import NoteKey
from agent.errors import (
    ClockSkewed,
    CodeRefused,
    EnrolRefused,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    FepError,
    MalformedMessage,
    NotEnrolled,
    ProxyRefused,
    UsageFault,
)
from agent.model.proxy import Proxy
from agent.wire import problem
from agent.wire.enrolment import Code
from agent.wire.grammar import format_time
from agent.wire.keys import KeyChain, KeyStatement, chain

ANSWER_CAP = 8 * 1024 * 1024
"""Most bytes of an answer; a directory is the largest."""
PENDING_MIN_S = 5.0
PENDING_MAX_S = 3600.0


@dataclass(frozen=True)
class Target:
    """Which exchange, and as whom.

    Args:
        node: ``<USCC>/<name>``.
        url: base of the exchange, ``https://host:port``.
        aud: id of the exchange.
        ca_sha256: lower hex of the CA certificate's DER; from the slip.
        kid: of the exchange's receipt key; from the slip.
        clock_tolerance_s: most seconds that the two clocks may differ.
        connect_timeout_s: seconds.
        read_timeout_s: seconds without a byte.
        proxy: on the way, or None.
    """

    node: str
    url: str
    aud: str
    ca_sha256: str
    kid: str
    clock_tolerance_s: float
    connect_timeout_s: float
    read_timeout_s: float
    proxy: Proxy | None = None


@dataclass(frozen=True)
class Enrolment:
    """What is in place now.

    Args:
        node: as certified.
        kid: of the signing key.
        statement: message digest of key statement 1, which people compare.
        not_after: end of the certificate.
    """

    node: str
    kid: str
    statement: str
    not_after: datetime


@dataclass(frozen=True)
class Keys:
    """The keys that enrolment itself needs, and the node's statements, 1 first."""

    tls: PrivateKey
    sign: PrivateKey
    statements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Message digest of statement 1."""
        return message_digest(self.statements[0])


Report = Callable[[str], None]
"""Told the name of each step: ``ca``, ``keys``, ``certificate``, ``pending`` (a person
has not approved), ``away`` (the exchange does not answer now), ``statement``,
``directory``."""


async def enrol(
    target: Target,
    files: IdentityFiles,
    *,
    now: Callable[[], datetime],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    report: Report = lambda _step: None,
    code: Code | None = None,
) -> Enrolment:
    """Do what is still missing, in order.

    Args:
        target: which exchange, and as whom.
        files: where everything is kept.
        now: this machine's clock.
        sleep: waits so many seconds.
        report: told each step.
        code: of the slip; without it an exchange that wants one refuses.

    Raises:
        ExchangeUntrusted: another CA, or a certificate that it did not issue.
        ClockSkewed: the exchange's clock differs by more than allowed.
        CodeRefused: the exchange wants a code, or another one.
        EnrolRefused: it does not let this machine in as this node.
        ExchangeUnreachable, ExchangeRefused: as they say.
        SpoolWriteFailed: the state folder cannot be written.
    """
    report("ca")
    await _pin_ca(target, files, now=now)
    report("keys")
    keys = make_keys(target, files, now=now)
    report("certificate")
    asking = _Asking(code, sleep, report)
    certificate = await _certify(target, files, keys, now=now, asking=asking)
    report("statement")
    tls = _trusting(files.ca)
    tls.load_cert_chain(*tls_files(files.tls_certificate, files.tls_key))
    async with _session(target, tls) as http:
        for statement in keys.statements:
            await http.post("/v1/keys", statement.encode(), kind="application/jose")
        report("directory")
        text = await http.get("/v1/directory")
    directory = TrustedDirectory(
        files.directory,
        aud=target.aud,
        kid=target.kid,
        now=lambda: now().timestamp(),
    )
    directory.load()  # going back is refused here too
    taken_over(files, chain(keys.statements), directory.take(text))
    return Enrolment(
        node=target.node,
        kid=keys.sign.public.kid,
        statement=keys.digest,
        not_after=certificate.not_after,
    )


async def _pin_ca(
    target: Target, files: IdentityFiles, *, now: Callable[[], datetime]
) -> None:
    """Have the pinned CA in ``ca.pem``, having looked at the exchange's clock."""
    distrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    distrusting.check_hostname = False
    distrusting.verify_mode = ssl.CERT_NONE  # rule 1
    async with _session(target, distrusting) as http:
        body = await http.get("/.well-known/est/cacerts")
        _check_clock(http.date, target, now=now)
    with contextlib.suppress(NotEnrolled):
        check_pin(files, ca_sha256=target.ca_sha256)
        return
    offered = certificates_of_pkcs7(_from_base64(body))
    for certificate in offered:
        if certificate.sha256 == target.ca_sha256:
            write_file(files.ca, certificate.pem, mode=0o644)
            return
    got = ", ".join(c.sha256 for c in offered) or "none"
    raise ExchangeUntrusted(
        f"CA: expected exchange.ca_sha256 {target.ca_sha256}, got {got}"
    )


def _check_clock(
    date: datetime | None, target: Target, *, now: Callable[[], datetime]
) -> None:
    if date is None:
        return
    ours = now()
    if abs((ours - date).total_seconds()) > target.clock_tolerance_s:
        raise ClockSkewed(
            f"exchange: {format_time(date)}, this machine: {format_time(ours)},"
            f" allowed: {target.clock_tolerance_s:g} s"
        )


def make_keys(
    target: Target, files: IdentityFiles, *, now: Callable[[], datetime]
) -> Keys:
    """The keys and their statements; those that exist are kept.

    Raises:
        UsageFault: keys are being destroyed here.
    """
    if files.wiping.exists():
        raise UsageFault(
            f"{files.folder}: expected no keys, got those that are being destroyed;"
            " `fep leave` does the rest"
        )
    tls, sign, decrypt = (_key(files, p) for p in ("tls", "sign", "decrypt"))
    audit = _audit_key(files)
    live = (tls.public, sign.public, decrypt.public, audit.public)
    statements = _kept_statements(files)
    if _lacks(statements, live):
        n = len(statements) + 1
        moment = format_time(now().replace(microsecond=0))
        statement = KeyStatement(target.node, n, live, not_before=moment)
        text = sign.sign("fep-keys+jws", statement.payload())
        write_file(files.statement(n), text.encode())
        statements = (*statements, text)
    return Keys(tls, sign, statements)


def _kept_statements(files: IdentityFiles) -> tuple[str, ...]:
    texts: list[str] = []
    while (path := files.statement(len(texts) + 1)).exists():
        texts.append(path.read_text("ascii"))
    return tuple(texts)


def _lacks(statements: tuple[str, ...], live: tuple[PublicKey, ...]) -> bool:
    """Whether a further statement is due: ours are all in it, but not all of ours.

    A statement with keys that this machine does not have is somebody's restored or
    copied folder; enrolment then fails at the certificate, and nothing is stated.
    """
    if not statements:
        return True
    said: KeyChain = chain(statements)
    return {key.kid for key in said.live} < {key.kid for key in live}


def _key(files: IdentityFiles, purpose: str) -> PrivateKey:
    path = files.key(purpose)
    if not path.exists():
        _save(path, PrivateKey.generate(purpose))
    return load_private(path, purpose=purpose, tokens=files.tokens)


def _audit_key(files: IdentityFiles) -> NoteKey:
    if not files.audit_key.exists():
        _save(files.audit_key, NoteKey.generate("audit"))
    return load_note_key(files.audit_key, purpose="audit", tokens=files.tokens)


def _save(path: Path, key: PrivateKey | NoteKey) -> None:
    with writing(path):
        make_folder(path.parent)
        save_private(path, key)


@dataclass(frozen=True)
class _Asking:
    """How a request for a certificate is repeated until it is answered."""

    code: Code | None
    sleep: Callable[[float], Awaitable[None]]
    report: Report

    async def certificate(self, http: _Http, body: bytes) -> bytes:
        """Ask until somebody at the centre has approved."""
        waited = False
        while True:
            try:
                answer = await self._once(http, body)
                if http.status != 202:
                    return answer
                self.report("pending")
                pause = http.retry_after_s
            except (ExchangeUnreachable, ExchangeRefused) as e:
                pause = _pause(e, waited=waited)
                self.report("away")
            waited = True
            await self.sleep(min(max(pause, PENDING_MIN_S), PENDING_MAX_S))

    async def _once(self, http: _Http, body: bytes) -> bytes:
        try:
            return await http.post(
                "/.well-known/est/simpleenroll",
                body,
                kind="application/pkcs10",
                login=None if self.code is None else self.code.login(),
            )
        except ExchangeRefused as e:
            if e.problem == "unauthenticated":
                raise CodeRefused(e.detail) from e
            if e.problem == "forbidden":
                raise EnrolRefused(e.detail) from e
            raise


def _pause(fault: ExchangeUnreachable | ExchangeRefused, *, waited: bool) -> float:
    """Seconds until the next try; raises the fault when there shall be none."""
    if isinstance(fault, ExchangeRefused):
        if fault.problem != "busy" or fault.retry_after is None:
            raise fault
        return fault.retry_after
    if not waited:  # nobody approves what never arrived
        raise fault
    return PENDING_MIN_S


async def _certify(
    target: Target,
    files: IdentityFiles,
    keys: Keys,
    *,
    now: Callable[[], datetime],
    asking: _Asking,
) -> Certificate:
    """Have a certificate that fits the keys and is valid now."""
    ca = Certificate.from_pem(files.ca.read_bytes())
    if files.tls_certificate.exists():
        held = Certificate.from_pem(files.tls_certificate.read_bytes())
        if held.not_after > now():
            check_fits(held, target, keys, ca=ca)
            return held
    async with _session(target, _trusting(files.ca)) as http:
        body = await asking.certificate(http, base64.encodebytes(request(target, keys)))
    for certificate in certificates_of_pkcs7(_from_base64(body)):
        if certificate.sha256 != ca.sha256:
            check_fits(certificate, target, keys, ca=ca)
            write_file(files.tls_certificate, certificate.pem, mode=0o644)
            return certificate
    raise MalformedMessage("simpleenroll: expected a certificate, got none")


def request(target: Target, keys: Keys) -> bytes:
    """The certificate request of these keys, DER."""
    return csr(keys.tls, node=target.node, statement_digest=keys.digest, cn=target.node)


def check_fits(
    certificate: Certificate, target: Target, keys: Keys, *, ca: Certificate
) -> None:
    """Refuse a certificate that is not ours, from the pinned CA, for our keys.

    Raises:
        ExchangeUntrusted: it says what was expected.
    """
    if not certificate.issued_by(ca):
        raise ExchangeUntrusted("certificate: expected one that the pinned CA issued")
    said = certificate_node(certificate.pem)
    if said.node != target.node:
        raise ExchangeUntrusted(
            f"certificate: expected node {target.node}, got {said.node}"
        )
    if certificate.kid != keys.tls.public.kid:
        raise ExchangeUntrusted("certificate: expected one for tls.key, got another")
    if said.statement != keys.digest:
        raise ExchangeUntrusted(
            f"certificate: expected one fep:keys/ URI with {keys.digest},"
            f" got {said.statement or 'none or several'}"
        )


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as e:
        raise MalformedMessage("EST: expected base64 of PKCS#7") from e


def _trusting(ca: Path) -> ssl.SSLContext:
    """TLS that trusts the pinned CA and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_verify_locations(ca)
    return context


class _Http:
    """Requests to one exchange; what cannot be used becomes an error of the tree."""

    def __init__(self, session: aiohttp.ClientSession, target: Target) -> None:
        self._session = session
        self._url = target.url.rstrip("/")
        self._proxy: dict[str, Any] = {}
        if target.proxy is not None:
            self._proxy = {
                "proxy": target.proxy.url,
                "proxy_headers": target.proxy.headers(),
            }
        self.status = 0
        self.date: datetime | None = None
        self.retry_after_s = 0.0

    async def get(self, path: str) -> bytes:
        """The body of a GET that succeeded."""
        return await self._ask("GET", path, None, {})

    async def post(
        self, path: str, body: bytes, *, kind: str, login: str | None = None
    ) -> bytes:
        """The body of a POST that succeeded.

        Args:
            path: of the route.
            body: to send.
            kind: the Content-Type.
            login: the Authorization header, or None.
        """
        headers = {"Content-Type": kind}
        if login is not None:
            headers["Authorization"] = login
        if kind == "application/pkcs10":
            headers["Content-Transfer-Encoding"] = "base64"
        return await self._ask("POST", path, body, headers)

    async def _ask(
        self, method: str, path: str, body: bytes | None, headers: dict[str, str]
    ) -> bytes:
        try:
            async with self._session.request(
                method,
                self._url + path,
                data=body,
                headers=headers,
                allow_redirects=False,
                **self._proxy,
            ) as answer:
                text = await answer.content.read(ANSWER_CAP + 1)
                while not answer.content.at_eof() and len(text) <= ANSWER_CAP:
                    text += await answer.content.read(ANSWER_CAP)
                self._note(answer)
        except aiohttp.ClientHttpProxyError as e:  # it holds our login: not passed on
            said = f"{self._url}: the proxy answered {e.status}"
            raise ProxyRefused(said) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as e:
            raise _translated(e, self._url) from e
        if len(text) > ANSWER_CAP:
            raise MalformedMessage(f"{path}: expected at most {ANSWER_CAP} bytes")
        if self.status not in (200, 201, 202, 204):
            raise self._refusal(text, path)
        return text

    def _refusal(self, text: bytes, path: str) -> FepError:
        wait = self.retry_after_s or None
        try:
            said = problem.parse(text, status=self.status)
        except MalformedMessage:
            code = f"http-{self.status}"
            return ExchangeRefused(path, problem=code, retry_after=wait)
        return ExchangeRefused(
            said.detail,
            problem=said.code,
            retry_after=wait,
            members=dict(said.members),
        )

    def _note(self, answer: aiohttp.ClientResponse) -> None:
        self.status = answer.status
        self.date = _date(answer.headers.get("Date", ""))
        wait = answer.headers.get("Retry-After", "")
        self.retry_after_s = float(wait) if wait.isdecimal() else 0.0


def _date(text: str) -> datetime | None:
    """An instant; None for nonsense and for a time without its zone."""
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, OverflowError):  # huge numbers in it overflow
        return None
    return found if found.tzinfo is not None else None


@asynccontextmanager
async def _session(target: Target, tls: ssl.SSLContext) -> AsyncIterator[_Http]:
    timeout = aiohttp.ClientTimeout(
        total=None,
        sock_connect=target.connect_timeout_s,
        sock_read=target.read_timeout_s,
    )
    connector = aiohttp.TCPConnector(ssl=tls)
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,  # a few bytes of a stranger could become gigabytes
    ) as session:
        yield _Http(session, target)


def _translated(fault: Exception, url: str) -> FepError:
    """The error of the tree for a fault of TLS or of the line."""
    if isinstance(fault, aiohttp.ClientConnectorCertificateError):
        return ExchangeUntrusted(
            f"{url}: {_certificate_fault(fault.certificate_error)}"
        )
    if isinstance(fault, aiohttp.ClientSSLError):
        return ExchangeUntrusted(f"{url}: TLS failed: {type(fault.os_error).__name__}")
    text = getattr(fault, "strerror", None) or str(fault) or type(fault).__name__
    return ExchangeUnreachable(f"{url}: {text}")


def _certificate_fault(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return f"certificate: {type(error).__name__}"
