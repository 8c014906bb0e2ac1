# SPDX-License-Identifier: Apache-2.0
"""``fep policy``: without a daemon it checks and explains, with one it activates."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agent.demo import consumers, documents
from tests.support import cli_json
from tests.support.grants import HOUSING, MEDICAL
from tests.support.settings_text import write

Fep = Callable[..., Any]
RULE = "ybj-person-get"
SUBJECT = "990102198505050017"


@pytest.fixture
def policy(fep: Fep, tmp_path: Path) -> Path:
    """The sample department's policy, its catalog and settings beside it."""
    source = '\n[sources.rsj]\nconnector = "sqlite"\npath = "x.db"\n'
    write(tmp_path, f'\n[paths]\nrun = "{tmp_path}"\nstate = "{tmp_path}"\n{source}')
    for document in documents.FOLDER.glob("*.toml"):
        (tmp_path / "catalog" / document.name).write_text(document.read_text("utf-8"))
    path = tmp_path / "policy.toml"
    path.write_text(consumers.policy_text(), "utf-8")
    return path


@pytest.fixture
def request_file(tmp_path: Path) -> Path:
    """What the medical bureau asks."""
    body = {
        "op": "get",
        "resource": "101001/000001",
        "items": [{"keys": {"citizen_id": SUBJECT}}],
        "fields": ["name", "birth_date", "status"],
        "purpose": "administrative_basis",
        "basis": "YBJ-2026-0042",
    }
    path = tmp_path / "ask.json"
    path.write_text(json.dumps(body))
    return path


def documented(name: str, body: Any) -> list[str]:
    """Where an answer and docs/cli-json.md differ."""
    return cli_json.faults(cli_json.sections()[name], body)


def test_check_tells_every_grant_in_words(fep: Fep, policy: Path) -> None:
    """Who, what, by which keys, why, what it gives; for the head of department."""
    said = fep("policy", "check", "--lang", "zh")
    assert said.code == 0, said.err
    for words in (
        RULE,
        MEDICAL,
        "人员基本信息",
        "行政依据",
        "脱敏，保留首字",
        "仅比对",
    ):
        assert words in said.out
    assert "共 3 条授权" in said.out


def test_check_lists_every_fault_and_ends_with_78(fep: Fep, policy: Path) -> None:
    """On one line each, with grant and key."""
    policy.write_text(policy.read_text("utf-8").replace("mask:", "mash:"), "utf-8")
    said = fep("policy", "check")
    assert said.code == 78
    assert f"grants.{RULE}.fields.name: expected" in said.out
    assert "Faults: 4." in said.out


@pytest.mark.parametrize("spoilt", [False, True])
def test_check_in_json_is_as_documented(fep: Fep, policy: Path, spoilt: bool) -> None:
    """Good or bad, the same members."""
    if spoilt:
        policy.write_text("grants = 1")
    said = fep("policy", "check", str(policy), "--json")
    body = json.loads(said.out)
    assert (said.code, body["ok"]) == ((78, False) if spoilt else (0, True))
    assert documented("`fep policy check [FILE]`", body) == []


def test_check_points_out_what_a_person_should_look_at(fep: Fep, policy: Path) -> None:
    """Grants without an end, any basis, a credit code that fails its check."""
    text = policy.read_text("utf-8").replace(MEDICAL, MEDICAL[:-1] + "G")
    text = text.replace(", to = 2027-12-31", "", 1)
    text = text.replace("GJJ-JH-20[0-9]{2}Q[1-4]", ".+")
    policy.write_text(text.replace("to = 2027-12-31", "to = 2026-01-31"), "utf-8")
    said = fep("policy", "check")
    assert said.code == 0, said.out
    for words in ("no last day", "ended on 2026-01-31", "any basis", "mistyped"):
        assert f"{words}" in said.out


def test_a_missing_policy_is_named(fep: Fep, policy: Path) -> None:
    """The file of the settings; exit 78."""
    policy.unlink()
    said = fep("policy", "check")
    assert said.code == 78
    assert str(policy) in said.err


def test_explain_shows_the_way_to_an_answer(
    fep: Fep, policy: Path, request_file: Path
) -> None:
    """Each step, the grant, and what the answer would hold for nobody."""
    said = fep(
        "policy",
        "explain",
        "--request",
        str(request_file),
        "--consumer",
        f"{MEDICAL}/n",
    )
    assert said.code == 0, said.out
    assert f"allowed by {RULE}" in said.out
    assert "name: 王小明 → 王**" in said.out
    assert "birth_date: 1990-03-07 → 1990" in said.out
    assert SUBJECT[6:14] not in said.out


def test_explain_says_what_stands_in_the_way(
    fep: Fep,
    policy: Path,
    request_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The housing fund, for another purpose: exit 1; from standard input."""
    text = request_file.read_text().replace("administrative_basis", "work_reference")
    stdin = io.TextIOWrapper(io.BytesIO(text.encode()))
    monkeypatch.setattr("sys.stdin", stdin)
    said = fep("policy", "explain", "--request", "-", "--consumer", f"{HOUSING}/n")
    assert said.code == 1
    assert "✗ a grant names the purpose  (work_reference)" in said.out
    assert "denied: purpose" in said.out


@pytest.mark.parametrize("node", [MEDICAL, HOUSING])
@pytest.mark.parametrize("op", ["get", "verify"])
def test_explain_in_json_is_as_documented(
    fep: Fep, policy: Path, request_file: Path, node: str, op: str
) -> None:
    """Allowed or denied, the same members."""
    body = json.loads(request_file.read_text()) | {"op": op, "iss": f"{node}/fep1"}
    if op == "verify":
        body["fields"] = ["name"]
        body["items"][0]["claims"] = {"name": "张三"}
    request_file.write_text(json.dumps(body))
    said = fep(
        "policy", "explain", "--json", "--policy", str(policy),
        "--request", str(request_file),
    )  # fmt: skip
    found = json.loads(said.out)
    assert found["allowed"] is (node == MEDICAL)
    assert said.code == (0 if node == MEDICAL else 1)
    assert documented("`fep policy explain --request FILE`", found) == []


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", "\x00", '{"op": "get"}', '{"items": [{"keys": {"a": "canary"}}]}'],
)
def test_what_is_no_request_is_a_usage_fault(
    fep: Fep, policy: Path, request_file: Path, text: str
) -> None:
    """Exit 2, with the member that is wrong and never with its value."""
    request_file.write_text(text)
    said = fep("policy", "explain", "--request", str(request_file))
    assert said.code == 2
    assert "ask.json" in said.err
    assert "canary" not in said.err


def test_a_request_file_that_is_not_there_is_a_usage_fault(
    fep: Fep, policy: Path
) -> None:
    """Exit 2, with its name."""
    said = fep("policy", "explain", "--request", "nothing-here.json")
    assert said.code == 2
    assert "nothing-here.json" in said.err


# --- with a daemon ----------------------------------------------------------------

DIGEST = "sha256:" + "0" * 64
ACTIVE = {
    "rev": 7,
    "digest": DIGEST,
    "activated_at": "2026-11-21T08:00:00Z",
    "uid": 1000,
    "grants": 3,
}
FAULT = {
    "file": "policy.toml",
    "key": "grants.a.keys",
    "expected": "x",
    "got": "y",
    "article": None,
}


class Daemon:
    """The two routes, with what they answer and what was posted."""

    def __init__(self) -> None:
        self.active: dict[str, Any] | None = ACTIVE
        self.faults: list[dict[str, Any]] = []
        self.changed = True
        self.posted: list[Any] = []

    async def show(self, _: web.Request) -> web.Response:
        draft = {
            "file": "/etc/fep/policy.toml",
            "digest": DIGEST,
            "differs": self.changed,
            "faults": self.faults,
        }
        return web.json_response({"active": self.active, "draft": draft})

    async def activate(self, request: web.Request) -> web.Response:
        self.posted.append(await request.json())
        body = {"rev": 8, "digest": DIGEST, "grants": 3, "changed": self.changed}
        return web.json_response(body)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Answers on the socket of the settings until the test ends."""
    desk, loop = Daemon(), asyncio.new_event_loop()
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/policy", desk.show),
            web.post("/v1/policy/activate", desk.activate),
        ]
    )
    runner = web.AppRunner(app)
    loop.run_until_complete(runner.setup())
    site = web.UnixSite(runner, str(tmp_path / "fep.sock"))
    loop.run_until_complete(site.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield desk
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.run_until_complete(runner.cleanup())
    loop.close()


def test_activate_names_the_text_that_was_looked_at(fep: Fep, daemon: Daemon) -> None:
    """A file that changes in between is not activated unseen."""
    said = fep("policy", "activate")
    assert said.code == 0, said.err
    assert "Revision 8 is active, 3 grants." in said.out
    assert daemon.posted == [{"digest": DIGEST}]


def test_activating_the_same_policy_again_changes_nothing(
    fep: Fep, daemon: Daemon
) -> None:
    """And says so."""
    daemon.changed = False
    assert "Nothing changed" in fep("policy", "activate").out


def test_a_draft_with_faults_is_not_activated(fep: Fep, daemon: Daemon) -> None:
    """Every fault is shown, nothing is posted, exit 78."""
    daemon.faults = [FAULT]
    said = fep("policy", "activate")
    assert said.code == 78
    assert "policy.toml: grants.a.keys: expected x, got y" in said.err
    assert daemon.posted == []


def test_show_says_which_policy_judges(fep: Fep, daemon: Daemon) -> None:
    """Revision, since when, by whom, and that the file differs."""
    said = fep("policy", "show")
    assert "Revision 7 is active, 3 grants, since 2026-11-21T08:00:00Z" in said.out
    assert "draft until `fep policy activate`" in said.out
    daemon.changed = False
    assert "is the active policy" in fep("policy", "show").out


def test_show_says_that_nothing_is_allowed_yet(fep: Fep, daemon: Daemon) -> None:
    """Before the first activation, and with a file that has faults."""
    daemon.active, daemon.faults = None, [FAULT]
    said = fep("policy", "show")
    assert "everything is refused" in said.out
    assert "grants.a.keys: expected x, got y" in said.out


def test_with_a_daemon_json_is_as_documented(fep: Fep, daemon: Daemon) -> None:
    """What the daemon answers, member by member."""
    assert (
        documented("`fep policy show`", json.loads(fep("policy", "show", "--json").out))
        == []
    )
    assert (
        documented(
            "`fep policy activate`", json.loads(fep("policy", "activate", "--json").out)
        )
        == []
    )
