# SPDX-License-Identifier: Apache-2.0
"""Exceptions of aiohttp and ssl in our words: the line, or somebody's certificate."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp

from agent.errors import (
    ExchangeUnreachable,
    ExchangeUntrusted,
    ProxyRefused,
    SpoolDamaged,
)

_VERIFY = {
    9: "not valid yet; check this machine's clock",
    10: "expired; check this machine's clock",
    18: "signed by itself, not by the pinned CA",
    19: "signed by another CA than the pinned one",
    20: "signed by another CA than the pinned one",
    21: "signed by another CA than the pinned one",
    62: "made out for another name",
    64: "made out for another address",
}
"""OpenSSL's verify codes (x509_vfy.h) in words."""


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn exceptions of aiohttp and ssl into ours.

    Args:
        what: the request, for the detail.

    Raises:
        ExchangeUntrusted: certificates or the handshake.
        ProxyRefused: the proxy wants a login, or does not let us through.
        ExchangeUnreachable: anything else of the line.
    """
    try:
        yield
    except aiohttp.ClientHttpProxyError as e:  # it holds our login: not passed on
        raise ProxyRefused(f"{what}: the proxy answered {e.status}") from None
    except (aiohttp.ClientError, OSError) as e:  # OSError has ssl's and TimeoutError
        for cause in _causes(e):
            if isinstance(cause, SpoolDamaged):
                raise cause from None
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, _NOT_TLS):
                # TLS 1.3 tells what it thinks of our certificate in place of an answer
                raise ExchangeUntrusted(f"{what}: {_handshake(cause)}") from e
        raise ExchangeUnreachable(f"{what}: {_line(e)}") from e


def _line(error: Exception) -> str:
    """What is wrong with the line."""
    match error:
        case aiohttp.ClientProxyConnectionError(os_error=reason):
            return f"the proxy: {reason.strerror or type(reason).__name__}"
        case aiohttp.ClientConnectorDNSError(host=host):
            return f"no address for {host}"
        case aiohttp.ClientConnectorError(host=host, port=port, os_error=reason):
            return f"{host}:{port}: {reason.strerror or type(reason).__name__}"
        case aiohttp.ConnectionTimeoutError():
            return "no connection within the timeout"
        case TimeoutError():
            return "no answer within the timeout"
        case _:
            return f"cut ({type(error).__name__})"


_NOT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, aiohttp.ClientError)
"""Ends of the line, and aiohttp's own wrappers, which lose the reason."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what it came from, the last first."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _handshake(error: ssl.SSLError) -> str:
    """What is wrong with the certificates or the handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _VERIFY.get(error.verify_code, error.verify_message)
        return f"the exchange's certificate is {words}"
    reason = (error.reason or "unknown").lower().replace("_", " ")
    if "alert" in reason and "certificate" in reason:
        return f"the exchange refused our certificate ({reason})"
    return f"TLS failed ({reason})"
