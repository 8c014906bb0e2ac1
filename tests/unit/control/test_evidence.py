# SPDX-License-Identifier: Apache-2.0
"""Batch files and receipts judged offline."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from agent.control.evidence import Verdict, examine
from agent.control.history import History
from agent.crypto.jose import PrivateKey, message_digest
from agent.errors import NotGenuine
from agent.model.batch import Quality, Rows
from agent.wire.batch import (
    CatalogRef,
    Content,
    Manifest,
    Snapshot,
    StreamRef,
    file_name,
)
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeEntry,
    ExchangeFile,
    NodeEntry,
    RevokedFile,
)
from agent.wire.keys import KeyStatement
from agent.wire.receipt import Receipt

USCC = "11990100MB0000018H"
NODE = f"{USCC}/rsj-fep1"
AUD = "yunxi.exchange"
RESOURCE = "101001/000001"
AT = "2026-11-21T08:00:00Z"
PAYLOAD = b"not arrow, but its digest counts"
RUN = "0193524c-7c00-7000-8000-000000000001"


@dataclass(frozen=True)
class World:
    """A node's and an exchange's key, and the directory that knows both."""

    folder: Path
    node: PrivateKey
    exchange: PrivateKey
    directory: Directory

    def examine(self, path: Path) -> Verdict:
        return examine(path, History((self.directory,)))

    def failed(self, path: Path) -> list[str]:
        return [c.check for c in self.examine(path).checks if c.ok is False]

    def batch(
        self, seq: int = 1, prev: str | None = None, key: PrivateKey | None = None
    ) -> tuple[Path, str]:
        """A sealed file of seq, and its message digest."""
        manifest = Manifest(
            aud=AUD,
            producer=NODE,
            resource=RESOURCE,
            catalog=CatalogRef(1, "sha256:" + "a" * 64),
            stream=StreamRef(1, seq, prev, "0" * 32, "first" if seq == 1 else None),
            content=Content(
                len(PAYLOAD), 100, "sha256:" + hashlib.sha256(PAYLOAD).hexdigest()
            ),
            rows=Rows(3, 0, 0),
            mode="full",
            snapshot=Snapshot(RUN, seq, final=False, rows=None),
            deletes_confirmed=None,
            as_of=AT,
            run_end=False,
            quality=Quality(3, 0, 0),
            sealed_at=AT,
            agent="fep-agent/0.1.0",
        )
        text = (key or self.node).sign("fep-batch+jws", manifest.payload())
        path = self.folder / file_name(manifest.id)
        path.write_bytes(text.encode() + b"\n" + PAYLOAD)
        return path, message_digest(text)

    def receipt(self, key: PrivateKey | None = None) -> Path:
        found = Receipt(
            exchange=AUD,
            producer=NODE,
            resource=RESOURCE,
            epoch=1,
            seq=1,
            manifest="sha256:" + "b" * 64,
            state="loaded",
            code=None,
            rows=Rows(3, 0, 0),
            at=AT,
        )
        text = (key or self.exchange).sign("fep-receipt+jws", found.payload())
        path = self.folder / "receipt.jws"
        path.write_text(text + "\n")
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Who may be believed."""
    node, exchange = PrivateKey.generate("sign"), PrivateKey.generate("receipt")
    statement = KeyStatement(NODE, 1, (node.public,), AT)
    signed = node.sign("fep-keys+jws", statement.payload())
    department = DepartmentFile(
        USCC, (NodeEntry(NODE, "active", (signed,), ()),), {RESOURCE: NODE}
    )
    entry = ExchangeEntry(AUD, (), ((exchange.public, "active"),))
    directory = Directory(
        1, {USCC: department}, ExchangeFile((entry,)), RevokedFile({}, {})
    )
    return World(tmp_path, node, exchange, directory)


def test_a_sealed_batch_is_genuine(world: World) -> None:
    """Signature and payload hold; there is nothing to compare the chain with."""
    path, digest = world.batch()
    verdict = world.examine(path)
    assert verdict.genuine
    assert (verdict.kind, verdict.digest) == ("batch", digest)
    assert [c.ok for c in verdict.checks] == [True, True, True, None, None]


def test_a_chain_holds_on_both_sides(world: World) -> None:
    """The neighbours in the folder name this batch and are named by it."""
    _, first = world.batch(1)
    middle, second = world.batch(2, prev=first)
    world.batch(3, prev=second)
    checks = {c.check: c.ok for c in world.examine(middle).checks}
    assert (checks["before"], checks["after"]) == (True, True)


def test_a_batch_put_in_between_shows(world: World) -> None:
    """A predecessor with another digest than `prev` is a broken chain."""
    world.batch(1)
    path, _ = world.batch(2, prev="sha256:" + "c" * 64)
    assert world.failed(path) == ["before"]


def test_a_successor_that_chains_to_another_shows(world: World) -> None:
    """So does a batch that was replaced after the next one was sealed."""
    path, _ = world.batch(1)
    world.batch(2, prev="sha256:" + "c" * 64)
    assert world.failed(path) == ["after"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data[:-1] + b"X",
    ],
    ids=["truncated", "longer", "flipped"],
)
def test_a_spoilt_payload_shows(world: World, spoil: Callable[[bytes], bytes]) -> None:
    """One byte less, more or other: the payload fails, the signature holds."""
    path, _ = world.batch()
    path.write_bytes(spoil(path.read_bytes()))
    assert world.failed(path) == ["payload"]


def test_a_line_1_without_its_end_is_not_genuine(world: World) -> None:
    """A batch of no rows ends with the LF: without it the file was cut."""
    path, _ = world.batch()
    line = path.read_bytes().partition(b"\n")[0]
    path.write_bytes(line)
    assert world.failed(path) == ["form"]


def test_a_receipt_with_something_behind_it_is_not_genuine(world: World) -> None:
    """Only what the exchange signed is evidence."""
    path = world.receipt()
    path.write_text(path.read_text() + "and 5,000 rows more")
    assert world.failed(path) == ["form"]


def test_a_strangers_signature_is_not_genuine(world: World) -> None:
    """A key that the directory does not have, whatever the manifest says."""
    path, _ = world.batch(key=PrivateKey.generate("sign"))
    assert world.failed(path) == ["signature"]


def test_a_revoked_node_is_not_believed(world: World) -> None:
    """What the directory revoked does not verify any more."""
    path, _ = world.batch()
    revoked = replace(world.directory, revoked=RevokedFile({}, {NODE: AT}))
    assert not examine(path, History((revoked,))).genuine


def test_another_name_is_no_fault(world: World) -> None:
    """Names are never trusted, line 1 is."""
    path, _ = world.batch()
    moved = path.rename(path.with_name("evidence.bin"))
    assert world.examine(moved).genuine


def test_a_receipt_is_genuine(world: World) -> None:
    """Signed by the exchange's receipt key."""
    verdict = world.examine(world.receipt())
    assert verdict.genuine
    assert verdict.facts["state"] == "loaded"


def test_a_receipt_of_another_key_is_not(world: World) -> None:
    """A receipt key that the directory does not have."""
    path = world.receipt(PrivateKey.generate("receipt"))
    assert world.failed(path) == ["signature"]


@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n", b"\xff" * 100, b"a.b.c\n", b"." * 200_000],
    ids=["empty", "text", "binary", "three", "huge"],
)
def test_garbage_is_a_verdict_not_a_crash(world: World, data: bytes) -> None:
    """Whatever the file holds, the form fails and nothing else is said."""
    path = world.folder / "x"
    path.write_bytes(data)
    verdict = world.examine(path)
    assert not verdict.genuine
    assert [c.check for c in verdict.checks] == ["form"]


def test_another_message_is_neither(world: World) -> None:
    """A key statement is signed, but is no evidence of a batch."""
    path = world.folder / "x"
    entry = world.directory.node(NODE)
    assert entry is not None
    path.write_text(entry.statements[0])
    assert not world.examine(path).genuine


def test_a_manifest_that_breaks_the_format_is_not_genuine(world: World) -> None:
    """Even with a good signature."""
    path = world.folder / "x"
    path.write_text(world.node.sign("fep-batch+jws", b'{"v":1}') + "\n")
    assert world.failed(path) == ["form"]


def test_a_missing_file_is_said(world: World) -> None:
    """NotGenuine with its name."""
    with pytest.raises(NotGenuine, match="nothing-here"):
        world.examine(world.folder / "nothing-here")
