# SPDX-License-Identifier: Apache-2.0
"""EST enrolment and key statements, rule by rule (wire.md §1 and §6)."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from tests.support.exchange_client import GAJ, Key, Node, digest, payload
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

MakeNode = Callable[[str], Node]
SCRIPT = Path(__file__).with_name("enrol_with_openssl.sh")
ENROL = "/.well-known/est/simpleenroll"


def certificate_text(node: Node) -> str:
    command = [
        "openssl",
        "x509",
        "-in",
        str(node.folder / "tls.pem"),
        "-noout",
        "-text",
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def certified(make: MakeNode, name: str) -> Node:
    """A node with a certificate whose keys the exchange has not seen."""
    node = make(name)
    answer = node.ask("POST", ENROL, node.csr())
    assert answer.status == 200
    node.take_certificate(answer.body)
    return node


def test_openssl_and_curl_alone_enrol(sandbox: SandboxProcess, tmp_path: Path) -> None:
    """A shell with openssl and curl enrols, posts its keys and gets the directory."""
    node = f"{GAJ[:18]}/shell"
    command = ["sh", str(SCRIPT), sandbox.url, sandbox.ca_sha256, node, str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    files = payload((tmp_path / "directory.jws").read_text())["files"]
    listed = files[f"directory/{GAJ[:18]}.json"]["nodes"]
    assert (tmp_path / "keys.jws").read_text() in [
        s for entry in listed if entry["node"] == node for s in entry["statements"]
    ]


def test_openssl_and_curl_alone_renew_and_joserfc_verifies_the_chain(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """A new key, stated over its new certificate; another JOSE library follows it."""
    node = f"{GAJ[:18]}/renewing"
    command = ["sh", str(SCRIPT), sandbox.url, sandbox.ca_sha256, node, str(tmp_path)]
    made = subprocess.run(
        [*command, "renew"], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    files = payload((tmp_path / "directory.jws").read_text())["files"]
    listed = files[f"directory/{GAJ[:18]}.json"]["nodes"]
    (entry,) = [e for e in listed if e["node"] == node]
    keys: list[dict[str, str]] = payload(entry["statements"][0])["keys"]
    for n, text in enumerate(entry["statements"], 1):
        (signer,) = [k for k in keys if k["purpose"] == "sign"]
        members = {name: signer[name] for name in ("kty", "crv", "x", "y")}
        assert jws.deserialize_compact(text, ECKey.import_key(members)).payload
        assert payload(text)["n"] == n
        keys = payload(text)["keys"]
    status = sorted(k["status"] for k in entry["keys"])
    assert status == ["active", "active", "retired", "retired", "retired"]


def test_the_shell_stops_at_a_foreign_authority(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """With another digest on the slip nothing is sent."""
    command = ["sh", str(SCRIPT), sandbox.url, "0" * 64, "x", str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    assert made.returncode == 1
    assert "not the slip's" in made.stderr


def test_certificate_keeps_both_uris(fresh_node: MakeNode) -> None:
    """The certificate carries node and statement digest, for both sides of TLS."""
    node = certified(fresh_node, "uris")
    text = certificate_text(node)
    assert f"URI:fep:node/{node.node}" in text
    assert f"URI:fep:keys/sha256/{digest(node.statement)[7:]}" in text
    assert "TLS Web Client Authentication, TLS Web Server Authentication" in text
    assert "CA:FALSE" in text


@pytest.mark.parametrize(
    "uris",
    [
        ("",),
        ("fep:node/11990100MB7654321Y/qz9",),
        ("fep:node/nonsense", "fep:keys/sha256/" + "0" * 64),
        ("fep:node/11990100MB7654321Y/qz9", "fep:keys/sha256/xyz"),
        ("fep:node/11990100MB7654321Y/qz9", "fep:node/11990100MB7654321Y/qz8"),
        (
            "fep:node/11990100MB7654321Y/qz9",
            "fep:keys/sha256/" + "0" * 64,
            "https://example.org",
        ),
    ],
)
def test_request_without_exactly_the_two_uris_is_malformed(
    fresh_node: MakeNode, uris: tuple[str, ...]
) -> None:
    """A request names one node and one statement digest, nothing else."""
    node = fresh_node("bad")
    answer = node.ask("POST", ENROL, node.csr(*uris))
    assert (answer.status, answer.problem) == (400, "malformed")


@pytest.mark.parametrize("body", [b"", b"not base64!", base64.b64encode(b"not DER")])
def test_garbage_request_is_malformed(fresh_node: MakeNode, body: bytes) -> None:
    """What is no PKCS#10 is refused."""
    answer = fresh_node("garbage").ask("POST", ENROL, body)
    assert (answer.status, answer.problem) == (400, "malformed")


def test_request_with_a_broken_signature_is_malformed(fresh_node: MakeNode) -> None:
    """Who does not hold the key gets no certificate for it."""
    node = fresh_node("forged")
    der = bytearray(base64.b64decode(node.csr()))
    der[-1] ^= 1
    answer = node.ask("POST", ENROL, base64.b64encode(bytes(der)))
    assert (answer.status, answer.problem) == (400, "malformed")


def test_oversized_request_is_refused(fresh_node: MakeNode) -> None:
    """Nobody may fill the memory before he is known."""
    answer = fresh_node("big").ask("POST", ENROL, b"A" * 20_000)
    assert (answer.status, answer.problem) == (413, "too-large")


def test_repeated_request_gets_a_certificate_again(fresh_node: MakeNode) -> None:
    """A lost answer is no reason to start over."""
    node = certified(fresh_node, "again")
    assert node.ask("POST", ENROL, node.csr()).status == 200


def test_node_cannot_be_taken_over_by_other_keys(fresh_node: MakeNode) -> None:
    """The first request binds a node to its key statement."""
    certified(fresh_node, "bound")
    thief = fresh_node("bound")
    answer = thief.ask("POST", ENROL, thief.csr())
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_admin_lets_a_node_enrol_anew(
    sandbox: SandboxProcess, fresh_node: MakeNode
) -> None:
    """After a reset other keys are bound, and the old certificate is worth nothing."""
    old, new = fresh_node("renewed"), fresh_node("renewed")
    old.enrol()
    sandbox.ask("POST", "/reset", {"node": old.node})
    new.folder.joinpath("new").mkdir()
    new.folder = new.folder / "new"
    new.enrol()
    assert old.get("/v1/directory").problem == "unauthenticated"
    assert new.get("/v1/directory").status == 200


def test_pending_request_is_asked_to_wait(
    sandbox: SandboxProcess, fresh_node: MakeNode
) -> None:
    """202 with Retry-After so often as the switch says, then the certificate."""
    sandbox.faults({"kind": "pending", "count": 2, "retry_after": 7})
    node = fresh_node("pending")
    answers = [node.ask("POST", ENROL, node.csr()) for _ in range(3)]
    assert [a.status for a in answers] == [202, 202, 200]
    assert answers[0].headers["Retry-After"] == "7"


def test_reenrolment_keeps_the_uris(fresh_node: MakeNode) -> None:
    """Over mTLS a node gets a further certificate, also for a new TLS key."""
    node = fresh_node("reenrol")
    node.enrol()
    old_context = node.context
    node.tls = Key("tls")
    answer = node.ask("POST", "/.well-known/est/simplereenroll", node.csr())
    assert answer.status == 200
    assert node.context is old_context
    node.take_certificate(answer.body)
    assert node.ask("POST", "/v1/keys", node.statement.encode()).status == 200


def test_attack_a_stolen_certificate_gives_the_thief_no_life_of_his_own(
    fresh_node: MakeNode,
) -> None:
    """He can have his own key certified, but no statement will list it."""
    node = fresh_node("robbed")
    node.enrol()
    node.tls = Key("tls")
    stolen = node.ask("POST", "/.well-known/est/simplereenroll", node.csr())
    node.take_certificate(stolen.body)
    assert node.get("/v1/position?resource=101001/000001").status == 401
    node.tls = Key("tls")
    assert node.ask("POST", "/.well-known/est/simplereenroll", node.csr()).status == 401


def test_reenrolment_for_another_node_is_forbidden(fresh_node: MakeNode) -> None:
    """A certificate gives no right to another node's name."""
    node = fresh_node("greedy")
    node.enrol()
    uris = (f"fep:node/{GAJ[:18]}/other", "fep:keys/sha256/" + "0" * 64)
    answer = node.ask("POST", "/.well-known/est/simplereenroll", node.csr(*uris))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_reenrolment_without_certificate_is_unauthenticated(
    fresh_node: MakeNode,
) -> None:
    """simplereenroll is for those who are known."""
    node = fresh_node("nobody")
    answer = node.ask("POST", "/.well-known/est/simplereenroll", node.csr())
    assert (answer.status, answer.problem) == (401, "unauthenticated")


# --- key statements ---------------------------------------------------------------


def post(node: Node, statement: str) -> tuple[int, str]:
    answer = node.ask("POST", "/v1/keys", statement.encode())
    return answer.status, "" if answer.status < 300 else answer.problem


def test_statement_is_taken_once_and_known_again(fresh_node: MakeNode) -> None:
    """201, then 200 for the same statement."""
    node = certified(fresh_node, "once")
    assert post(node, node.statement) == (201, "")
    assert post(node, node.statement) == (200, "")


def test_first_statement_must_be_the_one_in_the_certificate(
    fresh_node: MakeNode,
) -> None:
    """People compared that digest; another statement is forbidden."""
    node = certified(fresh_node, "other")
    other = node.key_statement(1, [node.tls, node.key, Key("decrypt")], node.key)
    assert post(node, other) == (403, "forbidden")


def test_statement_of_another_node_is_forbidden(fresh_node: MakeNode) -> None:
    """The certificate's node posts its own keys only."""
    node, other = certified(fresh_node, "mine"), fresh_node("theirs")
    assert post(node, other.statement) == (403, "forbidden")


def test_statement_signed_by_a_stranger_is_a_bad_signature(
    fresh_node: MakeNode,
) -> None:
    """Statement 2 must be signed by a sign key of statement 1."""
    node = fresh_node("stranger")
    node.enrol()
    new = Key("sign")
    statement = node.key_statement(2, [node.tls, new], new)
    assert post(node, statement) == (422, "bad-signature")


def test_statements_may_not_leave_a_gap(fresh_node: MakeNode) -> None:
    """Statement 3 cannot follow statement 1."""
    node = fresh_node("gap")
    node.enrol()
    statement = node.key_statement(3, [node.tls, node.key], node.key)
    assert post(node, statement) == (422, "chain-gap")


def test_second_version_of_a_statement_is_a_fork(fresh_node: MakeNode) -> None:
    """A number is used once."""
    node = fresh_node("fork")
    node.enrol()
    first = node.key_statement(2, [node.tls, node.key], node.key)
    second = node.key_statement(2, [node.tls, node.key, Key("decrypt")], node.key)
    assert post(node, first) == (201, "")
    assert post(node, second) == (422, "fork")


def test_key_left_out_of_a_statement_retires(fresh_node: MakeNode) -> None:
    """The directory shows the old key as retired for 30 days, the new as active."""
    node = fresh_node("retire")
    node.enrol()
    new = Key("sign")
    assert post(node, node.key_statement(2, [node.tls, new], node.key)) == (201, "")
    files = payload(node.get("/v1/directory").body.decode())["files"]
    entries = files[f"directory/{GAJ[:18]}.json"]["nodes"]
    keys = next(e["keys"] for e in entries if e["node"] == node.node)
    status = {k["kid"]: (k["status"], k["until"] is not None) for k in keys}
    assert status[node.key.kid] == ("retired", True)
    assert status[new.kid] == ("active", False)


def test_keys_without_certificate_are_unauthenticated(fresh_node: MakeNode) -> None:
    """POST /v1/keys needs mTLS."""
    node = fresh_node("nocert")
    assert post(node, node.statement) == (401, "unauthenticated")


def test_other_message_types_are_no_key_statement(fresh_node: MakeNode) -> None:
    """typ is compared byte for byte."""
    node = certified(fresh_node, "typ")
    statement = node.key.sign("fep-catalog+jws", payload(node.statement))
    assert post(node, statement) == (400, "malformed")
