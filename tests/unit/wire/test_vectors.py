# SPDX-License-Identifier: Apache-2.0
"""Every message and payload of the golden vectors."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from typing import Any

import pytest

from agent.crypto import jose
from agent.errors import BadPayload, BadSignature, MalformedMessage
from agent.model.batch import Rows
from agent.wire import (
    arrow,
    batch,
    catalog,
    directory,
    keys,
    position,
    receipt,
    reconcile,
)
from tests.support import vectors

PARSE: dict[str, Callable[[bytes], Any]] = {
    batch.TYP: batch.parse,
    catalog.TYP: catalog.parse,
    directory.TYP: directory.parse,
    keys.TYP: keys.parse,
    position.TYP: position.parse,
    receipt.TYP: receipt.parse,
    reconcile.TYP_REQUEST: reconcile.parse_request,
    reconcile.TYP_RESPONSE: reconcile.parse_response,
}
MESSAGES = vectors.load("wire.json")["messages"]
REFUSED = vectors.load("wire_refused.json")["messages"]
PAYLOADS = vectors.load("payload_refused.json")["payloads"]
SAMPLE = vectors.VECTORS / "990100001_000001.1.1.fepb"


def _name(case: dict[str, Any]) -> str:
    return str(case["name"])


@pytest.mark.parametrize("case", MESSAGES, ids=_name)
def test_recorded_signature_verifies(case: dict[str, str]):
    """The recorded message verifies and holds the pinned payload and digest."""
    key = vectors.key(case["key"]).public
    message = jose.verify(jose.split(case["jws"], cap=65_535), key, typ=case["typ"])
    assert key.kid == case["kid"]
    assert message.payload.decode() == case["payload"]
    assert message.digest == case["digest"]


@pytest.mark.parametrize("case", MESSAGES, ids=_name)
def test_signing_gives_the_pinned_bytes(case: dict[str, str]):
    """Header and payload are byte for byte what they were."""
    text = vectors.key(case["key"]).sign(case["typ"], case["payload"].encode())
    assert text.rpartition(".")[0] == case["signing_input"]


@pytest.mark.parametrize("case", MESSAGES, ids=_name)
def test_parsing_and_formatting_gives_the_pinned_payload(case: dict[str, str]):
    """Nothing is lost, reordered or added between the bytes and the value."""
    value = PARSE[case["typ"]](case["payload"].encode())
    assert value.payload().decode() == case["payload"]


@pytest.mark.parametrize("case", REFUSED, ids=_name)
def test_message_that_must_be_refused_is(case: dict[str, Any]):
    """Each is refused with our error, at the latest when it is parsed."""
    key = vectors.key(case["key"]).public

    def receive() -> None:
        message = jose.split(case["text"], cap=case["cap"])
        PARSE[case["typ"]](jose.verify(message, key, typ=case["typ"]).payload)

    with pytest.raises((MalformedMessage, BadSignature)) as caught:
        receive()
    assert len(caught.value.detail) < 250


@pytest.mark.parametrize("case", PAYLOADS, ids=_name)
def test_payload_that_must_be_refused_is(case: dict[str, Any]):
    """Each is bad-payload, at the latest when its iterator ends."""
    rows = arrow.read_payload(
        base64.b64decode(case["base64"]),
        vectors.items(),
        mode=case["mode"],
        raw_size=case["raw_size"],
        rows=Rows(**case["rows"]),
    )
    with pytest.raises(BadPayload):
        list(rows)


def test_sample_file_is_the_batch_that_its_line_says():
    """Line 1, size, digest, raw size, rows and digests of the sample agree."""
    line = batch.read_line1(SAMPLE)
    assert line.decode() == vectors.message("batch_full")["jws"]
    manifest = batch.parse(jose.split(line, cap=batch.MESSAGE_CAP).payload)
    assert batch.file_name(manifest.id) == SAMPLE.name
    payload = SAMPLE.read_bytes()[len(line) + 1 :]
    assert len(payload) == manifest.content.size
    digest = "sha256:" + hashlib.sha256(payload).hexdigest()
    assert digest == manifest.content.digest
    assert arrow.raw_size(payload) == manifest.content.raw_size
    (rows,) = arrow.read_payload(
        payload,
        vectors.items(),
        mode=manifest.mode,
        raw_size=manifest.content.raw_size,
        rows=manifest.rows,
    )
    pinned = vectors.load("rows.json")
    upserts = rows.slice(0, manifest.rows.upsert)
    assert f"{arrow.row_digest_sum(upserts, vectors.items()):032x}" == pinned["sum"]


def test_sample_names_the_catalog_and_rows_of_the_vectors():
    """The sample's catalog statement is the pinned one, with the pinned items."""
    text = vectors.message("catalog")
    statement = catalog.parse(text["payload"].encode())
    manifest = batch.parse(vectors.message("batch_full")["payload"].encode())
    assert statement.items == vectors.items()
    assert manifest.catalog == batch.CatalogRef(statement.version, text["digest"])
