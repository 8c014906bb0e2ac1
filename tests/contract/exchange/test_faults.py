# SPDX-License-Identifier: Apache-2.0
"""The fault switches do what they say, as often as they say, and harm nothing."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from tests.support.exchange_client import Node, Stream, payload, verify
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

ROWS: list[tuple[Any, ...]] = [("u", "1", "张三", 30)]
NONCE = "n" * 22


def position(stream: Stream) -> Any:
    return stream.node.get("/v1/position", resource=stream.resource, nonce=NONCE)


def receipt_key(node: Node) -> dict[str, str]:
    files = payload(node.get("/v1/directory").body.decode())["files"]
    found: dict[str, str] = files["exchange.json"]["exchanges"][0]["keys"][0]
    return found


def test_drop_before_changes_nothing(sandbox: SandboxProcess, stream: Stream) -> None:
    """The connection is cut before the request is handled."""
    sandbox.faults({"kind": "drop", "count": 1, "route": "POST /v1/batches"})
    batch = stream.next(ROWS)
    with pytest.raises((OSError, HTTPException)):
        stream.node.send(batch)
    assert stream.node.position(stream.resource)["seq"] == 0
    stream.push(batch)


def test_drop_after_loses_the_answer_only(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """The batch is stored, the receipt is lost; it can be asked for."""
    sandbox.faults({"kind": "drop", "count": 1, "route": "POST", "when": "after"})
    batch = stream.next(ROWS)
    with pytest.raises((OSError, HTTPException)):
        stream.node.send(batch)
    assert stream.node.receipt(1, 1, stream.resource)["manifest"] == batch.digest


def test_cut_keeps_what_came(sandbox: SandboxProcess, stream: Stream) -> None:
    """After N bytes of a body the line is dead; they are synced."""
    data = stream.next(ROWS).file()
    location = stream.node.create(len(data)).headers["Location"]
    sandbox.faults({"kind": "cut", "count": 1, "bytes": 300, "route": "PATCH"})
    with pytest.raises((OSError, HTTPException)):
        stream.node.patch(location, 0, data)
    assert stream.node.head(location).headers["Upload-Offset"] == "300"


def test_delay_waits(sandbox: SandboxProcess, stream: Stream) -> None:
    """Seconds pass before the request is handled."""
    sandbox.faults({"kind": "delay", "seconds": 1, "count": 1})
    began = time.monotonic()
    assert position(stream).status == 200
    assert time.monotonic() - began >= 1


def test_slow_reads_slowly(sandbox: SandboxProcess, stream: Stream) -> None:
    """Bytes per second of an upload."""
    data = stream.next(ROWS).file()
    sandbox.faults({"kind": "slow", "bytes_per_s": len(data) * 2, "count": 1})
    began = time.monotonic()
    assert stream.node.create(len(data), data).status == 201
    assert time.monotonic() - began >= 0.5


def test_count_and_skip(sandbox: SandboxProcess, stream: Stream) -> None:
    """The first request passes, the next two are hit, then it is over."""
    sandbox.faults({"kind": "status", "status": 502, "skip": 1, "count": 2})
    assert [position(stream).status for _ in range(4)] == [200, 502, 502, 200]
    assert sandbox.ask("GET", "/faults") == {"faults": []}


def test_without_count_a_switch_stays_on(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Until it is replaced."""
    sandbox.faults({"kind": "status", "status": 500})
    assert [position(stream).status for _ in range(3)] == [500] * 3
    sandbox.faults()
    assert position(stream).status == 200


def test_busy_asks_to_wait(sandbox: SandboxProcess, stream: Stream) -> None:
    """503, problem busy, Retry-After."""
    sandbox.faults({"kind": "busy", "count": 1, "retry_after": 9})
    answer = position(stream)
    assert (answer.status, answer.problem) == (503, "busy")
    assert answer.headers["Retry-After"] == "9"


def test_redirect_points_elsewhere(sandbox: SandboxProcess, stream: Stream) -> None:
    """307, which no agent may follow."""
    place = "https://192.0.2.1/"
    sandbox.faults({"kind": "redirect", "location": place, "count": 1})
    answer = position(stream)
    assert (answer.status, answer.headers["Location"]) == (307, place)


def test_clock_is_off_in_date_and_signatures(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """One hour ahead, everywhere the clock shows."""
    sandbox.faults({"kind": "clock", "seconds": 3600})
    answer = position(stream)
    shown = parsedate_to_datetime(answer.headers["Date"])
    assert 3590 < (shown - datetime.now(UTC)).total_seconds() < 3610
    iat = payload(answer.body.decode())["iat"]
    assert 3590 < iat - time.time() < 3610


@pytest.mark.parametrize("lie", ["bad-signature", "unknown-key"])
def test_receipt_with_a_false_signature(
    sandbox: SandboxProcess, stream: Stream, lie: str
) -> None:
    """It looks like the exchange's and does not verify."""
    jwk = receipt_key(stream.node)
    sandbox.faults({"kind": "receipt", "lie": lie, "count": 1})
    answer = stream.node.send(stream.next(ROWS))
    with pytest.raises(InvalidSignature):
        verify(answer.headers["Fep-Receipt"], jwk)


@pytest.mark.parametrize(
    ("lie", "member"), [("other-batch", "manifest"), ("wrong-exchange", "exchange")]
)
def test_receipt_that_verifies_but_lies(
    sandbox: SandboxProcess, stream: Stream, lie: str, member: str
) -> None:
    """Signed well, and about something else; the kept one is true."""
    jwk = receipt_key(stream.node)
    sandbox.faults({"kind": "receipt", "lie": lie, "count": 1})
    answer = stream.node.send(stream.next(ROWS))
    false = verify(answer.headers["Fep-Receipt"], jwk)
    true = stream.node.wait_receipt(1, 1, stream.resource)
    assert false[member] != true[member]


@pytest.mark.parametrize("lie", ["bad-signature", "wrong-nonce"])
def test_false_position(sandbox: SandboxProcess, stream: Stream, lie: str) -> None:
    """A position for another question, or signed by nobody."""
    jwk = receipt_key(stream.node)
    sandbox.faults({"kind": "position", "lie": lie, "count": 1})
    text = position(stream).body.decode()
    if lie == "wrong-nonce":
        assert verify(text, jwk)["nonce"] != NONCE
    else:
        with pytest.raises(InvalidSignature):
            verify(text, jwk)


@pytest.mark.parametrize(
    ("lie", "reason"),
    [("expired", "expired"), ("wrong-ca", "signature failure|self|unable to get")],
)
def test_server_certificate_that_no_client_may_trust(
    sandbox: SandboxProcess, stream: Stream, lie: str, reason: str
) -> None:
    """Expired, or by another authority of the same name; once, then the good one."""
    sandbox.faults({"kind": "tls", "lie": lie, "count": 1})
    with pytest.raises(ssl.SSLCertVerificationError, match=reason):
        position(stream)
    assert position(stream).status == 200


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "unknown"},
        {"kind": "delay"},
        {"kind": "drop", "when": "never"},
        {"kind": "receipt", "lie": "expired"},
        {"kind": "drop", "count": 0},
        {"kind": "drop", "sometimes": True},
    ],
    ids=str,
)
def test_switch_that_does_not_exist_is_refused(
    sandbox: SandboxProcess, fault: dict[str, Any]
) -> None:
    """A misspelt fault would make a test pass that proves nothing."""
    with pytest.raises(RuntimeError, match="malformed"):
        sandbox.faults(fault)


def test_state_and_digest_for_people(sandbox: SandboxProcess, stream: Stream) -> None:
    """The admin's socket shows streams, batches and the table's digest."""
    stream.load(stream.next(ROWS))
    state = sandbox.state()["streams"][stream.resource]
    assert (state["seq"], state["batches"]) == (1, {"loaded": 1})
    found = sandbox.ask("GET", f"/digest?resource={stream.resource}")
    assert found["rows"] == 1
    assert len(found["digest"]) == 32


def test_loading_can_wait(sandbox: SandboxProcess, stream: Stream) -> None:
    """With loading off a batch stays ``stored``."""
    sandbox.load(on=False)
    stream.push(stream.next(ROWS))
    assert sandbox.state()["waiting"]
    assert stream.node.receipt(1, 1, stream.resource)["state"] == "stored"
    sandbox.load(on=True)
    assert stream.node.wait_receipt(1, 1, stream.resource)["state"] == "loaded"
