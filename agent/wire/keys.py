# SPDX-License-Identifier: Apache-2.0
"""A node's keys: a chain of statements, ``fep-keys+jws`` (wire.md §1, Keys).

Each statement lists all live keys. Statement 1 is signed by its own ``sign`` key,
statement n+1 by a ``sign`` key of statement n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.crypto.jose import PublicKey, Verified, split, verify
from agent.errors import MalformedMessage, UnknownKey
from agent.wire import strict
from agent.wire.grammar import NODE
from agent.wire.members import read

TYP = "fep-keys+jws"
CAP = 64 * 1024
"""Longest statement that is read, bytes of the compact JWS."""

NODE_PURPOSES = ("tls", "sign", "decrypt", "audit")
"""Purposes of the keys that a node has."""


@dataclass(frozen=True)
class KeyStatement:
    """All live keys of a node.

    Args:
        n: number of the statement, from 1.
        keys: at least one of them of purpose ``sign``.
        not_before: when they begin to hold, wire grammar.
    """

    node: str
    n: int
    keys: tuple[PublicKey, ...]
    not_before: str

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        data = strict.dumps(
            {
                "v": 1,
                "node": self.node,
                "n": self.n,
                "keys": [dict(key.jwk) for key in self.keys],
                "not_before": self.not_before,
            }
        )
        parse(data)
        return data

    def signer(self, kid: str) -> PublicKey:
        """Its ``sign`` key of that kid.

        Raises:
            UnknownKey: it has none.
        """
        for key in self.keys:
            if key.kid == kid and key.purpose == "sign":
                return key
        raise UnknownKey(f"keys: statement {self.n} of {self.node} has no sign {kid}")


@dataclass(frozen=True)
class KeyChain:
    """Statements of one node whose signatures were verified, 1 first."""

    statements: tuple[KeyStatement, ...]
    messages: tuple[Verified, ...]

    @property
    def node(self) -> str:
        """Whose keys they are."""
        return self.statements[0].node

    @property
    def live(self) -> tuple[PublicKey, ...]:
        """Keys of the newest statement."""
        return self.statements[-1].keys

    @property
    def all(self) -> Mapping[str, PublicKey]:
        """Every key there ever was, by kid; keys are never removed."""
        return {key.kid: key for s in self.statements for key in s.keys}

    @property
    def digest(self) -> str:
        """Message digest of statement 1, which people compare at enrolment."""
        return self.messages[0].digest


def parse(payload: bytes) -> KeyStatement:
    """The statement of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(payload, "keys", "node n keys not_before")
    keys = tuple(PublicKey.from_jwk(jwk) for jwk in m.array("keys", least=1, most=64))
    if len({key.kid for key in keys}) != len(keys):
        raise MalformedMessage("keys.keys: expected every key once")
    purposes = {key.purpose for key in keys}
    if not purposes <= set(NODE_PURPOSES):
        raise MalformedMessage("keys.keys: expected purposes of a node only")
    if "sign" not in purposes:
        raise MalformedMessage("keys.keys: expected a key of purpose sign")
    return KeyStatement(
        node=m.match("node", NODE),
        n=m.integer("n", least=1),
        keys=keys,
        not_before=m.time("not_before"),
    )


def chain(messages: Sequence[str | bytes]) -> KeyChain:
    """Verify a node's statements, 1 first.

    Raises:
        MalformedMessage: none, a gap, another node, or a statement breaks the format.
        BadSignature: a statement is not signed as the chain demands.
    """
    if not messages:
        raise MalformedMessage("keys: expected at least one statement")
    statements: list[KeyStatement] = []
    verified: list[Verified] = []
    for n, text in enumerate(messages, 1):
        message = split(text, cap=CAP)
        if message.typ != TYP:
            raise MalformedMessage(f"keys: expected typ {TYP} in statement {n}")
        statement = parse(message.payload)
        judge = statements[-1] if statements else statement
        if statement.n != n or statement.node != judge.node:
            raise MalformedMessage(f"keys: expected statement {n} of {judge.node}")
        verified.append(verify(message, judge.signer(message.kid), typ=TYP))
        statements.append(statement)
    return KeyChain(tuple(statements), tuple(verified))
