# SPDX-License-Identifier: Apache-2.0
"""Enrolment of a site without a line: two files that somebody carries (wire.md §6).

The request holds what would have been sent, the reply what would have been answered.
Nothing in them is believed for standing in them: the request's parts carry their own
signatures, the reply's are held against the pins of the slip.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent.wire import directory, keys, strict
from agent.wire.grammar import EXCHANGE, NODE
from agent.wire.members import Members, read

REQUEST_CAP = 1 << 20
"""Longest request that is read, bytes."""
REPLY_CAP = directory.CAP + (1 << 20)
"""Longest reply that is read, bytes."""
_REQUEST = "fep-enrolment-request"
_REPLY = "fep-enrolment-reply"
_PEM_CAP = 16 * 1024


@dataclass(frozen=True)
class Request:
    """What a machine asks for.

    Args:
        node: ``<USCC>/<name>``.
        aud: id of the exchange that is asked.
        csr: PKCS#10 in PEM.
        statements: its key statements, compact JWS, 1 first.
        code: the one-time code as on the slip, or None.
    """

    node: str
    aud: str
    csr: str
    statements: tuple[str, ...]
    code: str | None

    def payload(self) -> bytes:
        """The file."""
        return strict.dumps(
            {
                "v": 1,
                "kind": _REQUEST,
                "node": self.node,
                "aud": self.aud,
                "csr": self.csr,
                "statements": list(self.statements),
                "code": self.code,
            }
        )


@dataclass(frozen=True)
class Reply:
    """What the exchange answered.

    Args:
        node: as certified.
        aud: id of the exchange.
        ca: certificate of its authority, PEM.
        certificate: of the node, PEM.
        directory: ``fep-directory+jws`` with the node in it.
    """

    node: str
    aud: str
    ca: str
    certificate: str
    directory: str

    def payload(self) -> bytes:
        """The file."""
        return strict.dumps(
            {
                "v": 1,
                "kind": _REPLY,
                "node": self.node,
                "aud": self.aud,
                "ca": self.ca,
                "certificate": self.certificate,
                "directory": self.directory,
            }
        )


def parse_request(data: bytes) -> Request:
    """The request of a file.

    Raises:
        MalformedMessage: it is none.
    """
    m = read(data, "request", "kind node aud csr statements code")
    m.choice("kind", _REQUEST)
    return Request(
        node=m.match("node", NODE),
        aud=m.match("aud", EXCHANGE),
        csr=m.text("csr", most=_PEM_CAP),
        statements=_statements(m),
        code=None if m.null("code") else m.text("code"),
    )


def _statements(m: Members) -> tuple[str, ...]:
    found = m.array("statements", least=1, most=64)
    for text in found:
        if not isinstance(text, str) or not 0 < len(text) <= keys.CAP:
            m.fail("statements", "compact JWS")
    return tuple(found)


def parse_reply(data: bytes) -> Reply:
    """The reply of a file.

    Raises:
        MalformedMessage: it is none.
    """
    m = read(data, "reply", "kind node aud ca certificate directory")
    m.choice("kind", _REPLY)
    return Reply(
        node=m.match("node", NODE),
        aud=m.match("aud", EXCHANGE),
        ca=m.text("ca", most=_PEM_CAP),
        certificate=m.text("certificate", most=_PEM_CAP),
        directory=m.text("directory", most=directory.CAP),
    )
