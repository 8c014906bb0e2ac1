# SPDX-License-Identifier: Apache-2.0
"""Speak with the exchange as somebody who holds the agent's certificate.

The standard library alone: what is shown here does not pass through the agent's own
uplink, so that the exchange is seen to judge by itself.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.control.identity import IdentityFiles
from agent.crypto.keys import tls_files

ANSWER_CAP = 4 * 1024 * 1024
"""Most bytes of an answer that are read."""

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    """An HTTP answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        """The problem document (RFC 9457), empty if it is none."""
        try:
            body = json.loads(self.body)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


def ask(
    url: str,
    method: str,
    *,
    files: IdentityFiles,
    headers: Mapping[str, str],
    body: bytes = b"",
) -> Answer:
    """One request over TLS with the agent's certificate.

    Raises:
        OSError: no connection, or none that lasted.
    """
    tls = ssl.create_default_context(cafile=str(files.ca))
    tls.load_cert_chain(*tls_files(files.tls_certificate, files.tls_key))
    to = urlsplit(url)
    line = http.client.HTTPSConnection(
        to.hostname or "", to.port, context=tls, timeout=TIMEOUT_S
    )
    target = f"{to.path}?{to.query}" if to.query else to.path
    try:
        return _exchange(line, method, target, headers=headers, body=body)
    finally:
        line.close()


def upload(url: str, data: bytes, *, files: IdentityFiles) -> Answer:
    """Send a small batch file in one tus request (creation-with-upload)."""
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Length": str(len(data)),
        "Content-Type": "application/offset+octet-stream",
    }
    where = f"{url}/v1/batches"
    return ask(where, "POST", files=files, headers=headers, body=data)


def set_faults(admin: Path, faults: Mapping[str, object]) -> None:
    """Tell the sandbox to misbehave; an empty mapping ends it."""
    line = http.client.HTTPConnection("sandbox", timeout=TIMEOUT_S)
    line.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        line.sock.settimeout(TIMEOUT_S)
        line.sock.connect(str(admin))
        body = json.dumps(faults).encode()
        headers = {"Content-Type": "application/json"}
        answer = _exchange(line, "PUT", "/faults", headers=headers, body=body)
    finally:
        line.close()
    if answer.status >= 300:
        raise OSError(f"the sandbox answered {answer.status} to its faults")


def _exchange(
    line: http.client.HTTPConnection,
    method: str,
    target: str,
    *,
    headers: Mapping[str, str],
    body: bytes,
) -> Answer:
    line.request(method, target, body=body or None, headers=dict(headers))
    answer = line.getresponse()
    named = {name.lower(): value for name, value in answer.getheaders()}
    return Answer(answer.status, named, answer.read(ANSWER_CAP))
