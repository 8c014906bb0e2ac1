# SPDX-License-Identifier: Apache-2.0
"""What the exchange answers: receipts, positions, problems, reconcile replies."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from agent.errors import MalformedMessage
from agent.model.batch import BatchId, Rows
from agent.wire import position, problem, receipt, reconcile
from tests.support import vectors


def _json(name: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(vectors.message(name)["payload"])
    return found


def _bytes(obj: dict[str, object]) -> bytes:
    return json.dumps(obj).encode()


def test_receipt_names_its_batch():
    """Producer, exchange, resource, epoch and seq."""
    got = receipt.parse(vectors.message("receipt_loaded")["payload"].encode())
    assert got.id == BatchId(
        "11990100000000019F/front-1", "yunxi.exchange", "990100001/000001", 1, 1
    )
    assert (got.state, got.rows) == ("loaded", Rows(2, 0, 1))


@pytest.mark.parametrize(
    ("name", "parse"),
    [
        ("receipt_stored", receipt.parse),
        ("position", position.parse),
        ("reconcile_response", reconcile.parse_response),
    ],
)
def test_members_of_a_later_version_are_ignored(name: str, parse):
    """An older agent reads a newer exchange's answers."""
    obj = _json(name)
    assert parse(_bytes({**obj, "later": {"x": [1]}})) == parse(_bytes(obj))


def test_later_members_inside_an_answer_are_ignored():
    """At inner levels too."""
    obj = _json("receipt_loaded")
    rows = {"upsert": 2, "delete": 0, "keep": 1, "later": 1}
    assert receipt.parse(_bytes({**obj, "rows": rows})).rows == Rows(2, 0, 1)


def test_receipt_of_the_longest_names_fits_its_cap():
    """2 KiB hold the longest identifiers of the grammar."""
    got = receipt.Receipt(
        exchange="a" * 64,
        producer="11990100000000019F/" + "a" * 32,
        resource="/".join(["a" * 32] * 4),
        epoch=2**53 - 1,
        seq=2**53 - 1,
        manifest="sha256:" + "a" * 64,
        state="rejected",
        code="a" * 64,
        rows=Rows(2**53 - 1, 2**53 - 1, 2**53 - 1),
        at="2026-11-21T08:00:00.123456Z",
    )
    text = vectors.key("receipt").sign(receipt.TYP, got.payload())
    assert len(text) <= receipt.CAP


def test_answer_that_would_be_refused_is_never_formatted():
    """The exchange learns of its own fault before it signs."""
    got = receipt.parse(_bytes(_json("receipt_stored")))
    stands = position.parse(_bytes(_json("position")))
    for wrong in (
        replace(got, code="fork"),
        replace(got, at="now"),
        replace(stands, loaded=(0, 1)),
        replace(stands, nonce="short"),
        replace(stands, epoch=0),
    ):
        with pytest.raises(MalformedMessage):
            wrong.payload()


def test_empty_stream_stands_at_zero():
    """Epoch 0, seq 0, no digest, no incarnation, nothing loaded."""
    empty = position.parse(_bytes(_json("position_empty")))
    assert (empty.epoch, empty.seq, empty.loaded) == (0, 0, (0, 0))
    assert (empty.digest, empty.incarnation, empty.proven) == (None, None, False)


@pytest.mark.parametrize("code", sorted(problem.CODES))
def test_problem_survives(code: str):
    """Code, status, detail and members come back."""
    made = problem.Problem.of(code, "why", expected_epoch=2, expected_seq=5)
    assert problem.parse(made.body(), status=made.status) == made


def test_problem_s_detail_has_nothing_that_steers_a_terminal():
    """Escapes, line ends and marks of direction become blanks."""
    body = problem.Problem.of("busy", "a\x1b[2Jb\r\nc\u202ed 满").body()
    assert problem.parse(body, status=503).detail == "a [2Jb  c d 满"


def test_problem_s_status_is_the_response_s():
    """What a document says of its own status does not count."""
    body = problem.Problem.of("busy").body()
    assert problem.parse(body, status=429).status == 429


def test_problem_with_an_unknown_code_keeps_it():
    """A later exchange may have codes that we do not know."""
    body = b'{"type":"urn:fep:problem:brand-new","title":"x"}'
    got = problem.parse(body, status=422)
    assert (got.code, got.members) == ("brand-new", {"title": "x"})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>502</html>",
        b'{"type":"about:blank"}',
        b'{"type":"urn:fep:problem:"}',
        b'{"type":"urn:fep:problem:A B"}',
        b'{"type":7}',
        b'{"type":"urn:fep:problem:busy","detail":7}',
        b'{"status":400}',
        b'{"type":"urn:fep:problem:busy","x":"' + b"a" * problem.CAP + b'"}',
    ],
    ids=["none", "html", "blank", "no code", "bad code", "7", "detail", "type", "big"],
)
def test_other_bodies_are_no_problem_of_ours(body: bytes):
    """A proxy's page is our error, never a crash."""
    with pytest.raises(MalformedMessage):
        problem.parse(body, status=502)


def test_reconcile_request_and_reply_belong_together():
    """The reply names the request's jti and digest."""
    asked = reconcile.parse_request(
        vectors.message("reconcile_request")["payload"].encode()
    )
    got = reconcile.parse_response(
        vectors.message("reconcile_response")["payload"].encode()
    )
    assert got.irt == asked.jti
    assert got.req_sha256 == vectors.message("reconcile_request")["digest"]
    assert (got.bits, len(got.buckets)) == (asked.bits, 2)


def test_reconcile_without_detail():
    """Status asks with 0 bits and gets one bucket."""
    asked = replace(
        reconcile.parse_request(_bytes(_json("reconcile_request"))),
        bits=0,
        detail=None,
    )
    assert reconcile.parse_request(asked.payload()) == asked
    got = reconcile.parse_response(_bytes(_json("reconcile_response")))
    whole = replace(got, bits=0, buckets=((2, "0" * 32),), detail=None)
    assert reconcile.parse_response(whole.payload()) == whole


def test_complaint_about_keys_holds_no_key():
    """Key texts are personal: they never reach a message of ours."""
    obj = _json("reconcile_response")
    obj["detail"] = [[0, ["110101199003070011"], "nonsense"]]
    with pytest.raises(MalformedMessage) as caught:
        reconcile.parse_response(_bytes(obj))
    assert "1101" not in str(caught.value)


def test_largest_bits_that_fit_the_reply():
    """16 bits of buckets exceed the cap of the text; 15 fit."""
    got = reconcile.parse_response(_bytes(_json("reconcile_response")))
    buckets = ((0, "0" * 32),) * 2**15
    big = replace(got, bits=15, buckets=buckets, rows=0, detail=None)
    text = vectors.key("receipt").sign(reconcile.TYP_RESPONSE, big.payload())
    assert len(text) < reconcile.RESPONSE_CAP
