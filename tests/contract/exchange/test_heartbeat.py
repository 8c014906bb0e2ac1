# SPDX-License-Identifier: Apache-2.0
"""Heartbeats at the exchange, made by a client that shares no code with it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.contract.exchange.conftest import enrolled
from tests.support.beats import SECOND, body
from tests.support.exchange_client import GAJ, Answer, Node
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

_NAMES = itertools.count(1)


@pytest.fixture
def fresh(sandbox: SandboxProcess, tmp_path: Path) -> Node:
    """A node that never beat."""
    return enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/h{next(_NAMES)}")


def beat(node: Node, n: int, **changes: Any) -> Answer:
    signer = changes.pop("signer", node.key)
    text = signer.sign("fep-heartbeat+jws", body(node.node, n, **changes))
    return node.ask("POST", "/v1/heartbeat", text.encode())


def seen(sandbox: SandboxProcess, node: Node) -> dict[str, Any]:
    (found,) = [
        entry
        for entry in sandbox.ask("GET", "/nodes")["nodes"]
        if entry["node"] == node.node
    ]
    return dict(found)


def test_beat_is_taken_and_shown(sandbox: SandboxProcess, fresh: Node) -> None:
    """200, and the node view has its words; it was silent before."""
    assert seen(sandbox, fresh)["stands"] == "silent"
    assert beat(fresh, 1).status == 200
    found = seen(sandbox, fresh)
    assert (found["stands"], found["beat"]["n"]) == ("healthy", 1)
    assert abs(found["clock_offset_s"]) <= 2


def test_answer_hints_a_directory_that_changed(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """Until the node has fetched it."""
    assert beat(fresh, 1).members == {"v": 1, "refresh": ["directory"]}
    assert fresh.get("/v1/directory").status == 200
    assert beat(fresh, 2).members["refresh"] == []
    sandbox.ask("POST", "/nudge")
    assert beat(fresh, 3).members["refresh"] == ["directory"]


def test_heartbeat_replay_is_dropped_and_flagged(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """The very message again: 422, and a person has to look."""
    assert beat(fresh, 7).status == 200
    for n in (7, 6):
        answer = beat(fresh, n)
        assert (answer.status, answer.problem) == (422, "fork")
    found = seen(sandbox, fresh)
    assert (found["stands"], found["beat"]["n"]) == ("doubted", 7)
    assert found["doubt"]["kind"] == "replay"


def test_two_machines_with_one_identity_wait_for_a_person(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """The second is held until somebody accepts it; then the first one is."""
    assert beat(fresh, 5).status == 200
    answer = beat(fresh, 1, incarnation=SECOND)
    assert (answer.status, answer.problem) == (503, "held")
    assert seen(sandbox, fresh)["doubt"]["kind"] == "clone"
    sandbox.ask("POST", "/accept", {"node": fresh.node})
    assert beat(fresh, 2, incarnation=SECOND).status == 200
    assert beat(fresh, 6).problem == "held"


def test_heartbeat_signed_by_another_nodes_key_is_refused(
    sandbox: SandboxProcess, fresh: Node, stranger: Node
) -> None:
    """Neither its words nor its flags reach the node whose name it has."""
    answer = beat(fresh, 1, signer=stranger.key)
    assert (answer.status, answer.problem) == (403, "forbidden")
    text = fresh.key.sign("fep-heartbeat+jws", body(fresh.node, 1))
    answer = stranger.ask("POST", "/v1/heartbeat", text.encode())
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert seen(sandbox, fresh)["stands"] == "silent"


def test_beat_signed_with_a_revoked_key_is_refused(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """At once."""
    sandbox.ask("POST", "/revoke", {"kid": fresh.key.kid})
    answer = beat(fresh, 1)
    assert (answer.status, answer.problem) == (422, "key-revoked")


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"aud": "other.exchange"}, 422, "wrong-exchange"),
        ({"streams": None}, 400, "malformed"),
        ({"padding": "x" * 16_384}, 413, "too-large"),
    ],
    ids=["aud", "shape", "size"],
)
def test_beat_that_does_not_fit_is_refused(
    fresh: Node, changes: dict[str, Any], status: int, problem: str
) -> None:
    """Nothing of it is kept."""
    answer = beat(fresh, 1, **changes)
    assert (answer.status, answer.problem) == (status, problem)


def test_node_view_is_a_command_with_an_exit_code(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """0 if all that are shown are well, 1 else; filters by state and name."""

    def view(*words: str) -> tuple[int, Any]:
        command = [sys.executable, "-m", "sandbox", "--dir", str(sandbox.folder)]
        done = subprocess.run(
            [*command, "nodes", "--json", *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, json.loads(done.stdout)["nodes"]

    code, found = view("--node", fresh.node)
    assert (code, [n["stands"] for n in found]) == (1, ["silent"])
    assert beat(fresh, 1).status == 200
    code, found = view("--node", fresh.node)
    assert (code, [n["stands"] for n in found]) == (0, ["healthy"])
    assert view("--node", fresh.node, "--only", "late,stuck") == (0, [])
