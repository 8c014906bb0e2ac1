# SPDX-License-Identifier: Apache-2.0
"""Sealing: whatever is packed, the chain is whole and every manifest can be read."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from agent.crypto.jose import PrivateKey, message_digest, split, verify
from agent.model.batch import Quality, Reason, Rows
from agent.model.job import Packed
from agent.model.stream import Head
from agent.pipeline.seal import RunFacts, Sealed, Sender, compose, payload_of, sign
from agent.wire import batch as wire
from tests.support.tries import tries

KEY = PrivateKey.generate("sign")
SENDER = Sender("11330100MB0000000A/fep-01", "yunxi.exchange", "fep-agent/0.1.0")
NOW = datetime(2026, 11, 21, 8, 0, 0, 5, tzinfo=UTC)
RUN = "01936f2e-4b5c-7000-8000-000000000001"
DIGEST = "sha256:" + "d" * 64
COUNT = st.integers(0, 10**6)


@st.composite
def packed(draw: st.DrawFn, *, part: int = 1, final: bool = True) -> Packed:
    upsert, keep, skipped = draw(COUNT), draw(COUNT), draw(COUNT)
    quarantined = keep + draw(COUNT)
    return Packed(
        part=part,
        final=final,
        size=draw(st.integers(1, wire.PAYLOAD_CAP)),
        raw_size=draw(st.integers(0, wire.RAW_CAP)),
        digest=DIGEST,
        rows=Rows(upsert, 0, keep),
        quality=Quality(upsert + quarantined + skipped, quarantined, skipped),
        distinct=upsert + keep if final else None,
        as_of="2026-11-21T07:59:59.5Z",
        token=None if final else f"after {part}",
        frontier="f" if final else None,
    )


@st.composite
def runs(draw: st.DrawFn) -> list[Packed]:
    count = draw(st.integers(1, 6))
    return [
        draw(packed(part=number, final=number == count))
        for number in range(1, count + 1)
    ]


@st.composite
def heads(draw: st.DrawFn) -> Head:
    reasons: list[Reason | None] = ["first", "restored", "spool_lost", "rejected", None]
    reason = draw(st.sampled_from(reasons))
    prev = None if reason == "first" else DIGEST
    seq = 0 if reason is not None else draw(st.integers(1, 10**9))
    return Head(draw(st.integers(1, 10**9)), seq, prev, "a" * 32, reason)


def sealed(head: Head, parts: list[Packed], *, facts: RunFacts) -> list[Sealed]:
    made = []
    for part in parts:
        manifest = compose(head, part, facts, sender=SENDER, now=NOW)
        made.append(sign(head, part, manifest, signer=KEY))
        head = made[-1].after
    return made


FACTS = RunFacts("330100001/000001", RUN, wire.CatalogRef(1, DIGEST), None)


@tries(50)
@given(heads(), runs())
def test_the_chain_is_contiguous(head: Head, parts: list[Packed]) -> None:
    """seq counts on; each prev is the digest before; the reason is the first one's."""
    made = sealed(head, parts, facts=FACTS)
    streams = [s.manifest.stream for s in made]
    assert [s.seq for s in streams] == [head.seq + n for n in range(1, len(parts) + 1)]
    assert [s.prev for s in streams] == [head.prev, *(s.digest for s in made[:-1])]
    assert [s.reason for s in streams] == [head.reason] + [None] * (len(parts) - 1)
    assert {s.epoch for s in streams} == {head.epoch}


@tries(50)
@given(heads(), runs())
def test_every_manifest_reads_back_as_it_was(head: Head, parts: list[Packed]) -> None:
    """The strict parser takes whatever is sealed, within the cap of line 1."""
    for one in sealed(head, parts, facts=FACTS):
        message = split(one.text, cap=wire.MESSAGE_CAP)
        assert (
            wire.parse(verify(message, KEY.public, typ=wire.TYP).payload)
            == one.manifest
        )
        assert one.digest == message_digest(one.text) == message.digest
        assert one.size == len(one.text) + 1 + one.packed.size


@tries(50)
@given(runs())
def test_a_run_is_one_snapshot(parts: list[Packed]) -> None:
    """Parts from 1, the final one last, distinct keys and run_end on it alone."""
    head = Head(1, 0, None, "a" * 32, "first")
    manifests = [s.manifest for s in sealed(head, parts, facts=FACTS)]
    last = len(parts)
    for number, manifest in enumerate(manifests, 1):
        snapshot = manifest.snapshot
        assert snapshot is not None
        assert (snapshot.id, snapshot.part) == (RUN, number)
        assert snapshot.final is manifest.run_end is (number == last)
        assert (snapshot.rows is None) is (number != last)


def test_a_confirmation_stands_on_the_final_part_alone() -> None:
    """It covers the swap, which is the final part's."""
    confirmed = wire.DeletesConfirmed("2026-11-21T08:00:00Z", 12)
    parts = [_plain(1, final=False), _plain(2, final=True)]
    head = Head(1, 4, DIGEST, "a" * 32, None)
    made = sealed(head, parts, facts=replace(FACTS, confirmed=confirmed))
    assert [s.manifest.deletes_confirmed for s in made] == [None, confirmed]


def test_signing_twice_is_still_the_same_message() -> None:
    """Another signature, the same digest: the identity has one manifest."""
    head, part = Head(1, 4, DIGEST, "a" * 32, None), _plain(1, final=True)
    one, two = (sealed(head, [part], facts=FACTS)[0] for _ in range(2))
    assert one.digest == two.digest
    assert payload_of(one.text) == payload_of(two.text)


def _plain(part: int, *, final: bool) -> Packed:
    return Packed(
        part=part,
        final=final,
        size=10,
        raw_size=30,
        digest=DIGEST,
        rows=Rows(1, 0, 0),
        quality=Quality(1, 0, 0),
        distinct=2 if final else None,
        as_of="2026-11-21T07:59:59Z",
        token=None,
        frontier="f" if final else None,
    )
