# SPDX-License-Identifier: Apache-2.0
"""Digests of the centre's rows (wire.md §3, Reconcile)."""

from __future__ import annotations

import hashlib
import struct
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.support.exchange_client import (
    SCHEMA,
    Answer,
    Node,
    Stream,
    digest,
    payload,
    verify,
)
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

JTI = "01934b00-0000-7000-8000-0000000000ff"


def request(stream: Stream, **changes: Any) -> str:
    body = {
        "v": 1,
        "iss": stream.node.node,
        "aud": "yunxi.exchange",
        "jti": JTI,
        "iat": 1_790_000_000,
        "resource": stream.resource,
        "epoch": stream.epoch,
        "seq": stream.seq,
        "catalog": digest(stream.statement),
        "canon": 1,
        "bits": 0,
        "detail": None,
    } | changes
    return stream.node.key.sign("fep-reconcile-req+jws", body)


def post(node: Node, text: str) -> Answer:
    return node.ask("POST", "/v1/reconcile", text.encode())


def ask(stream: Stream, **changes: Any) -> dict[str, Any]:
    answer = post(stream.node, request(stream, **changes))
    assert answer.status == 200, answer.body
    return payload(answer.body.decode())


def refusal(stream: Stream, **changes: Any) -> tuple[int, str]:
    answer = post(stream.node, request(stream, **changes))
    return answer.status, answer.problem


def frame(kind: int, data: bytes) -> bytes:
    return struct.pack(">BI", kind, len(data)) + data


@pytest.fixture
def loaded(stream: Stream) -> Stream:
    """Forty rows at the centre."""
    rows = [("u", f"{i:02d}", "名", i) for i in range(40)]
    assert stream.load(stream.part(rows, total=40))["state"] == "loaded"
    return stream


def row_digest(i: int) -> int:
    frames = frame(1, b"%02d" % i) + frame(1, "名".encode()) + frame(2, b"%d" % i)
    return int.from_bytes(hashlib.sha256(frames).digest()[:16], "big")


def bucket(i: int, bits: int) -> int:
    head = hashlib.sha256(frame(1, b"%02d" % i)).digest()[:4]
    return int.from_bytes(head, "big") >> (32 - bits)


def test_wire_vectors_come_out_of_the_centres_table(node: Node, resource: str) -> None:
    """The two rows of wire.md, loaded and read back, have its digests."""
    kinds = [
        ("id", "C", 18, None, pa.string()),
        ("name", "C", 30, None, pa.string()),
        ("n", "N", 12, 2, pa.decimal128(12, 2)),
        ("t", "T", None, None, pa.timestamp("us", "UTC")),
        ("d", "D", None, None, pa.date32()),
        ("l", "L", None, None, pa.bool_()),
        ("f", "F", None, None, pa.float64()),
        ("g", "G", None, None, pa.binary()),
        ("m", "M", None, None, pa.string()),
    ]
    items = [
        {
            "name": n,
            "type": t,
            "length": length,
            "scale": scale,
            "key": n == "id",
            "share": "1",
        }
        for n, t, length, scale, _ in kinds
    ]
    fields = [pa.field(n, kind, n != "id") for n, _, _, _, kind in kinds]
    stream = Stream(
        node, resource, items=items, schema=pa.schema([SCHEMA.field(0), *fields])
    )
    assert stream.put_catalog().status == 201
    one = (
        "u",
        "110101199003070011",
        "张三",
        Decimal("100.00"),
        datetime(2026, 11, 21, 8, tzinfo=UTC),
        date(1990, 3, 7),
        True,
        0.1,
        b"\x00\xff",
        None,
    )
    two = (
        "u",
        "110101199003070022",
        "李四 ",
        Decimal("-0.00"),
        datetime(1969, 12, 31, 23, 59, 59, 123456, UTC),
        date(1, 1, 1),
        False,
        -0.0,
        b"",
        "",
    )
    stream.load(stream.next([one, two]))
    reply = ask(stream)
    assert reply["buckets"] == [[2, "d28cc07217a05aa4b3aa6e3a081ab547"]]
    detail = ask(stream, detail=[0])["detail"]
    assert [d[2] for d in sorted(detail, key=lambda d: d[1])] == [
        "5537c57f9b8173378af31a0ff977e4de",
        "7d54faf27c1ee76d28b7542a0ea2d069",
    ]


def test_zero_bits_is_the_whole_table(loaded: Stream) -> None:
    """One bucket with every row: what status prints."""
    total = sum(row_digest(i) for i in range(40)) % (1 << 128)
    reply = ask(loaded)
    assert (reply["rows"], reply["buckets"]) == (40, [[40, f"{total:032x}"]])


@pytest.mark.parametrize("bits", [1, 4, 16])
def test_buckets_are_by_the_first_bits_of_the_key(loaded: Stream, bits: int) -> None:
    """Exactly 2^bits buckets in order, empty ones too."""
    wanted = [[0, 0] for _ in range(1 << bits)]
    for i in range(40):
        wanted[bucket(i, bits)][0] += 1
        wanted[bucket(i, bits)][1] += row_digest(i)
    buckets = ask(loaded, bits=bits)["buckets"]
    assert buckets == [[rows, f"{s % (1 << 128):032x}"] for rows, s in wanted]


def test_detail_lists_the_keys_of_the_asked_buckets(loaded: Stream) -> None:
    """Bucket, key texts and row digest, for those buckets only."""
    wanted = {i for i in range(40) if bucket(i, 4) in (3, 5)}
    detail = ask(loaded, bits=4, detail=[3, 5])["detail"]
    assert {int(key) for _, (key,), _ in detail} == wanted
    assert {d for _, _, d in detail} == {f"{row_digest(i):032x}" for i in wanted}
    assert {b for b, _, _ in detail} <= {3, 5}


def test_reply_is_tied_to_the_request(sandbox: SandboxProcess, loaded: Stream) -> None:
    """irt, req_sha256 and the exchange's signature."""
    text = request(loaded)
    message = post(loaded.node, text).body.decode()
    directory = payload(loaded.node.get("/v1/directory").body.decode())["files"]
    jwk = directory["exchange.json"]["exchanges"][0]["keys"][0]
    reply = verify(message, jwk)
    assert (reply["irt"], reply["req_sha256"]) == (JTI, digest(text))
    assert (reply["iss"], reply["aud"]) == (sandbox.aud, loaded.node.node)


def test_empty_stream_has_an_empty_table(stream: Stream) -> None:
    """Nothing loaded yet: position 0, 0 has no rows."""
    reply = ask(stream, epoch=0, seq=0)
    assert reply["buckets"] == [[0, "0" * 32]]


def test_later_batch_than_the_loaded_is_busy(loaded: Stream) -> None:
    """Ask again when it is loaded."""
    assert refusal(loaded, seq=2) == (503, "busy")


def test_earlier_batch_than_the_loaded_is_stale(loaded: Stream) -> None:
    """Rows as they once were cannot be told."""
    loaded.load(loaded.next([("u", "99", "新", 1)]))
    assert refusal(loaded, seq=1) == (422, "stale-epoch")


def test_other_catalog_is_catalog_unknown(loaded: Stream) -> None:
    """Digests are by the items of the table."""
    assert refusal(loaded, catalog="sha256:" + "0" * 64) == (422, "catalog-unknown")


def test_reply_above_four_mib_is_too_large(stream: Stream) -> None:
    """The asker chooses more bits, or fewer buckets."""
    rows = [("u", f"{i:018d}", None, None) for i in range(60_000)]
    assert stream.load(stream.part(rows, total=60_000))["state"] == "loaded"
    assert refusal(stream, detail=[0]) == (413, "too-large")
    assert ask(stream, bits=8, detail=[0, 255])["rows"] == 60_000


def test_rows_changed_behind_its_back_show_in_the_answer(
    sandbox: SandboxProcess, loaded: Stream
) -> None:
    """It reads its table, not its memory: the chain stands where it stood."""
    before = ask(loaded)
    sandbox.tamper(loaded.resource, alter=2, remove=3, add=1)
    after = ask(loaded, bits=0, detail=[0])
    assert before["seq"] == after["seq"] == loaded.seq
    assert after["rows"] == len(after["detail"]) == 40 - 3 + 1
    digests = {key: text for _, (key,), text in after["detail"]}
    ours = {f"{i:02d}": f"{row_digest(i):032x}" for i in range(40)}
    assert sorted(ours.keys() - digests.keys()) == ["02", "03", "04"]
    assert len(digests.keys() - ours.keys()) == 1
    assert sum(digests[k] != ours[k] for k in digests.keys() & ours.keys()) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"bits": 17},
        {"canon": 2},
        {"detail": [2]},
        {"detail": [0, 0]},
        {"jti": "x"},
        {"extra": 1},
        {"iat": 1.5},
    ],
    ids=lambda c: next(iter(c)),
)
def test_request_that_breaks_the_shape_is_malformed(
    loaded: Stream, changes: dict[str, Any]
) -> None:
    """Unknown members, wrong ranges, other canon."""
    assert refusal(loaded, **changes) == (400, "malformed")


def test_request_for_another_exchange_is_refused(loaded: Stream) -> None:
    """aud must be this exchange."""
    assert refusal(loaded, aud="another.exchange") == (422, "wrong-exchange")


def test_request_by_another_certificate_is_forbidden(
    loaded: Stream, stranger: Node
) -> None:
    """iss must be the certificate's node."""
    answer = post(stranger, request(loaded))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_foreign_resource_is_not_found(loaded: Stream, stranger: Node) -> None:
    """Another node's resource answers 404."""
    mine = Stream(stranger, loaded.resource)
    answer = post(stranger, request(mine, epoch=1, seq=1))
    assert (answer.status, answer.problem) == (404, "not-found")


def test_request_with_a_broken_signature_is_refused(loaded: Stream) -> None:
    """Nothing is told to who did not sign."""
    head, _, signature = request(loaded).rpartition(".")
    broken = f"{head}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    answer = post(loaded.node, broken)
    assert (answer.status, answer.problem) == (422, "bad-signature")
