# SPDX-License-Identifier: Apache-2.0
"""Enrolment of a machine without a line: a file out, a file in (wire.md §6).

The reply is carried by hand, so everything in it is held against the pins of the slip
and against our own keys before anything is written.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from agent.control.directory import TrustedDirectory, check_directory
from agent.control.enrol import Enrolment
from agent.control.enrol_keys import Keys, check_fits, make_keys, request
from agent.control.enrol_line import Target
from agent.control.identity import IdentityFiles, write_file
from agent.crypto.certificates import Certificate
from agent.crypto.keys import pem_of_csr
from agent.errors import ClockSkewed, ExchangeUntrusted, MalformedMessage, NotEnrolled
from agent.wire import enrolment_file
from agent.wire.directory import Directory
from agent.wire.enrolment import Code
from agent.wire.enrolment_file import Reply, Request
from agent.wire.grammar import format_time


def export(
    target: Target,
    files: IdentityFiles,
    *,
    now: Callable[[], datetime],
    code: Code | None = None,
) -> bytes:
    """The request file of this machine; its keys are made if there are none.

    Raises:
        SpoolWriteFailed: the state folder cannot be written.
    """
    keys = make_keys(target, files, now=now)
    return Request(
        node=target.node,
        aud=target.aud,
        csr=pem_of_csr(request(target, keys)).decode(),
        statements=keys.statements,
        code=None if code is None else code.text,
    ).payload()


def take(
    data: bytes, target: Target, files: IdentityFiles, *, now: Callable[[], datetime]
) -> Enrolment:
    """Install a reply file.

    Raises:
        MalformedMessage: it is none, or for another node or exchange.
        ExchangeUntrusted: another CA, or a certificate that is not for our keys.
        BadSignature: another key than the slip's signed the directory.
        ClockSkewed: the certificate does not hold now.
        NotEnrolled: this machine has exported no request.
        SpoolWriteFailed: the state folder cannot be written.
    """
    if not files.statement(1).exists():
        raise NotEnrolled(f"expected {files.statement(1)}; export a request first")
    reply = _ours(enrolment_file.parse_reply(data), target)
    ca = Certificate.from_pem(reply.ca.encode())
    if ca.sha256 != target.ca_sha256:
        raise ExchangeUntrusted(
            f"CA: expected exchange.ca_sha256 {target.ca_sha256}, got {ca.sha256}"
        )
    certificate = Certificate.from_pem(reply.certificate.encode())
    keys = make_keys(target, files, now=now)
    check_fits(certificate, target, keys, ca=ca)
    _check_clock(certificate, target, now())
    listed = _listed(reply, target, keys)
    write_file(files.ca, ca.pem, mode=0o644)
    write_file(files.tls_certificate, certificate.pem, mode=0o644)
    directory = TrustedDirectory(
        files.directory,
        aud=target.aud,
        kid=target.kid,
        now=lambda: now().timestamp(),
    )
    if not directory.load() or directory.current.iat < listed.iat:
        directory.take(reply.directory)
    return Enrolment(
        node=target.node,
        kid=keys.sign.public.kid,
        statement=keys.digest,
        not_after=certificate.not_after,
    )


def _ours(reply: Reply, target: Target) -> Reply:
    if (reply.node, reply.aud) != (target.node, target.aud):
        raise MalformedMessage(
            f"reply: expected one for {target.node} from {target.aud},"
            f" got {reply.node} from {reply.aud}"
        )
    return reply


def _check_clock(certificate: Certificate, target: Target, now: datetime) -> None:
    """There is no other clock here than the certificate's."""
    slack = timedelta(seconds=target.clock_tolerance_s)
    if not certificate.not_before - slack <= now <= certificate.not_after + slack:
        raise ClockSkewed(
            f"certificate: {format_time(certificate.not_before)} to"
            f" {format_time(certificate.not_after)}, this machine: {format_time(now)}"
        )


def _listed(reply: Reply, target: Target, keys: Keys) -> Directory:
    """The signed directory, which has this node with these keys."""
    found = check_directory(reply.directory, aud=target.aud, kid=target.kid)
    listed = found.node_keys(target.node).digest
    if listed != keys.digest:
        raise ExchangeUntrusted(
            f"directory: expected {target.node} with {keys.digest}, got {listed}"
        )
    return found
