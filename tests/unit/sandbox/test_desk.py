# SPDX-License-Identifier: Apache-2.0
"""What changes the registry, and the loader, without a network."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from agent.crypto.jose import PrivateKey, split
from agent.wire import batch as wire
from agent.wire import receipt as receipts
from agent.wire.grammar import format_time
from sandbox import directory, lies, reconcile
from sandbox.accept import Admit, Offer, Refused, Reject, Rules
from sandbox.desk import Desk
from sandbox.faults import Faults
from sandbox.load import Loader
from sandbox.options import Options
from sandbox.replies import Signer
from sandbox.store import Store, open_reader
from sandbox.tls import Client
from tests.support.exchange_client import GAJ, POPULATION, RSJ, Batch, Key, Stream

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)


class FakeNode:
    """Keys and a name; no network."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.tls, self.key = Key("tls"), Key("sign")
        self.statement = self.key_statement(1, [self.tls, self.key], self.key)
        digest = split(self.statement, cap=1 << 16).digest
        self.client = Client(node, digest, self.tls.kid, "f" * 64)

    def key_statement(self, n: int, keys: list[Key], signer: Key) -> str:
        body = {
            "v": 1,
            "node": self.node,
            "n": n,
            "keys": [k.jwk for k in keys],
            "not_before": "2026-11-21T08:00:00Z",
        }
        return signer.sign("fep-keys+jws", body)


@dataclass
class World:
    """An exchange's registry with one enrolled node and one stream."""

    folder: Path
    desk: Desk
    loader: Loader
    node: FakeNode
    stream: Stream

    def offer(self, batch: Batch) -> tuple[Any, Path]:
        """The verdict on line 1, and the whole file as uploaded."""
        file = self.folder / "upload"
        file.write_bytes(batch.file())
        line = batch.line.encode()
        found = Offer(line, len(batch.file()), self.node.node)
        return Rules("yunxi.exchange").judge(found, self.desk.store, now=NOW), file

    def push(self, batch: Batch) -> receipts.Receipt:
        verdict, file = self.offer(batch)
        assert isinstance(verdict, Admit), verdict
        text = self.desk.store_batch(verdict, file)
        self.stream.keep(batch)
        return read(text)


def read(text: str) -> receipts.Receipt:
    return receipts.parse(split(text, cap=1 << 16).payload)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    options = Options(tmp_path, delete_floor=1)
    store = Store(tmp_path / "centre.db")
    signer = Signer(PrivateKey.generate("receipt"), options.aud, lambda: NOW)
    batches = tmp_path / "batches"
    desk = Desk(store, signer, options, batches)
    node = FakeNode(RSJ)
    desk.bind_node(node.node, node.client.statement)
    assert desk.put_keys(node.client, node.statement.encode())
    stream = Stream(cast("Any", node))
    assert desk.put_catalog(node.client, stream.statement.encode())
    yield World(
        tmp_path, desk, Loader(store, signer, options, batches=batches), node, stream
    )
    store.close()


ROWS = [("u", "1", "a", 1)]


def test_stored_then_loaded(world: World) -> None:
    """The file has its place, the receipt follows the rows."""
    assert world.push(world.stream.next(ROWS)).state == "stored"
    assert not (world.folder / "upload").exists()
    assert world.loader.load_next() is not None
    assert world.loader.load_next() is None
    known = world.desk.store.batch(POPULATION, 1, 1)
    assert known is not None
    assert read(known.receipt).state == "loaded"


def test_rejection_during_an_upload_makes_it_stale(world: World) -> None:
    """Admitted at line 1, rejected by signature at its end."""
    first = world.stream.part(ROWS, total=9)
    world.push(first)
    verdict, file = world.offer(world.stream.next(ROWS))
    world.loader.load_next()
    found = read(world.desk.store_batch(verdict, file))
    assert (found.state, found.code) == ("rejected", "stale-epoch")
    assert not file.exists()


def test_same_batch_registered_twice_keeps_one(world: World) -> None:
    """Two uploads of one batch end with one receipt."""
    batch = world.stream.next(ROWS)
    verdict, file = world.offer(batch)
    first = world.desk.store_batch(verdict, file)
    file.write_bytes(batch.file())
    assert world.desk.store_batch(verdict, file) == first
    assert not file.exists()


def test_rejection_is_signed_once(world: World) -> None:
    """The same rejected message gets the same receipt."""
    verdict, _ = world.offer(world.stream.next(ROWS, agent=""))
    assert isinstance(verdict, Reject)
    assert world.desk.reject(verdict) == world.desk.reject(verdict)


def test_key_revoked_during_an_upload_is_refused(world: World) -> None:
    """Revoked is refused at once, at the time of receipt."""
    verdict, file = world.offer(world.stream.next(ROWS))
    world.desk.revoke(world.node.key.kid)
    with pytest.raises(Refused, match="revoked"):
        world.desk.store_batch(verdict, file)
    assert world.desk.store.stream(POPULATION).seq == 0


def test_failed_registration_leaves_nothing(world: World) -> None:
    """A refusal inside the transaction rolls all of it back."""
    verdict, file = world.offer(world.stream.next(ROWS))
    world.push(world.stream.next([("u", "2", "b", 2)]))
    file.write_bytes(b"x")
    with pytest.raises(Refused, match="another manifest"):
        world.desk.store_batch(verdict, file)
    assert world.desk.store.stream(POPULATION).seq == 1


def test_key_of_another_node_cannot_be_claimed(world: World) -> None:
    """A kid has one node."""
    thief = FakeNode(GAJ)
    body = [thief.tls, thief.key, world.node.key]
    thief.statement = thief.key_statement(1, body, thief.key)
    digest = split(thief.statement, cap=1 << 16).digest
    client = Client(GAJ, digest, thief.tls.kid, "e" * 64)
    world.desk.bind_node(GAJ, digest)
    with pytest.raises(Refused, match="another node's"):
        world.desk.put_keys(client, thief.statement.encode())
    assert world.desk.store.statements(GAJ) == []


def test_a_revoked_key_names_no_successor(world: World) -> None:
    """Whoever stole it would have a good key again."""
    node, thief = world.node, Key("sign")
    text = node.key_statement(2, [node.tls, node.key, thief], node.key)
    world.desk.revoke(node.key.kid)
    with pytest.raises(Refused, match="revoked") as e:
        world.desk.put_keys(node.client, text.encode())
    assert e.value.problem.code == "key-revoked"
    assert world.desk.store.key(thief.kid) is None


def test_unknown_key_cannot_be_revoked(world: World) -> None:
    """An admin hears of his typing error."""
    with pytest.raises(Refused, match="no such key"):
        world.desk.revoke("nonsense")


def test_tables_that_differ_by_case_have_names_of_their_own(world: World) -> None:
    """SQLite compares table names without case, resources do not."""
    store = world.desk.store
    store.add_owner("a/B", RSJ)
    store.add_owner("A/b", RSJ)
    assert store.table("a/B").lower() != store.table("A/b").lower()


def test_directory_shows_a_revoked_key(world: World) -> None:
    """revoked.json has kid and time; the department's file its status."""
    world.desk.revoke(world.node.key.kid)
    signer = world.desk.signer
    found = directory.build(
        world.desk.store,
        keys=[signer.key.public],
        aud=signer.aud,
        url="https://x",
        now=NOW,
    )
    assert found.revoked.kids == {world.node.key.kid: "2026-11-21T08:00:00Z"}
    status = found.key_status(RSJ, world.node.key.kid)
    assert status is not None
    assert status.status == "revoked"
    assert found.owner(POPULATION) == RSJ


def test_keys_of_a_node_that_enrols_anew_are_revoked_from_then_on(
    world: World,
) -> None:
    """Not from the day they were made: what they signed before stays evidence."""
    later = NOW + timedelta(days=300)
    world.desk.store.forget_node(world.node.node, reason="disc", now=later)
    found = directory.build(
        world.desk.store, keys=(), aud="yunxi.exchange", url="https://x", now=later
    )
    assert found.revoked.kids[world.node.key.kid] == format_time(later)


def test_readers_see_what_is_committed_and_write_nothing(world: World) -> None:
    """A reading connection is only that."""
    reader = open_reader(world.folder / "centre.db")
    world.push(world.stream.next(ROWS))
    assert reader.stream(POPULATION).seq == 1
    with pytest.raises(Exception, match="readonly"):
        reader.connection.execute("delete from owner")
    reader.connection.close()


def test_unknown_names_are_lookup_errors(world: World) -> None:
    """Asked for what nobody gave."""
    with pytest.raises(LookupError, match="no owner"):
        world.desk.store.table("990100/no/body")
    with pytest.raises(LookupError, match="not known"):
        world.desk.store.items("sha256:0")


def test_totals_of_the_centre(world: World) -> None:
    """Rows and digest; nothing before the first load."""
    database = world.folder / "centre.db"
    assert reconcile.totals(database, POPULATION) == (0, "0" * 32)
    world.push(world.stream.next(ROWS))
    world.loader.load_next()
    rows, digest = reconcile.totals(database, POPULATION)
    frames = b"\x01\0\0\0\x011" + b"\x01\0\0\0\x01a" + b"\x02\0\0\0\x011"
    assert (rows, digest) == (1, hashlib.sha256(frames).hexdigest()[:32])


@pytest.mark.parametrize(
    "lie", ["other-batch", "bad-signature", "wrong-exchange", "unknown-key"]
)
def test_false_receipts_differ_from_the_true_one(world: World, lie: str) -> None:
    """Each lie is one; without a switch the truth is told."""
    signer = world.desk.signer
    batch = wire.parse(split(world.stream.next(ROWS).line, cap=1 << 16).payload).id
    true = signer.receipt(batch, "sha256:" + "1" * 64, "stored")
    faults = Faults()
    faults.put({"faults": [{"kind": "receipt", "lie": lie, "count": 1}]})
    assert lies.show_receipt(true, faults, signer) != true
    assert lies.show_receipt(true, faults, signer) == true
