# SPDX-License-Identifier: Apache-2.0
"""The witness: C2SP tlog-witness, status by status, and what it never cosigns."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidSignature

from tests.contract.exchange.conftest import enrolled
from tests.support.exchange_client import GAJ, Answer, AuditKey, Key, Node, payload
from tests.support.sandbox_process import SandboxProcess, running_sandbox
from tests.support.signed_log import Log, consistency, cosigned_at, line

pytestmark = pytest.mark.contract

ROUTE = "/v1/witness/add-checkpoint"
_NAMES = itertools.count(1)


@pytest.fixture
def fresh(sandbox: SandboxProcess, tmp_path: Path) -> Node:
    """A node whose log nobody has seen."""
    return enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/w{next(_NAMES)}")


@pytest.fixture
def log(fresh: Node) -> Log:
    """Its log, 7 leaves long."""
    found = Log(fresh.node, fresh.audit)
    found.grow(7)
    return found


def add(node: Node, body: bytes) -> Answer:
    return node.ask("POST", ROUTE, body)


def witness_key(node: Node) -> dict[str, str]:
    files = payload(node.get("/v1/directory").body.decode())["files"]
    keys = files["exchange.json"]["exchanges"][0]["keys"]
    (found,) = [key for key in keys if key["purpose"] == "witness"]
    assert found["status"] == "active"
    return dict(found)


def cosigned(node: Node, answer: Answer, body: str, aud: str) -> int:
    assert answer.status == 200, answer.body
    text = answer.body.decode()
    name = f"{aud}/witness"
    return cosigned_at(text, body, name=name, jwk=witness_key(node))


def size_of(answer: Answer) -> int:
    """The size in a 409, in exactly its form."""
    assert answer.status == 409
    assert answer.headers.get_content_type() == "text/x.tlog.size"
    text = answer.body.decode()
    assert text == f"{int(text)}\n"
    return int(text)


# --- what is cosigned -------------------------------------------------------------


def test_first_checkpoint_is_cosigned(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """One line, cosignature/v1, by the key in the directory, with the time."""
    answer = add(fresh, log.submission(0))
    at = cosigned(fresh, answer, log.body(), sandbox.aud)
    assert abs(at - time.time()) < 30


def test_every_growth_is_cosigned(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """From each size to each later one, up to 20 leaves."""
    old = 0
    for step in (1, 1, 2, 3, 1, 8, 4):
        size = old + step
        log.grow(max(0, size - len(log.leaves)))
        answer = add(fresh, log.submission(old, size=size))
        cosigned(fresh, answer, log.body(size), sandbox.aud)
        old = size


def test_same_checkpoint_is_cosigned_again(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """A node that lost the answer asks from the same size and gets another one."""
    cosigned(fresh, add(fresh, log.submission(0)), log.body(), sandbox.aud)
    answer = add(fresh, log.submission(7))
    cosigned(fresh, answer, log.body(), sandbox.aud)


def test_empty_log_is_cosigned(sandbox: SandboxProcess, fresh: Node) -> None:
    """Size 0 has the root of no leaves."""
    log = Log(fresh.node, fresh.audit)
    cosigned(fresh, add(fresh, log.submission(0)), log.body(), sandbox.aud)


def test_extension_lines_are_cosigned_with_the_rest(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """The cosignature is over the whole text."""
    body = log.body() + "extension\n"
    answer = add(fresh, log.submission(0, note=log.signed(body)))
    cosigned(fresh, answer, body, sandbox.aud)
    with pytest.raises(InvalidSignature):
        cosigned(fresh, answer, log.body(), sandbox.aud)


def test_lines_of_unknown_keys_are_ignored(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """Also one that has the log's name."""
    note = log.signed(log.body())
    note += line("someone.else", b"abcd", bytes(64))
    note += line(log.origin, b"abcd", bytes(64))
    answer = add(fresh, log.submission(0, note=note))
    cosigned(fresh, answer, log.body(), sandbox.aud)


# --- what is refused --------------------------------------------------------------


def test_fork_of_the_same_size_is_refused(fresh: Node, log: Log) -> None:
    """409 with that very size: two roots cannot both be."""
    assert add(fresh, log.submission(0)).status == 200
    log.leaves[3] = b"another past"
    assert size_of(add(fresh, log.submission(7))) == 7


def test_fork_that_grew_is_refused(fresh: Node, log: Log) -> None:
    """422: no proof leads from the old root to another past."""
    assert add(fresh, log.submission(0)).status == 200
    log.leaves[3] = b"another past"
    log.grow(5)
    answer = add(fresh, log.submission(7))
    assert (answer.status, answer.problem) == (422, "bad-proof")


def test_rollback_is_refused_with_the_size_known(fresh: Node, log: Log) -> None:
    """409: whoever restored an old copy of the log learns how long it was."""
    assert add(fresh, log.submission(0)).status == 200
    assert size_of(add(fresh, log.submission(0, size=5))) == 7
    assert size_of(add(fresh, log.submission(5, size=5))) == 7
    assert size_of(add(fresh, log.submission(3, size=5))) == 7


def test_stale_start_is_refused_with_the_size_known(fresh: Node, log: Log) -> None:
    """409, and from the size that it says the log goes on."""
    assert add(fresh, log.submission(0)).status == 200
    log.grow(3)
    size = size_of(add(fresh, log.submission(0)))
    assert add(fresh, log.submission(size)).status == 200


def test_refused_checkpoints_change_nothing(fresh: Node, log: Log) -> None:
    """After every refusal the honest log goes on where it was."""
    assert add(fresh, log.submission(0)).status == 200
    liar = Log(log.node, log.key, [b"x"] * 9)
    for body in (liar.submission(7), liar.submission(0), liar.submission(9)):
        assert add(fresh, body).status in (409, 422)
    log.grow(2)
    assert add(fresh, log.submission(7)).status == 200


@pytest.mark.parametrize(
    "spoil",
    [
        lambda proof: proof[1:],
        lambda proof: [*proof, proof[0]],
        lambda proof: proof[::-1],
        lambda proof: [bytes(32), *proof[1:]],
        lambda proof: [],
    ],
    ids=["short", "long", "turned", "zeros", "none"],
)
def test_bad_proof_is_unprocessable(
    fresh: Node, log: Log, spoil: Callable[[list[bytes]], list[bytes]]
) -> None:
    """422, and the checkpoint is not remembered."""
    assert add(fresh, log.submission(0)).status == 200
    log.grow(6)
    proof = consistency(7, log.leaves)
    answer = add(fresh, log.submission(7, proof=spoil(proof)))
    assert (answer.status, answer.problem) == (422, "bad-proof")
    assert add(fresh, log.submission(7)).status == 200


def test_proof_where_none_is_needed_is_unprocessable(fresh: Node, log: Log) -> None:
    """From size 0, and from the same size, the proof is empty."""
    answer = add(fresh, log.submission(0, proof=[bytes(32)]))
    assert answer.status == 422
    assert add(fresh, log.submission(0)).status == 200
    assert add(fresh, log.submission(7, proof=[bytes(32)])).status == 422


def test_unknown_key_is_forbidden(fresh: Node, log: Log) -> None:
    """403: signed by a key that the node never published."""
    note = log.signed(log.body(), AuditKey())
    answer = add(fresh, log.submission(0, note=note))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_bad_signature_is_forbidden(fresh: Node, log: Log) -> None:
    """403: the key's line, over another text."""
    other = log.signed(log.body(5)).removeprefix(log.body(5))
    answer = add(fresh, log.submission(0, note=log.body() + other))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_key_of_another_name_is_forbidden(fresh: Node, log: Log) -> None:
    """403: the line's key name is not the origin."""
    note = log.signed(log.body())
    head, _, tail = note.rpartition(log.origin)
    answer = add(fresh, log.submission(0, note=f"{head}another.name{tail}"))
    assert (answer.status, answer.problem) == (403, "forbidden")


def test_retired_and_revoked_keys_are_forbidden(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """A new statement with another audit key: the old one signs no more."""
    assert add(fresh, log.submission(0)).status == 200
    new = AuditKey()
    keys: list[Key | AuditKey] = [fresh.tls, fresh.key, fresh.decrypt, new]
    statement = fresh.key_statement(2, keys, fresh.key)
    assert fresh.ask("POST", "/v1/keys", statement.encode()).status == 201
    log.grow(1)
    assert add(fresh, log.submission(7)).status == 403
    log.key = new
    assert add(fresh, log.submission(7)).status == 200


def test_log_of_another_node_is_not_found(
    fresh: Node, log: Log, stranger: Node
) -> None:
    """404: only the node itself may submit its log, well signed or not."""
    answer = add(stranger, log.submission(0))
    assert (answer.status, answer.problem) == (404, "not-found")
    foreign = Log("example.com", log.key, list(log.leaves))
    assert add(fresh, foreign.submission(0)).status == 404


def test_nobody_submits_without_a_certificate(
    sandbox: SandboxProcess, log: Log, tmp_path: Path
) -> None:
    """401."""
    bare = Node(sandbox.address, sandbox.ca, tmp_path / "bare")
    answer = add(bare, log.submission(0))
    assert (answer.status, answer.problem) == (401, "unauthenticated")


def test_old_above_the_checkpoint_is_malformed(fresh: Node, log: Log) -> None:
    """400: a proof cannot lead backwards."""
    answer = add(fresh, log.submission(8))
    assert (answer.status, answer.problem) == (400, "malformed")


@pytest.mark.parametrize(
    "change",
    [
        lambda body: b"",
        lambda body: b"\xff" * 64,
        lambda body: body.replace(b"old 0", b"old 00"),
        lambda body: body.replace(b"old 0", b"old -1"),
        lambda body: body.replace(b"old 0", b"old"),
        lambda body: body.replace(b"old 0", b"new 0"),
        lambda body: body.replace(b"old 0\n\n", b"old 0\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\r\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\nnonsense\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + b"A" * 44 + b"\n"),
        lambda body: body.replace(b"old 0\n", b"old 0\n" + (b"A" * 43 + b"=\n") * 64),
        lambda body: body.replace(b"\n7\n", b"\n07\n"),
        lambda body: body.replace(b"\n7\n", b"\n7 \n"),
        lambda body: body[:-1],
        lambda body: body[: body.rindex(b"\n\n") + 2],
        lambda body: body + b"trailing",
    ],
)
def test_other_forms_are_malformed(
    fresh: Node, log: Log, change: Callable[[bytes], bytes]
) -> None:
    """400, before any key is looked at."""
    answer = add(fresh, change(log.submission(0)))
    assert (answer.status, answer.problem) == (400, "malformed")


def test_long_request_is_too_large(fresh: Node, log: Log) -> None:
    """413."""
    answer = add(fresh, log.submission(0) + b"x" * 20_000)
    assert (answer.status, answer.problem) == (413, "too-large")


# --- what survives ----------------------------------------------------------------


def test_only_one_of_two_futures_is_cosigned(fresh: Node, log: Log) -> None:
    """Sent at once, two checkpoints that contradict each other: one gets 200."""
    assert add(fresh, log.submission(0)).status == 200
    futures = []
    for i in range(8):
        other = Log(log.node, log.key, [*log.leaves, f"future {i}".encode()])
        futures.append(other.submission(7))
    with ThreadPoolExecutor(8) as pool:
        statuses = [a.status for a in pool.map(lambda b: add(fresh, b), futures)]
    assert sorted(statuses) == [200] + [409] * 7


def test_lost_answer_was_remembered(
    sandbox: SandboxProcess, fresh: Node, log: Log
) -> None:
    """The line is cut after the checkpoint was kept: it is not forgotten."""
    route = f"POST {ROUTE}"
    sandbox.faults({"kind": "drop", "count": 1, "route": route, "when": "after"})
    with pytest.raises((OSError, HTTPException)):
        add(fresh, log.submission(0))
    assert size_of(add(fresh, log.submission(0))) == 7
    assert add(fresh, log.submission(7)).status == 200


def test_kill_does_not_make_the_witness_forget(tmp_path: Path) -> None:
    """``kill -9`` after a cosignature; fork and rollback are still refused."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        node = enrolled(sandbox, tmp_path / "node")
        log = Log(node.node, node.audit)
        for size in (3, 8):
            log.grow(size - len(log.leaves))
            assert add(node, log.submission(size - 5 if size > 5 else 0)).status == 200
            sandbox.kill()
            sandbox.start()
            assert size_of(add(node, log.submission(1, size=2))) == size
        fork = Log(log.node, log.key, [b"x"] * 8)
        assert size_of(add(node, fork.submission(8))) == 8


def test_kills_at_any_moment_never_allow_a_fork(tmp_path: Path) -> None:
    """Killed while checkpoints come: what was cosigned is remembered afterwards."""
    with running_sandbox(tmp_path / "centre") as sandbox:
        node = enrolled(sandbox, tmp_path / "node")
        log = Log(node.node, node.audit)
        seen = 0
        for wait in (0.0, 0.002, 0.005, 0.02):
            with ThreadPoolExecutor(1) as pool:
                begun = pool.submit(_grow_until_killed, node, log, seen)
                time.sleep(0.3 + wait)
                sandbox.kill()
                sure = begun.result()
            sandbox.start()
            log.grow(1)
            known = size_of(add(node, log.submission(len(log.leaves))))
            assert sure <= known <= sure + 1
            seen = known
            del log.leaves[known:]


def _grow_until_killed(node: Node, log: Log, seen: int) -> int:
    """Add leaf after leaf; the size that was cosigned last."""
    try:
        while True:
            log.grow(1)
            if add(node, log.submission(seen)).status == 200:
                seen += 1
    except (OSError, HTTPException):
        return seen


def test_node_that_was_reset_begins_a_new_log(
    sandbox: SandboxProcess, fresh: Node, log: Log, tmp_path: Path
) -> None:
    """An admin let it enrol anew: its old key signs no more, its log has size 0."""
    assert add(fresh, log.submission(0)).status == 200
    sandbox.ask("POST", "/reset", {"node": fresh.node})
    assert add(fresh, log.submission(7)).status == 401
    again = enrolled(sandbox, tmp_path / "again", node=fresh.node)
    new = Log(again.node, again.audit, [b"begin"])
    assert add(again, new.submission(0)).status == 200
