# SPDX-License-Identifier: Apache-2.0
"""Where the exchange is, who we are, and the TLS that follows from it."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from agent.crypto.keys import tls_files
from agent.errors import ConfigInvalid
from agent.model.proxy import Proxy


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
        more_urls: other addresses of the same exchange, used in turn.
        retry_base_s: so long an address that fails is left alone at first.
        proxy: the proxy of now, None for none. May raise SecretUnreadable.
        unsafe_plain_http: take ``http://`` too; for tests with foreign servers.
    """

    url: str
    ca_file: Path | None
    cert_file: Path | None = None
    key_file: Path | None = None
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    batches: str = "/v1/batches"
    more_urls: tuple[str, ...] = ()
    retry_base_s: float = 5.0
    proxy: Callable[[], Proxy | None] = lambda: None
    unsafe_plain_http: bool = False


def tls_context(endpoint: Endpoint) -> ssl.SSLContext | bool:
    """TLS 1.2 or later, the pinned CA alone, our certificate if there is one.

    Raises:
        ConfigInvalid: the URL is not https, or a file cannot be used.
    """
    urls = (endpoint.url, *endpoint.more_urls)
    schemes = {URL(url).scheme for url in urls}
    if schemes == {"http"} and endpoint.unsafe_plain_http:
        return True
    if schemes != {"https"} or endpoint.ca_file is None:
        got = ", ".join(urls)
        raise ConfigInvalid(f"exchange.url: expected https://..., got {got}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cafile=endpoint.ca_file)
    except OSError as e:
        raise ConfigInvalid(f"{endpoint.ca_file}: not a CA certificate: {e}") from e
    if endpoint.cert_file is not None:
        try:
            load_ours(context, endpoint.cert_file, endpoint.key_file)
        except OSError as e:
            raise ConfigInvalid(
                f"{endpoint.cert_file}, {endpoint.key_file}: not a certificate and its"
                f" key: {e}"
            ) from e
    return context


def load_ours(context: ssl.SSLContext, certificate: Path, key: Path | None) -> None:
    """Show a certificate of ours; its key may be sealed, or a credential.

    Raises:
        OSError: a file cannot be used.
        SecretUnreadable: the key's file cannot be read, or not unsealed.
    """
    if key is None:
        context.load_cert_chain(certificate)
    else:
        context.load_cert_chain(*tls_files(certificate, key))
