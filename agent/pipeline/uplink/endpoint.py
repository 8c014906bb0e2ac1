# SPDX-License-Identifier: Apache-2.0
"""Where the exchange is, who we are, and the TLS that follows from it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from agent.errors import ConfigInvalid


@dataclass(frozen=True)
class Endpoint:
    """Where the exchange is and who we are.

    Args:
        url: base, ``https://host[:port]``.
        ca_file: the pinned CA certificate, PEM.
        cert_file: our certificate, PEM, or None before enrolment.
        key_file: its private key, PEM, or None before enrolment.
        connect_timeout_s: for a connection with its handshake.
        read_timeout_s: for an answer, once the request is out.
        batches: path of the tus receiver.
        unsafe_plain_http: take ``http://`` too; for tests with foreign servers.
    """

    url: str
    ca_file: Path | None
    cert_file: Path | None = None
    key_file: Path | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    batches: str = "/v1/batches"
    unsafe_plain_http: bool = False


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """TLS 1.2 or later, the pinned CA alone, our certificate if there is one.

    Raises:
        ConfigInvalid: the URL is not https, or a file cannot be used.
    """
    scheme = URL(endpoint.url).scheme
    if scheme == "http" and endpoint.unsafe_plain_http:
        return True
    if scheme != "https" or endpoint.ca_file is None:
        raise ConfigInvalid(f"exchange.url: expected https://..., got {endpoint.url}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=endpoint.ca_file)
    except OSError as e:
        raise ConfigInvalid(f"{endpoint.ca_file}: not a CA certificate: {e}") from e
    if endpoint.cert_file is not None:
        try:
            context.load_cert_chain(endpoint.cert_file, endpoint.key_file)
        except OSError as e:
            raise ConfigInvalid(
                f"{endpoint.cert_file}, {endpoint.key_file}: not a certificate and its"
                f" key: {e}"
            ) from e
    return context
