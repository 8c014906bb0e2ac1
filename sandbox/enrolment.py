# SPDX-License-Identifier: Apache-2.0
"""Who is let in: first requests, judged by their code and by a person (wire.md §6).

All of it runs in the writer's thread. A refusal that was counted or raised an alarm is
committed too, so a transaction returns what it found, and the refusal is raised after.

Rules

1. The first request with a code binds it: to the part of the request that is signed,
   so that the same keys may ask again with a new signature. Another one is refused
   with an alarm, also after the certificate was issued.
2. A person approves what he has compared: node and fingerprint, not a code.
3. Approving issues the certificate. Who asks again gets the same one, while it holds
   and the node was not reset.
4. With ``approve_all`` nobody is asked and no code is needed; one that is given counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from agent.errors import CodeMistyped
from agent.wire.enrolment import Code
from agent.wire.fingerprint import Fingerprint
from agent.wire.grammar import NODE, format_time
from sandbox.accept import Refused
from sandbox.codes import Codes, Kept, Waiting
from sandbox.desk import Desk
from sandbox.est import Csr
from sandbox.tls import Authority

MOST_CODES = 1000
"""Most codes made at once."""


@dataclass(frozen=True)
class Issued:
    """The certificate, DER."""

    der: bytes


@dataclass(frozen=True)
class Pending:
    """A person has not approved yet."""


@dataclass(frozen=True)
class Throttled:
    """The address gave a wrong secret; it may try again after so many seconds."""

    seconds: int


Answer = Issued | Pending | Throttled


@dataclass(frozen=True)
class Enrolment:
    """The judge.

    Args:
        desk: ties nodes to their keys.
        codes: in the same file.
        authority: issues certificates.
    """

    desk: Desk
    codes: Codes
    authority: Authority

    @property
    def now(self) -> datetime:
        """By the exchange's clock."""
        return self.desk.signer.now()

    # --- a machine asks -----------------------------------------------------------

    def ask(self, csr: Csr, login: str | None, address: str) -> Answer:
        """What a first request gets.

        Args:
            csr: its signature verifies.
            login: its ``Authorization`` header.
            address: from where it came.

        Raises:
            Refused: unauthenticated, it has no good code; forbidden, the code or the
                node is somebody else's, or a person denied it.
        """
        if login is None and self.desk.options.approve_all:
            self.desk.bind_node(csr.node, csr.statement)
            return Issued(self._certificate(csr))
        code = _code(login)
        with self.desk.store.transaction():
            found = self._judge(csr, code, address)
        if isinstance(found, Refused):
            raise found
        if found == Pending() and self.desk.options.approve_all:
            return self._issue(csr, code.id)
        return found

    def _judge(self, csr: Csr, code: Code, address: str) -> Answer | Refused:
        if wait := self.codes.wait_s(code.id, address, now=self.now):
            return Throttled(wait)
        kept = self.codes.check(code, address, now=self.now)
        if kept is None:
            return _wrong()
        if kept.state == "bound":
            return self._again(csr, kept, address)
        return self._first(csr, kept, address)

    def _first(self, csr: Csr, kept: Kept, address: str) -> Answer | Refused:
        """Bind a code to its first request."""
        if kept.state == "burned" or kept.expires < self.now:
            why = "was guessed at" if kept.state == "burned" else "has expired"
            return Refused("forbidden", f"the code {why}; ask for another one")
        if csr.node != kept.node:
            return self._alarm("code-misused", csr, kept.id, address)
        if self.desk.store.enrolled(csr.node) not in (None, csr.statement):
            return self._alarm("node-taken", csr, kept.id, address)
        self.codes.bind(
            Waiting(
                id=kept.id,
                node=csr.node,
                statement=csr.statement,
                info=_info(csr),
                csr=_der(csr),
                address=address,
                at=format_time(self.now),
            )
        )
        return Pending()

    def _again(self, csr: Csr, kept: Kept, address: str) -> Answer | Refused:
        """A code that is bound: the same request goes on, another one is refused."""
        bound = self.codes.request(kept.id)
        if bound is None or bound.info != _info(csr):
            return self._alarm("code-reused", csr, kept.id, address)
        if bound.state == "denied":
            return Refused("forbidden", "a person at the centre denied this request")
        enrolled = self.desk.store.enrolled(csr.node)
        if enrolled not in (None, csr.statement):
            return self._alarm("node-taken", csr, kept.id, address)
        if bound.certificate is None:
            return Pending()
        if enrolled is None or self._expired(bound.certificate):
            return Refused("forbidden", "the code was used; ask for another one")
        return Issued(bound.certificate)

    def _expired(self, der: bytes) -> bool:
        return x509.load_der_x509_certificate(der).not_valid_after_utc < self.now

    def _alarm(self, kind: str, csr: Csr, code_id: str, address: str) -> Refused:
        self.codes.alarm(
            kind,
            f"code {code_id}, request for {csr.node} with {csr.statement}"
            f" from {address}",
            now=self.now,
        )
        return Refused("forbidden", _ALARMS[kind])

    def _issue(self, csr: Csr, code_id: str) -> Issued:
        """Tie the node to its keys, certify, and remember what was given out."""
        self.desk.bind_node(csr.node, csr.statement)
        der = self._certificate(csr)
        with self.desk.store.transaction():
            self.codes.settle(code_id, "issued", certificate=der)
        return Issued(der)

    def _certificate(self, csr: Csr) -> bytes:
        days = self.desk.options.certificate_days
        made = self.authority.issue_client(csr.request, now=self.now, days=days)
        return made.public_bytes(Encoding.DER)

    # --- a person at the centre ---------------------------------------------------

    def make(self, nodes: Sequence[str], *, hours: int) -> list[tuple[str, str, str]]:
        """(node, code, expiry) for each node; the codes are nowhere else.

        Raises:
            Refused: malformed; no node, one twice, or more than :data:`MOST_CODES`.
        """
        if not 0 < len(nodes) <= MOST_CODES or len(set(nodes)) != len(nodes):
            raise Refused("malformed", f"expected 1 to {MOST_CODES} nodes, each once")
        if bad := [node for node in nodes if not NODE.fullmatch(node)]:
            raise Refused("malformed", f"expected <USCC>/<name>, got {bad[0][:64]!r}")
        expires = self.now.replace(microsecond=0) + timedelta(hours=hours)
        made = []
        with self.desk.store.transaction():
            for node in nodes:
                code = Code.generate()
                while self.codes.known(code.id):
                    code = Code.generate()
                self.codes.add(code, node, expires=expires)
                made.append((node, code.text, format_time(expires)))
        return made

    def approve(self, node: str, said: str) -> None:
        """Issue the certificate of the request that a person has compared.

        Raises:
            Refused: not-found, nothing of this node waits; forbidden, none that waits
                has this fingerprint, or the node is tied to other keys.
        """
        found = self._compared(node, said)
        self._issue(Csr.of_der(found.csr), found.id)

    def deny(self, node: str, said: str) -> None:
        """Refuse such a request for good; raises as :meth:`approve`."""
        with self.desk.store.transaction():
            self.codes.settle(self._compared(node, said).id, "denied")

    def _compared(self, node: str, said: str) -> Waiting:
        waiting = [found for found in self.codes.pending() if found.node == node]
        if not waiting:
            raise Refused("not-found", f"no request of {node} waits")
        for found in waiting:
            if Fingerprint(node, found.statement).agrees(said):
                return found
        raise Refused("forbidden", "the fingerprint is another: do not approve")

    def by_file(self, csr: Csr, code: str | None, said: str | None) -> bytes:
        """The certificate, DER, for a request that came as a file.

        Args:
            csr: its signature verifies.
            code: the one in the file; whoever compares needs none.
            said: the fingerprint as a person compared it.

        Raises:
            Refused: as :meth:`ask` and :meth:`approve`, or it was not compared.
        """
        compared = said is not None and _fingerprint(csr).agrees(said)
        if not compared and (said is not None or not self.desk.options.approve_all):
            raise Refused("forbidden", "the fingerprint is another: do not approve")
        if code is None:
            self.desk.bind_node(csr.node, csr.statement)
            return self._certificate(csr)
        found = self.ask(csr, _parsed(code).login(), "file")
        if isinstance(found, Throttled):
            raise Refused("busy", f"wait {found.seconds} s")
        if isinstance(found, Pending):
            self.approve(csr.node, csr.statement)
            found = self.ask(csr, _parsed(code).login(), "file")
        if not isinstance(found, Issued):
            raise Refused("busy", "try again")
        return found.der


_ALARMS = {
    "code-misused": "the code is another node's",
    "code-reused": "the code was used by another request",
    "node-taken": "the node is enrolled with other keys",
}
"""What a machine is told, by kind of alarm."""


def _fingerprint(csr: Csr) -> Fingerprint:
    return Fingerprint(csr.node, csr.statement)


def _code(login: str | None) -> Code:
    if login is None:
        raise _wrong()
    try:
        return Code.of_login(login)
    except CodeMistyped as e:  # it cannot be one: no guess, and not counted
        raise _wrong() from e


def _wrong() -> Refused:
    return Refused("unauthenticated", "expected the one-time code of this node's slip")


def _parsed(text: str) -> Code:
    try:
        return Code.parse(text)
    except CodeMistyped as e:
        raise Refused("malformed", f"code: {e.detail}") from e


def _info(csr: Csr) -> str:
    return hashlib.sha256(csr.request.tbs_certrequest_bytes).hexdigest()


def _der(csr: Csr) -> bytes:
    return csr.request.public_bytes(Encoding.DER)
