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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from agent.control.directory import TrustedDirectory
from agent.control.enrol_keys import Keys, check_fits, make_keys, request
from agent.control.enrol_line import Line, Target, session, trusting
from agent.control.identity import IdentityFiles, check_pin, write_file
from agent.control.statements import taken_over
from agent.crypto.certificates import Certificate, certificates_of_pkcs7
from agent.crypto.keys import tls_files
from agent.errors import (
    ClockSkewed,
    CodeRefused,
    EnrolRefused,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    NotEnrolled,
)
from agent.wire.enrolment import Code
from agent.wire.grammar import format_time
from agent.wire.keys import chain

PENDING_MIN_S = 5.0
PENDING_MAX_S = 3600.0


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
    tls = trusting(files.ca)
    tls.load_cert_chain(*tls_files(files.tls_certificate, files.tls_key))
    async with session(target, tls) as http:
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
    async with session(target, distrusting) as http:
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


@dataclass(frozen=True)
class _Asking:
    """How a request for a certificate is repeated until it is answered."""

    code: Code | None
    sleep: Callable[[float], Awaitable[None]]
    report: Report

    async def certificate(self, http: Line, body: bytes) -> bytes:
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

    async def _once(self, http: Line, body: bytes) -> bytes:
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
    async with session(target, trusting(files.ca)) as http:
        body = await asking.certificate(http, base64.encodebytes(request(target, keys)))
    for certificate in certificates_of_pkcs7(_from_base64(body)):
        if certificate.sha256 != ca.sha256:
            check_fits(certificate, target, keys, ca=ca)
            write_file(files.tls_certificate, certificate.pem, mode=0o644)
            return certificate
    raise MalformedMessage("simpleenroll: expected a certificate, got none")


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as e:
        raise MalformedMessage("EST: expected base64 of PKCS#7") from e
