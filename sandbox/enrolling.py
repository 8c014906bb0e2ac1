# SPDX-License-Identifier: Apache-2.0
"""The two routes of EST that need no client certificate: cacerts and simpleenroll."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from agent.wire.problem import Problem
from sandbox import est
from sandbox.accept import Refused
from sandbox.enrolment import Answer, Enrolment, Pending, Throttled
from sandbox.faults import Faults
from sandbox.http import EST, est_response, read_body, refusal


@dataclass(frozen=True)
class Enrolling:
    """Handlers of the routes.

    Args:
        enrolment: judges; runs in the writer's thread through ``write``.
        write: runs a function in the writer's thread.
        faults: the switches.
    """

    enrolment: Enrolment
    write: Callable[[Callable[[], Any]], Awaitable[Any]]
    faults: Faults

    def routes(self) -> list[web.RouteDef]:
        """Where the handlers belong."""
        return [
            web.get(f"{EST}/cacerts", self.cacerts),
            web.post(f"{EST}/simpleenroll", self.simpleenroll),
        ]

    async def cacerts(self, _: web.Request) -> web.Response:
        """The authority's certificate."""
        ca = self.enrolment.authority.certificate
        der = pkcs7.serialize_certificates([ca], Encoding.DER)
        return est_response(base64.encodebytes(der), est.CACERTS_TYPE)

    async def simpleenroll(self, request: web.Request) -> web.Response:
        """A first certificate, or 202 until a person has approved."""
        csr = est.Csr(await read_body(request, est.CAP))
        fault = self.faults.strike("pending", f"POST {request.path}")
        if fault is not None:
            return _later(fault.retry_after)
        login = request.headers.get("Authorization")
        address = request.remote or ""
        try:
            found: Answer = await self.write(
                lambda: self.enrolment.ask(csr, login, address)
            )
        except Refused as e:
            return _refused(e)
        if isinstance(found, Pending):
            return _later(self.enrolment.desk.options.approval_retry_s)
        if isinstance(found, Throttled):
            return _throttled(found.seconds)
        certificate = x509.load_der_x509_certificate(found.der)
        return est_response(est.certs_only(certificate), est.MEDIA_TYPE)


def _later(seconds: int) -> web.Response:
    return web.Response(status=202, headers={"Retry-After": str(seconds)})


def _refused(e: Refused) -> web.Response:
    response = refusal(e.problem)
    if response.status == 401:
        response.headers["WWW-Authenticate"] = 'Basic realm="fep enrolment"'
    return response


def _throttled(seconds: int) -> web.Response:
    """429: not judged at all, so that guessing is slow."""
    said = "a wrong code came from this address; try again later"
    response = refusal(Problem("busy", 429, said))
    response.headers["Retry-After"] = str(seconds)
    return response
