# SPDX-License-Identifier: Apache-2.0
"""The rules of line 1 as pure functions, over a registry that is a dictionary."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.jose import PrivateKey, message_digest
from agent.model.batch import Quality, Rows
from agent.model.item import Item, ItemType
from agent.wire import batch as wire
from agent.wire import catalog
from agent.wire.batch import CatalogRef, Content, Manifest, StreamRef
from agent.wire.catalog import Statement
from sandbox.accept import Admit, Offer, Refuse, Reject, Repeat, Rules, Verdict
from sandbox.store import KeyRecord, Known, Stream
from tests.support.tries import tries

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
NODE = "11990100MB1234567X/qz1"
OTHER = "11990100MB7654321Y/qz1"
RESOURCE = "990100/rk/person"
AUD = "yunxi.exchange"
ZERO = "sha256:" + "0" * 64


@cache
def key() -> PrivateKey:
    return PrivateKey.generate("sign")


@cache
def statement() -> str:
    items = (Item("id", ItemType.C, 18, None, key=True, share="1"),)
    body = Statement(NODE, RESOURCE, 1, items)
    return key().sign(catalog.TYP, body.payload())


@dataclass
class Records:
    """What the exchange knows."""

    record: KeyRecord = field(
        default_factory=lambda: KeyRecord(key().public, NODE, "active", NOW, None)
    )
    node: str | None = NODE
    at: Stream = field(default_factory=Stream)
    batches: dict[tuple[int, int], Known] = field(default_factory=dict)

    def key(self, kid: str) -> KeyRecord | None:
        return self.record if kid == self.record.key.kid else None

    def owner(self, resource: str) -> str | None:
        return self.node

    def statement(self, digest: str) -> Statement | None:
        known = message_digest(statement())
        items = (Item("id", ItemType.C, 18, None, key=True, share="1"),)
        return Statement(NODE, RESOURCE, 1, items) if digest == known else None

    def stream(self, resource: str) -> Stream:
        return self.at

    def same(self, digest: str) -> Known | None:
        found = [k for k in self.batches.values() if k.digest == digest]
        return found[0] if found else None

    def batch(self, resource: str, epoch: int, seq: int) -> Known | None:
        return self.batches.get((epoch, seq))


MANIFEST = Manifest(
    aud=AUD,
    producer=NODE,
    resource=RESOURCE,
    catalog=CatalogRef(1, ""),
    stream=StreamRef(1, 1, None, "0" * 32, "first"),
    content=Content(5, 5, ZERO),
    rows=Rows(1, 0, 0),
    mode="incremental",
    snapshot=None,
    deletes_confirmed=None,
    as_of="2026-11-21T08:00:00Z",
    run_end=True,
    quality=Quality(1, 0, 0),
    sealed_at="2026-11-21T08:00:00Z",
    agent="test/1",
)


def line(**changes: Any) -> bytes:
    named = {"catalog": CatalogRef(1, message_digest(statement()))} | changes
    manifest = replace(MANIFEST, **named)
    return key().sign(wire.TYP, manifest.payload()).encode()


def stream_ref(**changes: Any) -> StreamRef:
    return replace(MANIFEST.stream, **changes)


def judge(
    text: bytes, records: Records, *, node: str | None = NODE, length: int | None = None
) -> Verdict:
    size = len(text) + 1 + 5 if length is None else length
    return Rules(AUD).judge(Offer(text, size, node), records, now=NOW)


def code(verdict: Verdict) -> str:
    assert isinstance(verdict, Refuse)
    return verdict.problem.code


def test_good_line_is_admitted() -> None:
    """Every rule is met: the payload decides."""
    verdict = judge(line(), Records())
    assert isinstance(verdict, Admit)
    assert verdict.manifest.resource == RESOURCE


def test_ferry_has_no_certificate() -> None:
    """The certificate is not asked of the ferry."""
    assert isinstance(judge(line(), Records(), node=None), Admit)


@tries(60)
@given(st.binary(max_size=200))
def test_garbage_is_refused_and_never_raises(data: bytes) -> None:
    """Whatever stands in line 1, the verdict is a refusal."""
    assert code(judge(data, Records())) == "malformed"


@tries(60)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_flipped_byte_is_never_admitted(place: int, value: int) -> None:
    """A line that differs in one byte is refused, or is the same message."""
    text = bytearray(line())
    place %= len(text)
    if text[place] == value:
        return
    text[place] = value
    assert isinstance(judge(bytes(text), Records()), Refuse)


def test_known_message_is_repeated_before_anything_else() -> None:
    """Even when its certificate would not do any more."""
    text = line()
    known = Known(message_digest(text.decode()), "loaded", "receipt")
    records = Records(batches={(1, 1): known})
    assert judge(text, records, node=OTHER) == Repeat(known.digest)


def test_owner_is_told_before_the_catalog() -> None:
    """First failure wins: not-owner, not catalog-unknown."""
    text = line(catalog=CatalogRef(1, ZERO))
    assert code(judge(text, Records(node=OTHER))) == "not-owner"
    assert code(judge(text, Records())) == "catalog-unknown"


def test_key_status_is_told_before_the_owner() -> None:
    """First failure wins: key-revoked, not not-owner."""
    records = Records(node=OTHER)
    records.record = replace(records.record, status="revoked")
    assert code(judge(line(), records)) == "key-revoked"


def test_certificate_is_told_before_key_status() -> None:
    """First failure wins: forbidden, not key-revoked."""
    records = Records()
    records.record = replace(records.record, status="revoked")
    assert code(judge(line(), records, node=OTHER)) == "forbidden"


@pytest.mark.parametrize(("days", "taken"), [(1, True), (-1, False)])
def test_retired_key_has_an_end(days: int, taken: bool) -> None:
    """Taken until ``until``, refused after it."""
    records = Records()
    until = NOW + timedelta(days=days)
    records.record = replace(records.record, status="retired", until=until)
    assert isinstance(judge(line(), records), Admit) is taken


def test_retired_key_without_end_is_refused() -> None:
    """No end known means no."""
    records = Records()
    records.record = replace(records.record, status="retired")
    assert code(judge(line(), records)) == "key-revoked"


AT = Stream(epoch=3, seq=4, digest="sha256:" + "1" * 64, incarnation="0" * 32)


@pytest.mark.parametrize(
    ("ref", "wanted"),
    [
        ({"epoch": 3, "seq": 6, "reason": None, "prev": AT.digest}, "chain-gap"),
        ({"epoch": 4, "seq": 2, "reason": None, "prev": AT.digest}, "chain-gap"),
        ({"epoch": 2, "seq": 9, "reason": None, "prev": AT.digest}, "stale-epoch"),
        ({"epoch": 3, "seq": 5, "reason": None, "prev": ZERO}, "fork"),
        ({"epoch": 4, "seq": 1, "reason": "restored", "prev": None}, "fork"),
        (
            {
                "epoch": 3,
                "seq": 5,
                "reason": None,
                "prev": AT.digest,
                "incarnation": "1" * 32,
            },
            "fork",
        ),
    ],
)
def test_batch_that_does_not_follow_is_refused(
    ref: dict[str, Any], wanted: str
) -> None:
    """Epoch and seq, then prev, then incarnation."""
    text = line(stream=stream_ref(**ref))
    assert code(judge(text, Records(at=AT))) == wanted


@pytest.mark.parametrize(
    "ref",
    [
        {"epoch": 3, "seq": 5, "reason": None},
        {"epoch": 4, "seq": 1, "reason": "restored"},
        {"epoch": 9, "seq": 1, "reason": "rekeyed", "incarnation": "1" * 32},
    ],
)
def test_batch_that_follows_is_admitted(ref: dict[str, Any]) -> None:
    """The next seq, or the first of any later epoch, chained to the position."""
    text = line(stream=stream_ref(prev=AT.digest, **ref))
    assert isinstance(judge(text, Records(at=AT)), Admit)


def test_known_identity_of_another_message_is_a_fork() -> None:
    """Before epoch and seq are looked at."""
    records = Records(batches={(1, 1): Known(ZERO, "stored", "")}, at=AT)
    assert code(judge(line(), records)) == "fork"


def test_dead_epoch_rejects_by_signature() -> None:
    """Later batches of an epoch in which one was rejected."""
    text = line(stream=stream_ref(epoch=3, seq=5, reason=None, prev=AT.digest))
    verdict = judge(text, Records(at=replace(AT, dead=3)))
    assert isinstance(verdict, Reject)
    assert verdict.code == "stale-epoch"


def broken_line(**changes: Any) -> bytes:
    body = json.loads(MANIFEST_JSON) | changes
    return key().sign(wire.TYP, json.dumps(body).encode()).encode()


MANIFEST_JSON = replace(MANIFEST, catalog=CatalogRef(1, ZERO)).payload().decode()


def test_broken_shape_is_rejected_when_authority_is_good() -> None:
    """A signed bad-manifest for the identity that can be read."""
    verdict = judge(broken_line(mode="no"), Records())
    assert isinstance(verdict, Reject)
    assert (verdict.code, verdict.batch.seq) == ("bad-manifest", 1)


@pytest.mark.parametrize(
    "records", [Records(node=OTHER), Records(node=None)], ids=["other", "nobody"]
)
def test_broken_shape_is_refused_when_owner_is_not(records: Records) -> None:
    """No signature for who may not send this resource."""
    assert code(judge(broken_line(mode="no"), records)) == "malformed"


def test_announced_length_is_line_lf_and_payload() -> None:
    """Anything else cannot have the digest."""
    text = line()
    assert code(judge(text, Records(), length=len(text) + 5)) == "bad-digest"
