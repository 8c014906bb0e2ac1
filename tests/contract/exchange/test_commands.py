# SPDX-License-Identifier: Apache-2.0
"""Commands at the exchange, answered by a client that shares no code with it."""

from __future__ import annotations

import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from sandbox.__main__ import main
from tests.contract.exchange.conftest import enrolled
from tests.support.beats import body as beat
from tests.support.exchange_client import GAJ, Answer, Node, payload
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

_NAMES = itertools.count(1)
_BEATS = itertools.count(1)
AT = "2026-11-21T08:00:00Z"


@pytest.fixture
def fresh(sandbox: SandboxProcess, tmp_path: Path) -> Node:
    """A node that nobody ever ordered anything of."""
    return enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/c{next(_NAMES)}")


def order(
    sandbox: SandboxProcess, node: Node, cmd: str, resource: str | None = None
) -> str:
    body = {"node": node.node, "cmd": cmd, "resource": resource}
    return str(sandbox.ask("POST", "/commands", body)["jti"])


def listed(node: Node) -> list[str]:
    answer = node.get("/v1/commands")
    assert answer.status == 200
    found: list[str] = json.loads(answer.body)["commands"]
    return found


def result(node: Node, jti: str, **changes: Any) -> Answer:
    signer = changes.pop("signer", node.key)
    members = {
        "v": 1,
        "iss": node.node,
        "aud": "yunxi.exchange",
        "irt": jti,
        "status": "done",
        "code": None,
        "at": AT,
        "bundle": None,
    } | changes
    text = signer.sign("fep-command-result+jws", members)
    return node.ask("POST", "/v1/commands", text.encode())


def shown(sandbox: SandboxProcess, jti: str) -> dict[str, Any]:
    found = sandbox.ask("GET", "/commands")["commands"]
    (entry,) = [entry for entry in found if entry["jti"] == jti]
    return dict(entry)


def hinted(node: Node) -> bool:
    text = node.key.sign("fep-heartbeat+jws", beat(node.node, next(_BEATS)))
    answer = node.ask("POST", "/v1/heartbeat", text.encode())
    return "commands" in answer.members["refresh"]


def test_command_is_hinted_listed_and_answered(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """The directory has the key that signed it; answered it is listed no more."""
    assert not hinted(fresh)
    jti = order(sandbox, fresh, "run", "101001/000001")
    assert hinted(fresh)
    (text,) = listed(fresh)
    found = payload(text)
    assert (found["aud"], found["jti"], found["cmd"]) == (fresh.node, jti, "run")
    assert found["args"] == {"resource": "101001/000001"}
    assert found["exp"] - found["iat"] == 600
    files = payload(fresh.get("/v1/directory").body.decode())["files"]
    (exchange,) = files["exchange.json"]["exchanges"]
    assert "command" in {key["purpose"] for key in exchange["keys"]}
    assert result(fresh, jti, status="refused", code="off").status == 204
    assert (listed(fresh), hinted(fresh)) == ([], False)
    entry = shown(sandbox, jti)
    assert (entry["status"], entry["code"], entry["answered"]) == ("refused", "off", AT)


def test_first_result_stays(sandbox: SandboxProcess, fresh: Node) -> None:
    """A second one is taken and changes nothing."""
    jti = order(sandbox, fresh, "refresh")
    assert result(fresh, jti).status == 204
    assert result(fresh, jti, status="failed", code="internal").status == 204
    assert shown(sandbox, jti)["status"] == "done"


def test_nobody_answers_or_reads_anothers_command(
    sandbox: SandboxProcess, fresh: Node, stranger: Node
) -> None:
    """Neither over his own line, nor with his key over the node's."""
    jti = order(sandbox, fresh, "refresh")
    assert jti not in {payload(text)["jti"] for text in listed(stranger)}
    assert result(stranger, jti).problem == "not-found"
    assert result(fresh, jti, signer=stranger.key).problem == "forbidden"
    assert result(stranger, jti, iss=fresh.node).problem == "forbidden"
    assert shown(sandbox, jti)["status"] == "waiting"


@pytest.mark.parametrize(
    ("changes", "status", "problem"),
    [
        ({"aud": "other.exchange"}, 422, "wrong-exchange"),
        ({"code": "off"}, 400, "malformed"),
        ({"padding": "x" * 2048}, 413, "too-large"),
    ],
    ids=["aud", "shape", "size"],
)
def test_result_that_does_not_fit_is_refused(
    sandbox: SandboxProcess,
    fresh: Node,
    changes: dict[str, Any],
    status: int,
    problem: str,
) -> None:
    """The command goes on waiting."""
    jti = order(sandbox, fresh, "refresh")
    answer = result(fresh, jti, **changes)
    assert (answer.status, answer.problem) == (status, problem)
    assert shown(sandbox, jti)["status"] == "waiting"


def test_bundle_counts_once_a_result_has_its_digest(
    sandbox: SandboxProcess, fresh: Node
) -> None:
    """Another one, none, one that nobody asked for, and too long a one do not."""
    jti, other = order(sandbox, fresh, "diagnostics"), order(sandbox, fresh, "refresh")
    data = b"PK" + bytes(1000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert result(fresh, jti, bundle=digest).problem == "bad-digest"
    assert put(fresh, jti, data + b"x").status == 204
    assert result(fresh, jti, bundle=digest).problem == "bad-digest"
    assert put(fresh, other, data).problem == "not-found"
    assert put(fresh, "../../etc/passwd", data).problem == "malformed"
    assert put(fresh, jti, bytes(1024 * 1024 + 1)).problem == "too-large"
    assert put(fresh, jti, data).status == 204
    assert result(fresh, jti, bundle=digest).status == 204
    kept = sandbox.folder / "bundles" / f"{jti}.zip"
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (data, 0o600)


def put(node: Node, jti: str, data: bytes) -> Answer:
    path = f"/v1/commands/bundle?jti={jti}"
    return node.ask("PUT", path, data, Content_Type="application/zip")


def test_people_order_and_look_by_commands(
    sandbox: SandboxProcess, fresh: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    """``command`` prints the id; ``commands`` what became of it."""

    def typed(*words: str) -> tuple[int, str]:
        return main(["--dir", str(sandbox.folder), *words]), capsys.readouterr().out

    code, jti = typed("command", fresh.node, "reconcile", "101001/000001")
    assert (code, shown(sandbox, jti.strip())["cmd"]) == (0, "reconcile")
    body = typed("commands", "--node", fresh.node, "--json")[1]
    (entry,) = json.loads(body)["commands"]
    assert (entry["jti"], entry["status"]) == (jti.strip(), "waiting")
    assert "waiting 等待" in typed("commands", "--node", fresh.node)[1]
    assert typed("command", fresh.node, "refresh", "101001/000001")[0] == 2
    assert typed("command", f"{GAJ[:18]}/nobody", "refresh")[0] == 2
