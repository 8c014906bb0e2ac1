# SPDX-License-Identifier: Apache-2.0
"""A node's last word to its exchange, ``fep-leave+jws`` (wire.md §6)."""

from __future__ import annotations

from dataclasses import dataclass

from agent.wire import strict
from agent.wire.grammar import EXCHANGE, NODE
from agent.wire.members import read

TYP = "fep-leave+jws"
CAP = 2 * 1024
"""Longest message that is read, bytes of the compact JWS."""
SKEW_S = 600
"""So far ``iat`` may be from the exchange's clock, seconds: an old one is worth nothing
after the node was let back."""


@dataclass(frozen=True)
class Leave:
    """It will not come again.

    Args:
        node: who leaves.
        aud: which exchange.
        iat: when, seconds since 1970.
    """

    node: str
    aud: str
    iat: int

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        body = {"v": 1, "node": self.node, "aud": self.aud, "iat": self.iat}
        data = strict.dumps(body)
        parse(data)
        return data


def parse(payload: bytes) -> Leave:
    """The word of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(payload, "leave", "node aud iat")
    return Leave(m.match("node", NODE), m.match("aud", EXCHANGE), m.integer("iat"))
