# SPDX-License-Identifier: Apache-2.0
"""Ask the daemon; standard library only, so that a command starts at once."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from agent.errors import (
    DaemonAbsent,
    ExchangeRefused,
    FepError,
    InternalFault,
    SocketDenied,
    all_errors,
)

ANSWER_CAP = 64 * 1024 * 1024
"""Most bytes of an answer that a client reads."""


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: Path, *, timeout_s: float) -> None:
        super().__init__("fep", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Open the socket."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self.timeout)
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        self.sock = sock


class LocalClient:
    """The daemon's local interface, as ``docs/cli-json.md`` describes it.

    Args:
        path: of the socket.
        timeout_s: longest wait for an answer, seconds.
    """

    def __init__(self, path: Path, *, timeout_s: float = 30.0) -> None:
        self._path = path
        self._timeout_s = timeout_s

    def get(self, path: str, query: Mapping[str, object] | None = None) -> Any:
        """The JSON answer to a GET.

        Raises:
            DaemonAbsent: nobody listens.
            SocketDenied: this user may not use the socket.
            FepError: what the daemon answered.
        """
        given = {k: str(v) for k, v in (query or {}).items() if v is not None}
        return self._ask("GET", f"{path}?{urlencode(given)}" if given else path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        """The JSON answer to a POST of a JSON object; raises as :meth:`get`."""
        return self._ask("POST", path, json.dumps(body).encode())

    def _ask(self, method: str, target: str, body: bytes | None) -> Any:
        connection = _UnixConnection(self._path, timeout_s=self._timeout_s)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            connection.request(method, target, body=body, headers=headers)
            answer = connection.getresponse()
            text = answer.read(ANSWER_CAP)
        except PermissionError as e:
            raise SocketDenied(str(self._path)) from e
        except (OSError, http.client.HTTPException) as e:
            raise DaemonAbsent(f"{self._path}: {_why(e)}") from e
        finally:
            connection.close()
        if answer.status >= 400:
            raise _error(text, answer.status)
        return json.loads(text)


def _why(fault: Exception) -> str:
    if isinstance(fault, OSError) and fault.strerror:
        return fault.strerror
    return str(fault) or type(fault).__name__


def _error(text: bytes, status: int) -> FepError:
    """The error of the tree that an answer speaks of."""
    try:
        body = json.loads(text)
        code, detail = str(body["code"]), str(body["detail"])
    except (ValueError, KeyError, TypeError):
        return InternalFault(f"the daemon answered {status} without an error document")
    for cls in all_errors():
        if cls.code == code:
            return _built(cls, detail)
    return FepError(f"{code}: {detail}")


def _built(cls: type[FepError], detail: str) -> FepError:
    if issubclass(cls, ExchangeRefused):
        problem, _, said = detail.partition(": ")
        return cls(said, problem=problem)
    return cls(detail)
