# SPDX-License-Identifier: Apache-2.0
"""Breaks a connection at once, as a network does."""

from __future__ import annotations

from contextlib import suppress

from aiohttp import web


def cut(request: web.BaseRequest) -> None:
    """Break a request's connection: nothing more is sent, not even TLS' goodbye."""
    if request.transport is not None:
        with suppress(AttributeError):  # Python 3.11.2, if it was closed twice
            request.transport.abort()
