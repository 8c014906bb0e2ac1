# SPDX-License-Identifier: Apache-2.0
"""Whether a batch is taken: the rules that line 1 decides, in wire.md's order.

1. size of the line; form of the JWS
2. typ, alg, kid, purpose; signature
3. a message known already is answered with its newest receipt
4. shape; aud; certificate; status of the key; owner; catalog
5. epoch and seq; prev; incarnation
6. declared sizes

The first failure wins. Nothing here does I/O: what is known comes through
:class:`Records`, what follows is a :data:`Verdict`. A rejection is only signed when
signature, certificate, key and owner were found good; a batch of broken shape whose
identity cannot be read, or that fails one of these, is ``malformed`` instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from agent.crypto.jose import Unverified, Verified, split, verify
from agent.errors import BadSignature, MalformedMessage
from agent.model.batch import BatchId
from agent.wire import batch as wire
from agent.wire import strict
from agent.wire.batch import LINE_CAP, MESSAGE_CAP, Manifest
from agent.wire.catalog import Statement
from agent.wire.grammar import EXCHANGE, NODE, RESOURCE
from agent.wire.members import Members
from agent.wire.problem import Problem
from sandbox.store import KeyRecord, Known, Stream


class Records(Protocol):
    """What the exchange knows; the registry, or a dictionary in a test."""

    def key(self, kid: str) -> KeyRecord | None:
        """A key of any node."""
        ...

    def owner(self, resource: str) -> str | None:
        """The node that may send a resource."""
        ...

    def statement(self, digest: str) -> Statement | None:
        """A catalog statement by its digest."""
        ...

    def stream(self, resource: str) -> Stream:
        """Where a stream stands."""
        ...

    def same(self, digest: str) -> Known | None:
        """The batch of this message digest."""
        ...

    def batch(self, resource: str, epoch: int, seq: int) -> Known | None:
        """The batch of this identity."""
        ...


@dataclass(frozen=True)
class Offer:
    """Line 1 as it came.

    Args:
        line: without its LF.
        length: bytes of the whole file that the sender announced.
        node: of the client certificate; None for the ferry.
    """

    line: bytes
    length: int
    node: str | None


@dataclass(frozen=True)
class Admit:
    """Go on: the payload decides."""

    manifest: Manifest
    message: Verified


@dataclass(frozen=True)
class Repeat:
    """The very message is known; its newest receipt answers it."""

    digest: str


@dataclass(frozen=True)
class Reject:
    """To be rejected with a signed receipt."""

    batch: BatchId
    message: Verified
    code: str


@dataclass(frozen=True)
class Refuse:
    """To be refused with an unsigned problem; nothing is kept."""

    problem: Problem


Verdict = Admit | Repeat | Reject | Refuse


class Refused(Exception):
    """A problem to answer with.

    Args:
        code: one of ``agent.wire.problem.CODES``.
        detail: for people.
        members: further members of the document.
    """

    def __init__(self, code: str, detail: str, **members: int | str) -> None:
        self.problem = Problem.of(code, detail, **members)
        super().__init__(detail)


@dataclass(frozen=True)
class Rules:
    """The exchange's side of the judgement: its id."""

    aud: str

    def judge(self, offer: Offer, records: Records, *, now: datetime) -> Verdict:
        """What becomes of a batch whose line 1 is ``offer``."""
        try:
            return self._judge(offer, records, now)
        except Refused as e:
            return Refuse(e.problem)

    def _judge(self, offer: Offer, records: Records, now: datetime) -> Verdict:
        unverified = _form(offer.line)
        message, key = authentic(unverified, records, typ=wire.TYP)
        if records.same(message.digest) is not None:
            return Repeat(message.digest)
        try:
            manifest = wire.parse(message.payload)
        except MalformedMessage as e:
            return self._broken(message, offer, records, key, str(e), now)
        self._authority(manifest.id, offer, records, key, now)
        check_catalog(manifest, records)
        dead = chain(manifest, records)
        if dead:
            return Reject(manifest.id, message, "stale-epoch")
        _sizes(manifest, offer)
        return Admit(manifest, message)

    def _authority(
        self,
        batch: BatchId,
        offer: Offer,
        records: Records,
        key: KeyRecord,
        now: datetime,
    ) -> None:
        if key.node != batch.producer:  # kid, judged as soon as the producer is known
            raise Refused("bad-signature", f"the key is not {batch.producer}'s")
        if batch.aud != self.aud:
            raise Refused("wrong-exchange", f"this is {self.aud}, not {batch.aud}")
        if offer.node is not None and offer.node != batch.producer:
            raise Refused("forbidden", f"the certificate is not {batch.producer}'s")
        check_status(key, now)
        if records.owner(batch.resource) not in (None, batch.producer):
            raise Refused("not-owner", f"{batch.resource} is another node's")

    def _broken(
        self,
        message: Verified,
        offer: Offer,
        records: Records,
        key: KeyRecord,
        detail: str,
        now: datetime,
    ) -> Verdict:
        """A manifest of wrong shape: rejected by signature if we may, else refused."""
        malformed = Problem.of("malformed", detail)
        batch = _identity(message.payload)
        if batch is None or records.owner(batch.resource) is None:
            return Refuse(malformed)
        try:
            self._authority(batch, offer, records, key, now)
        except Refused:
            return Refuse(malformed)
        place(batch, records)
        return Reject(batch, message, "bad-manifest")


def authentic(
    message: Unverified, records: Records, *, typ: str
) -> tuple[Verified, KeyRecord]:
    """A message whose signature was made by a key that the directory knows.

    Raises:
        Refused: malformed or bad-signature.
    """
    if message.typ != typ:
        raise Refused("malformed", f"expected typ {typ}")
    key = records.key(message.kid)
    if key is None:
        raise Refused("bad-signature", f"no node has the key {message.kid}")
    try:
        return verify(message, key.key, typ=typ), key
    except BadSignature as e:
        raise Refused("bad-signature", e.detail) from e


def check_status(key: KeyRecord, now: datetime) -> None:
    """Active, or retired not too long ago.

    Raises:
        Refused: key-revoked.
    """
    retired_long = key.status == "retired" and (key.until is None or key.until < now)
    if key.status == "revoked" or retired_long:
        raise Refused("key-revoked", f"{key.key.kid} is {key.status}")


def check_catalog(manifest: Manifest, records: Records) -> None:
    """The statement is known, and it is this resource's of this version.

    Raises:
        Refused: catalog-unknown.
    """
    statement = records.statement(manifest.catalog.digest)
    wanted = (manifest.producer, manifest.resource, manifest.catalog.version)
    if statement is None or wanted != (
        statement.producer,
        statement.resource,
        statement.version,
    ):
        raise Refused("catalog-unknown", f"PUT version {manifest.catalog.version}")


def chain(manifest: Manifest, records: Records) -> bool:
    """Whether the batch follows the last stored one; True if its epoch is dead.

    Raises:
        Refused: chain-gap, stale-epoch or fork.
    """
    if place(manifest.id, records):
        return True
    stream, ref = records.stream(manifest.resource), manifest.stream
    fresh = ref.epoch > stream.epoch
    epoch, seq = (ref.epoch, 1) if fresh else (stream.epoch, stream.seq + 1)
    if ref.seq != seq:
        raise Refused(
            "chain-gap",
            f"expected epoch {epoch}, seq {seq}",
            expected_epoch=epoch,
            expected_seq=seq,
        )
    if ref.prev != stream.digest:
        raise Refused("fork", "prev is not the digest of the last stored batch")
    if not fresh and ref.incarnation != stream.incarnation:
        raise Refused("fork", "a new incarnation needs a new epoch")
    return False


def place(batch: BatchId, records: Records) -> bool:
    """Whether the batch's epoch is dead: one of its batches was rejected.

    Raises:
        Refused: the identity is taken (fork), or the epoch is over (stale-epoch).
    """
    if records.batch(batch.resource, batch.epoch, batch.seq) is not None:
        raise Refused("fork", "another manifest of this identity is known")
    stream = records.stream(batch.resource)
    if batch.epoch < stream.epoch:
        raise Refused("stale-epoch", f"the stream is in epoch {stream.epoch}")
    return batch.epoch <= stream.dead


def _form(line: bytes) -> Unverified:
    if len(line) >= LINE_CAP:
        raise Refused("too-large", f"line 1: expected an LF within {LINE_CAP} bytes")
    try:
        return split(line, cap=MESSAGE_CAP)
    except MalformedMessage as e:
        raise Refused("malformed", e.detail) from e


def _identity(payload: bytes) -> BatchId | None:
    """The identity of a manifest whose shape may be wrong elsewhere."""
    try:
        m = Members(
            strict.loads(payload),
            "manifest",
            "aud producer resource stream",
            open_ended=True,
        )
        stream = m.inner("stream", "epoch seq", open_ended=True)
        return BatchId(
            m.match("producer", NODE),
            m.match("aud", EXCHANGE),
            m.match("resource", RESOURCE),
            stream.integer("epoch", least=1),
            stream.integer("seq", least=1),
        )
    except MalformedMessage:
        return None


def _sizes(manifest: Manifest, offer: Offer) -> None:
    wanted = len(offer.line) + 1 + manifest.content.size
    if offer.length != wanted:
        raise Refused(
            "bad-digest", f"expected {wanted} bytes, announced are {offer.length}"
        )
