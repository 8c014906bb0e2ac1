# SPDX-License-Identifier: Apache-2.0
"""Epochs, sequence numbers, prev and incarnation; catalogs, positions and receipts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.exchange_client import (
    INCARNATION,
    ITEMS,
    Node,
    Stream,
    changed,
    digest,
    payload,
    verify,
)
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

ROWS: list[tuple[Any, ...]] = [("u", "1", "张三", 30)]
OTHER_INCARNATION = "f" * 32


def refused(stream: Stream, **changes: object) -> tuple[int, str, dict[str, Any]]:
    """The problem that the next batch with these ``stream`` members gets."""
    batch = stream.next(ROWS)
    for name, value in changes.items():
        batch.manifest = changed(batch.manifest, f"stream.{name}", value)
    answer = stream.node.send(batch)
    assert "Fep-Receipt" not in answer.headers
    return answer.status, answer.problem, answer.members


# --- the chain --------------------------------------------------------------------


def test_gap_in_the_sequence_says_what_is_expected(stream: Stream) -> None:
    """seq is contiguous."""
    stream.push(stream.next(ROWS))
    status, code, members = refused(stream, seq=3)
    assert (status, code) == (422, "chain-gap")
    assert (members["expected_epoch"], members["expected_seq"]) == (1, 2)


def test_empty_stream_begins_with_seq_1(stream: Stream) -> None:
    """A stream has no middle before its beginning."""
    _, code, members = refused(
        stream, epoch=4, seq=2, reason=None, prev="sha256:" + "0" * 64
    )
    assert code == "chain-gap"
    assert (members["expected_epoch"], members["expected_seq"]) == (4, 1)


def test_other_prev_is_a_fork(stream: Stream) -> None:
    """prev is the digest of the last stored batch."""
    stream.push(stream.next(ROWS))
    assert refused(stream, prev="sha256:" + "0" * 64)[:2] == (422, "fork")


def test_first_batch_ever_has_no_prev(stream: Stream) -> None:
    """prev is null iff nothing was ever stored."""
    assert refused(stream, prev="sha256:" + "0" * 64)[:2] == (422, "fork")


def test_new_epoch_is_chained_to_the_position(stream: Stream) -> None:
    """Null prev in a later epoch is a fork, the position's digest is right."""
    stream.push(stream.next(ROWS))
    stream.new_epoch("restored")
    assert refused(stream, prev=None)[:2] == (422, "fork")
    stream.push(stream.next(ROWS))
    assert stream.node.position(stream.resource)["epoch"] == 2


def test_new_epoch_may_be_any_number_above(stream: Stream) -> None:
    """Numbers may be skipped."""
    stream.push(stream.next(ROWS))
    stream.epoch = 40
    stream.new_epoch("spool_lost")
    stream.push(stream.next(ROWS))
    assert stream.node.position(stream.resource)["epoch"] == 41


def test_older_epoch_is_stale(stream: Stream) -> None:
    """After epoch 2 began nothing more of epoch 1 is taken."""
    first = stream.next(ROWS)
    stream.push(first)
    stream.new_epoch("restored")
    stream.push(stream.next(ROWS))
    assert refused(stream, epoch=1, seq=2, reason=None, prev=first.digest)[:2] == (
        422,
        "stale-epoch",
    )


def test_new_incarnation_needs_a_new_epoch(stream: Stream) -> None:
    """A clone that goes on in the same epoch is a fork."""
    stream.push(stream.next(ROWS))
    assert refused(stream, incarnation=OTHER_INCARNATION)[:2] == (422, "fork")
    stream.new_epoch("restored")
    stream.incarnation = OTHER_INCARNATION
    stream.push(stream.next(ROWS))
    position = stream.node.position(stream.resource)
    assert position["incarnation"] == OTHER_INCARNATION


def test_second_manifest_of_an_identity_is_a_fork(stream: Stream) -> None:
    """No two manifests of one identity: the other one is refused, not stored."""
    first = stream.next(ROWS)
    stream.push(first)
    stream.seq, stream.prev = 0, None
    answer = stream.node.send(stream.next([("u", "2", "李四", 31)]))
    assert (answer.status, answer.problem) == (422, "fork")
    assert stream.node.position(stream.resource)["digest"] == first.digest


def test_chain_is_checked_in_the_order_of_wire(stream: Stream) -> None:
    """seq before prev, prev before incarnation."""
    stream.push(stream.next(ROWS))
    wrong = {"prev": "sha256:" + "0" * 64, "incarnation": OTHER_INCARNATION}
    assert refused(stream, seq=7, **wrong)[1] == "chain-gap"
    assert "prev" in str(refused(stream, **wrong)[2]["detail"])


# --- after a rejection ------------------------------------------------------------


def reject_next(stream: Stream) -> None:
    """A batch with two equal keys is rejected."""
    batch = stream.next([("u", "1", "a", 1), ("u", "1", "b", 2)])
    assert stream.node.send(batch).receipt["state"] == "rejected"


def test_epoch_is_dead_after_a_rejection(stream: Stream) -> None:
    """What follows in that epoch is rejected as stale-epoch, signed."""
    reject_next(stream)
    stream.seq += 1
    stream.prev = "sha256:" + "0" * 64
    receipt = stream.node.send(stream.next(ROWS)).receipt
    assert (receipt["state"], receipt["code"]) == ("rejected", "stale-epoch")


def test_next_epoch_goes_on_from_the_position(stream: Stream) -> None:
    """A rejection before ``stored`` leaves the position where it was."""
    stream.push(stream.next(ROWS))
    before = stream.node.position(stream.resource)
    batch = stream.next([("u", "1", "a", 1), ("u", "1", "b", 2)])
    assert stream.node.send(batch).receipt["code"] == "bad-payload"
    after = stream.node.position(stream.resource)
    assert (after["seq"], after["digest"]) == (before["seq"], before["digest"])
    stream.new_epoch("rejected")
    stream.load(stream.next(ROWS))


def test_what_waits_behind_a_rejected_batch_is_stale(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Stored but not loaded batches of the epoch are rejected with it."""
    sandbox.load(on=False)
    stream.push(stream.part([("u", "1", "a", 1)], total=9))
    stream.push(stream.next(ROWS))
    stream.push(stream.next(ROWS))
    sandbox.load(on=True)
    codes = [stream.node.wait_receipt(1, seq, stream.resource) for seq in (1, 2, 3)]
    assert [c["code"] for c in codes] == [
        "snapshot-incomplete",
        "stale-epoch",
        "stale-epoch",
    ]
    position = stream.node.position(stream.resource)
    assert (position["seq"], position["loaded"]) == (3, {"epoch": 0, "seq": 0})
    stream.new_epoch("rejected")
    assert stream.load(stream.next(ROWS))["state"] == "loaded"


# --- position and receipt ---------------------------------------------------------


def test_position_of_an_empty_stream(stream: Stream) -> None:
    """Epoch 0, seq 0, nulls; not proven."""
    position = stream.node.position(stream.resource)
    wanted = {"epoch": 0, "seq": 0, "digest": None, "incarnation": None}
    assert wanted.items() <= position.items()
    assert position["loaded"] == {"epoch": 0, "seq": 0}
    assert position["proven"] is False


def test_position_follows_the_stored_batch(stream: Stream) -> None:
    """Epoch, seq, digest and incarnation of the last stored batch."""
    batch = stream.next(ROWS)
    stream.load(batch)
    position = stream.node.position(stream.resource)
    wanted = {"seq": 1, "digest": batch.digest, "incarnation": INCARNATION}
    assert wanted.items() <= position.items()
    assert position["loaded"] == {"epoch": 1, "seq": 1}


def test_signatures_are_by_the_directorys_receipt_key(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Receipt, position and directory verify with the pinned kid."""
    node = stream.node
    stream.push(stream.next(ROWS))
    text = node.get("/v1/directory").body.decode()
    (exchange,) = payload(text)["files"]["exchange.json"]["exchanges"]
    jwk = exchange["keys"][0]
    purposes = [key["purpose"] for key in exchange["keys"]]
    assert purposes == ["receipt", "witness", "command"]
    assert exchange["aud"] == sandbox.aud
    assert exchange["endpoints"] == [sandbox.url]
    verify(text, jwk)
    query = {"resource": stream.resource, "epoch": 1, "seq": 1}
    verify(node.get("/v1/receipt", **query).body.decode(), jwk)
    query = {"resource": stream.resource, "nonce": "n" * 22}
    assert verify(node.get("/v1/position", **query).body.decode(), jwk)["nonce"] == (
        "n" * 22
    )


@pytest.mark.parametrize("nonce", ["", "n" * 21, "n" * 65, "n" * 21 + "+"])
def test_position_needs_a_nonce(stream: Stream, nonce: str) -> None:
    """22-64 base64url characters."""
    answer = stream.node.get("/v1/position", resource=stream.resource, nonce=nonce)
    assert (answer.status, answer.problem) == (400, "malformed")


def test_foreign_position_and_receipt_are_not_found(
    stream: Stream, stranger: Node
) -> None:
    """Another node's resource answers 404."""
    stream.push(stream.next(ROWS))
    for path, query in (
        ("/v1/position", {"nonce": "n" * 22}),
        ("/v1/receipt", {"epoch": 1, "seq": 1}),
    ):
        answer = stranger.get(path, resource=stream.resource, **query)
        assert (answer.status, answer.problem) == (404, "not-found")


def test_unknown_receipt_is_not_found(stream: Stream) -> None:
    """Nothing was stored under that number."""
    answer = stream.node.get("/v1/receipt", resource=stream.resource, epoch=1, seq=1)
    assert (answer.status, answer.problem) == (404, "not-found")


@pytest.mark.parametrize("query", [{"epoch": "x"}, {"seq": "-1"}, {"resource": "a"}])
def test_broken_receipt_query_is_malformed(
    stream: Stream, query: dict[str, str]
) -> None:
    """Numbers are digits, resources are resources."""
    whole = {"resource": stream.resource, "epoch": "1", "seq": "1"} | query
    answer = stream.node.get("/v1/receipt", **whole)
    assert (answer.status, answer.problem) == (400, "malformed")


# --- catalogs ---------------------------------------------------------------------


def test_catalog_is_created_once(node: Node, resource: str) -> None:
    """201, then 200 for the same statement."""
    stream = Stream(node, resource)
    assert [stream.put_catalog().status for _ in range(2)] == [201, 200]


def test_first_catalog_gives_the_resource_to_its_node(
    node: Node, resource: str
) -> None:
    """The directory lists the owner from then on."""
    Stream(node, resource).put_catalog()
    files = payload(node.get("/v1/directory").body.decode())["files"]
    owned = files[f"directory/{node.node[:18]}.json"]["resources"]
    assert {"resource": resource, "node": node.node} in owned


def test_version_used_again_is_a_fork(stream: Stream) -> None:
    """A version has one digest."""
    twin = stream.catalog(1, ITEMS[:2])
    answer = stream.node.ask("PUT", "/v1/catalog", twin.encode())
    assert (answer.status, answer.problem) == (422, "fork")


def test_versions_only_grow(stream: Stream) -> None:
    """A version below the newest that was never seen is refused."""
    stream.follow(5, ITEMS)
    answer = stream.node.ask("PUT", "/v1/catalog", stream.catalog(3, ITEMS).encode())
    assert (answer.status, answer.problem) == (422, "fork")


@pytest.mark.parametrize(
    "items",
    [
        [],
        ITEMS[1:],
        [ITEMS[0], ITEMS[1] | {"name": "ID"}],
        [ITEMS[0], ITEMS[1] | {"name": "id"}],
        [ITEMS[0] | {"type": "B", "length": None}],
        [ITEMS[0], ITEMS[1] | {"share": "3"}],
        [ITEMS[0], ITEMS[1] | {"length": 4001}],
        [ITEMS[0], ITEMS[1] | {"extra": 1}],
    ],
    ids=["none", "no key", "case", "twice", "float key", "share", "length", "member"],
)
def test_catalog_that_breaks_a_rule_is_malformed(
    node: Node, resource: str, items: list[dict[str, Any]]
) -> None:
    """1-8 keys of key types, unique names, known members only."""
    answer = Stream(node, resource, items=items).put_catalog()
    assert (answer.status, answer.problem) == (400, "malformed")


def test_catalog_of_another_producer_is_forbidden(
    node: Node, stranger: Node, resource: str
) -> None:
    """producer must be the certificate's node."""
    statement = Stream(node, resource).statement
    answer = stranger.ask("PUT", "/v1/catalog", statement.encode())
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_catalog_with_a_broken_signature_is_refused(node: Node, resource: str) -> None:
    """Nothing is believed that is not signed."""
    statement = Stream(node, resource).statement
    head, _, signature = statement.rpartition(".")
    broken = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    answer = node.ask("PUT", "/v1/catalog", broken.encode())
    assert (answer.status, answer.problem) == (422, "bad-signature")


def test_catalog_digest_is_its_message_digest(stream: Stream) -> None:
    """What a batch names is the statement's signing input."""
    batch = stream.next(ROWS)
    assert batch.manifest["catalog"]["digest"] == digest(stream.statement)
    stream.push(batch)


def test_unknown_route_is_not_found(node: Node) -> None:
    """404 is a problem document too."""
    answer = node.get("/v1/nothing")
    assert (answer.status, answer.problem) == (404, "not-found")
