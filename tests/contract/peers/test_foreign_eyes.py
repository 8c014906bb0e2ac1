# SPDX-License-Identifier: Apache-2.0
"""What our agent and exchange sign, judged by npm jose; tus-js-client as a sender."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import peers
from tests.support.agent_process import PERSONS, AgentProcess
from tests.support.exchange_client import Node, Stream, digest
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract


def keys_of(directory: dict[str, Any]) -> list[dict[str, str]]:
    """Every public JWK that a directory holds."""
    statements = [
        statement
        for path, body in directory["files"].items()
        if path.startswith("directory/")
        for node in body["nodes"]
        for statement in node["statements"]
    ]
    entries = directory["files"]["exchange.json"]["exchanges"]
    return [
        *(key for text in statements for key in part(text, 1)["keys"]),
        *(key for entry in entries for key in entry["keys"]),
    ]


def part(text: str, i: int) -> dict[str, Any]:
    """Header (0) or payload (1) of a compact JWS, unverified."""
    piece = text.split(".")[i]
    body: dict[str, Any] = json.loads(
        base64.urlsafe_b64decode(piece + "=" * (-len(piece) % 4))
    )
    return body


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Manifest, receipts and directory of one real push."""
    folder = tmp_path_factory.mktemp("eyes")
    with running_sandbox(folder / "centre") as sandbox:
        agent = AgentProcess(folder / "agent", sandbox)
        agent.fep("enrol")
        with agent.running():
            agent.fep("pull", PERSONS, "--wait")
            batch = agent.fep("spool", "show", PERSONS, "1", "1")
            path = Path(batch["path"])
            line1 = path.read_bytes().split(b"\n", 1)[0].decode("ascii")
        witness = Node(sandbox.address, sandbox.ca, folder / "witness")
        witness.node = "11990100MB0000018H/witness"
        witness.statement = witness.key_statement(
            1, [witness.tls, witness.key], witness.key
        )
        witness.enrol()
        directory = witness.get("/v1/directory").body.decode("ascii")
    return {
        "manifest": line1,
        "receipts": [receipt["jws"] for receipt in batch["receipts"]],
        "directory": directory,
    }


def judged(signed: dict[str, Any], jws: str, typ: str) -> dict[str, Any]:
    """What npm jose says of a message."""
    keys = keys_of(part(signed["directory"], 1))
    return peers.ask("verify.mjs", {"jws": jws, "keys": keys, "typ": typ})


def test_npm_jose_verifies_the_manifest(signed: dict[str, Any]) -> None:
    """Another JOSE implementation takes line 1 of a sealed batch."""
    answer = judged(signed, signed["manifest"], "fep-batch+jws")
    assert answer["ok"], answer
    assert answer["payload"]["resource"] == PERSONS
    assert answer["payload"]["rows"] == {"upsert": 100, "delete": 0, "keep": 0}


def test_npm_jose_verifies_the_receipts(signed: dict[str, Any]) -> None:
    """It takes both receipts; they name the manifest by its message digest."""
    answers = [judged(signed, jws, "fep-receipt+jws") for jws in signed["receipts"]]
    assert [a["ok"] for a in answers] == [True, True]
    assert [a["payload"]["state"] for a in answers] == ["stored", "loaded"]
    named = {a["payload"]["manifest"] for a in answers}
    assert named == {digest(signed["manifest"])}


def test_npm_jose_refuses_an_altered_receipt(signed: dict[str, Any]) -> None:
    """A receipt with one changed character does not verify there either."""
    head, body, signature = signed["receipts"][0].split(".")
    other = "A" if body[20] != "A" else "B"
    forged = ".".join([head, body[:20] + other + body[21:], signature])
    assert not judged(signed, forged, "fep-receipt+jws")["ok"]


@pytest.mark.parametrize("chunk", [64 * 1024, 8 * 1024 * 1024])
def test_tus_js_client_uploads_to_the_exchange(tmp_path: Path, chunk: int) -> None:
    """A foreign tus client brings a batch to its end and is handed the receipt."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        node = enrolled(sandbox, tmp_path / "node")
        stream = Stream(node)
        stream.put_catalog()
        batch = stream.next([])
        file = tmp_path / "batch.fepb"
        file.write_bytes(batch.file())
        answer = peers.ask(
            "tus_upload.mjs",
            {
                "file": str(file),
                "endpoint": f"{sandbox.url}/v1/batches",
                "ca": str(sandbox.ca),
                "cert": str(tmp_path / "node" / "tls.pem"),
                "key": str(tmp_path / "node" / "tls.key"),
                "chunk": chunk,
            },
        )
    assert answer["ok"], answer
    receipt = part(answer["receipt"], 1)
    assert (receipt["state"], receipt["manifest"]) == ("stored", batch.digest)


def enrolled(sandbox: SandboxProcess, folder: Path) -> Node:
    """A node by hand."""
    node = Node(sandbox.address, sandbox.ca, folder)
    node.enrol()
    return node
