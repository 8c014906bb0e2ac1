# SPDX-License-Identifier: Apache-2.0
"""Comparing the centre's rows with the source's by digests (wire.md §3, Reconcile).

A bucket holds the rows whose canonical key's SHA-256 begins with its number in
``bits`` bits; 0 bits is one bucket with everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agent.crypto.frames import CANON
from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.catalog import KEY_ITEMS
from agent.wire.grammar import DIGEST, EXCHANGE, NODE, RESOURCE, ROW_DIGEST, UUID7
from agent.wire.members import Members, read

TYP_REQUEST = "fep-reconcile-req+jws"
TYP_RESPONSE = "fep-reconcile-res+jws"
REQUEST_CAP = 64 * 1024
"""Longest request that is read, bytes of the compact JWS."""
RESPONSE_CAP = 4 * 1024 * 1024
"""Longest reply that is read, bytes of the compact JWS."""
BITS = 16
"""Most bits."""
DETAIL = 64
"""Most buckets whose keys can be asked for at once."""


@dataclass(frozen=True)
class Request:
    """A producer asks for the digests of its rows at the centre.

    Args:
        iss: the producer's node.
        aud: id of the exchange.
        jti: uuid7 of this request.
        iat: the producer's clock, seconds since 1970.
        epoch: of the last loaded batch.
        seq: of the last loaded batch.
        catalog: message digest of the catalog statement.
        bits: 0-16.
        detail: numbers of the buckets whose keys are wanted, or None.
        canon: version of the canonical text.
    """

    iss: str
    aud: str
    jti: str
    iat: int
    resource: str
    epoch: int
    seq: int
    catalog: str
    bits: int
    detail: tuple[int, ...] | None
    canon: int = CANON

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        detail = None if self.detail is None else list(self.detail)
        data = strict.dumps({"v": 1, **vars(self), "detail": detail})
        parse_request(data)
        return data


@dataclass(frozen=True)
class Key:
    """A row in a detailed bucket: its key's canonical texts and its row digest."""

    bucket: int
    texts: tuple[str, ...]
    digest: str


@dataclass(frozen=True)
class Response:
    """What the centre holds.

    Args:
        iss: id of the exchange.
        aud: the producer's node.
        irt: ``jti`` of the request.
        req_sha256: message digest of the request.
        rows: of the whole table.
        buckets: (rows, digest as 32 hex) of each bucket, 2^bits of them in order.
        detail: the keys of the buckets asked for, or None.
    """

    iss: str
    aud: str
    irt: str
    req_sha256: str
    iat: int
    resource: str
    epoch: int
    seq: int
    catalog: str
    bits: int
    rows: int
    buckets: tuple[tuple[int, str], ...]
    detail: tuple[Key, ...] | None
    canon: int = CANON

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        body: dict[str, Any] = {"v": 1, **vars(self)}
        body["buckets"] = [list(b) for b in self.buckets]
        if self.detail is not None:
            body["detail"] = [[k.bucket, list(k.texts), k.digest] for k in self.detail]
        data = strict.dumps(body)
        parse_response(data)
        return data


def parse_request(payload: bytes) -> Request:
    """The request of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(
        payload,
        "reconcile",
        "iss aud jti iat resource epoch seq catalog canon bits detail",
    )
    bits = m.integer("bits", most=BITS)
    return Request(
        iss=m.match("iss", NODE),
        aud=m.match("aud", EXCHANGE),
        jti=m.match("jti", UUID7),
        iat=m.integer("iat"),
        resource=m.match("resource", RESOURCE),
        epoch=m.integer("epoch"),
        seq=m.integer("seq"),
        catalog=m.match("catalog", DIGEST),
        bits=bits,
        detail=_asked(m, bits),
        canon=m.integer("canon", least=1),
    )


def _asked(m: Members, bits: int) -> tuple[int, ...] | None:
    if m.null("detail"):
        return None
    numbers = m.array("detail", most=DETAIL)
    if not all(type(n) is int and 0 <= n < 1 << bits for n in numbers):
        m.fail("detail", f"bucket numbers below {1 << bits}")
    if len(set(numbers)) != len(numbers):
        m.fail("detail", "every bucket once")
    return tuple(numbers)


def parse_response(payload: bytes) -> Response:
    """The reply of a verified message; unknown members are ignored.

    Raises:
        MalformedMessage: a member is missing or does not fit.
    """
    m = read(
        payload,
        "reconcile",
        "iss aud irt req_sha256 iat resource epoch seq catalog canon bits rows buckets"
        " detail",
        open_ended=True,
    )
    bits = m.integer("bits", most=BITS)
    count = 1 << bits
    response = Response(
        iss=m.match("iss", EXCHANGE),
        aud=m.match("aud", NODE),
        irt=m.match("irt", UUID7),
        req_sha256=m.match("req_sha256", DIGEST),
        iat=m.integer("iat"),
        resource=m.match("resource", RESOURCE),
        epoch=m.integer("epoch"),
        seq=m.integer("seq"),
        catalog=m.match("catalog", DIGEST),
        bits=bits,
        rows=m.integer("rows"),
        buckets=tuple(_bucket(b) for b in m.array("buckets", least=count, most=count)),
        detail=None
        if m.null("detail")
        else tuple(_key(k, count) for k in m.array("detail")),
        canon=m.integer("canon", least=1),
    )
    if sum(rows for rows, _ in response.buckets) != response.rows:
        raise MalformedMessage("reconcile.rows: expected the sum over the buckets")
    return response


def _bucket(value: object) -> tuple[int, str]:
    match value:
        case [int(rows), str(digest)] if (
            type(rows) is int and rows >= 0 and ROW_DIGEST.fullmatch(digest)
        ):
            return rows, digest
    raise MalformedMessage("reconcile.buckets: expected [rows, 32 hex digits] each")


def _key(value: object, count: int) -> Key:
    match value:
        case [int(bucket), list(texts), str(digest)] if (
            type(bucket) is int
            and 0 <= bucket < count
            and 1 <= len(texts) <= KEY_ITEMS
            and all(isinstance(text, str) for text in texts)
            and ROW_DIGEST.fullmatch(digest)
        ):
            return Key(bucket, tuple(texts), digest)
    raise MalformedMessage(
        "reconcile.detail: expected [bucket, [key texts], 32 hex digits] each"
    )
