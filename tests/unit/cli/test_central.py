# SPDX-License-Identifier: Apache-2.0
"""``fep central`` as people read it, in both languages."""

from __future__ import annotations

import io
import json
import socketserver
import threading
from collections.abc import Callable
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from agent.central.workspace import Workspace
from agent.cli.main import main
from agent.wire.directory import DepartmentFile, KeyStatus, NodeEntry
from tests.support.city import DEPARTMENT, NODE

Fep = Callable[..., str]


@pytest.fixture
def fep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Fep:
    """A call in a folder of its own; what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, lang: str = "en", code: int = 0) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["central", *words, "--lang", lang])
        printed = capsys.readouterr()
        assert (ended.value.code or 0) == code, printed.err
        return printed.out + printed.err

    return run


@pytest.fixture
def workspace(fep: Fep) -> Path:
    """A repository of one person, published."""
    fep("keygen", "me.key", "--open")
    one = ("--root-threshold", "1", "--targets-threshold", "1")
    fep("init", "w", "--root", "me.pub", "--targets", "me.pub", *one)
    fep("sign", "w", "--key", "me.key", "--yes")
    fep("publish", "w")
    return Path("w")


def view(failed: str | None) -> str:
    """The exchange's view of one node, as a file."""
    digest = f"sha256:{'1' * 64}"
    config = {"desired": digest, "running": digest, "failed": failed, "reason": None}
    if failed:
        config |= {"running": f"sha256:{'0' * 64}", "reason": "no-batch"}
    beat = {"agent": "fep/1", "config": config, "worst": [], "troubles": []}
    beat |= {"spool": {"blocked": True}}
    seen = {"node": NODE, "stands": "stuck", "at": "2026-11-22T08:00:00Z"}
    seen |= {"doubt": None, "beat": beat}
    Path("view.json").write_text(json.dumps({"nodes": [seen]}), "utf-8")
    return digest


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ["holders of department", "signed by -; 1 more of me", "Carry"]),
        ("zh", ["持有人", "还需 1 人：me", "送签"]),
    ],
)
@pytest.mark.usefixtures("workspace")
def test_draft_says_who_must_sign(fep: Fep, lang: str, words: list[str]) -> None:
    """And what to do with it."""
    said = fep("member", "w", DEPARTMENT, "--key", "me.pub", lang=lang)
    assert [word for word in words if word not in said] == []


@pytest.mark.usefixtures("workspace")
def test_signature_is_asked_for(fep: Fep, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says no has signed nothing."""
    fep("member", "w", DEPARTMENT, "--key", "me.pub")
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    fep("sign", "w", "--key", "me.key", code=1)
    assert "1 more of me" in fep("diff", "w", code=1)


@pytest.mark.usefixtures("workspace")
def test_missing_signatures_name_the_next_step(fep: Fep) -> None:
    """An error says who is to be asked."""
    fep("member", "w", DEPARTMENT, "--key", "me.pub")
    said = fep("publish", "w", code=1)
    assert "[central-unsigned]" in said
    assert "targets version 2: 1 more of me" in said
    assert "fep central sign" in said


def test_fewer_people_than_must_sign_are_no_holders(fep: Fep) -> None:
    """Three of one cannot be."""
    fep("keygen", "me.key", "--open")
    said = fep("init", "w", "--root", "me.pub", "--targets", "me.pub", code=2)
    assert "expected 1 to 1 keys, got 3" in said


def test_second_publisher_waits(fep: Fep, workspace: Path) -> None:
    """One at a time."""
    with Workspace(workspace).alone():
        assert "[central-busy]" in fep("refresh", "w", code=1)
    fep("refresh", "w")


def test_refresh_tells_of_a_damaged_file(fep: Fep, workspace: Path) -> None:
    """It signs what it can all the same, and names what agents would refuse."""
    rollout_published(fep)
    fep("refresh", "w")
    (place,) = (workspace / "published/targets").glob("*.rollout.json")
    place.write_bytes(b"")
    said = fep("refresh", "w", code=1)
    assert "Damaged, to be brought back from the backup: rollout.json" in said
    assert "Served from now on" in said


def test_folder_that_is_no_workspace_is_told(fep: Fep) -> None:
    """Nothing is made there."""
    assert "fep central init" in fep("publish", "w", code=2)
    assert not Path("w").exists()


@pytest.mark.parametrize(("lang", "word"), [("en", "reverted"), ("zh", "已回退")])
@pytest.mark.usefixtures("workspace")
def test_fleet_shows_who_needs_somebody(fep: Fep, lang: str, word: str) -> None:
    """What is wrong, below the node, and exit 1."""
    view(view(None))
    said = fep("fleet", "--nodes", "view.json", lang=lang, code=1)
    assert word in said
    assert "spool-full" in said
    assert fep("fleet", "--nodes", "view.json", "--late")


@pytest.mark.usefixtures("workspace")
def test_watch_lets_a_good_rollout_be_and_stops_a_bad_one(fep: Fep) -> None:
    """Once it has stopped it says so again and publishes nothing more."""
    rollout_published(fep)
    watch = ("brake", "w", "--watch", "--nodes", "view.json")
    digest = view(None)
    assert "no ring is bad" in fep(*watch)
    view(digest)
    assert "1/1 nodes reverted; generation 1 is stopped" in fep(*watch, code=1)
    versions = fep("fleet", "w", "--nodes", "view.json", code=1)
    assert "ring a: started, 1 nodes, 0 run it, 1 reverted" in versions
    fep(*watch, code=1)


def rollout_published(fep: Fep) -> None:
    """Generation 1, whose only ring takes every node."""
    Path("city").mkdir()
    rollout = '{"rings":[{"name":"a","start":"2020-01-01T00:00:00Z","nodes":["*"]}]}'
    Path("city/rollout.json").write_text(rollout, "utf-8")
    fep("draft", "w", "city")
    fep("sign", "w", "--key", "me.key", "--yes")
    fep("publish", "w")


@pytest.mark.usefixtures("workspace")
def test_look_that_failed_is_not_taken_for_a_stop(fep: Fep) -> None:
    """A timer tells the two apart by the exit code."""
    rollout_published(fep)
    watch = ("brake", "w", "--watch", "--once", "--exchange", "away.sock")
    assert "[central-not-watched]" in fep(*watch, code=75)


def test_watch_outlives_an_absent_exchange_and_another_publisher(
    fep: Fep, workspace: Path
) -> None:
    """It says so and looks again, until it can stop what is bad."""
    rollout_published(fep)
    view(view(None))
    body = Path("view.json").read_bytes()
    other, asked = ExitStack(), []

    class Exchange(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if len(asked) == 1:
                return  # away: no answer at all
            if len(asked) == 2:
                other.enter_context(Workspace(workspace).alone())
            else:
                other.close()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "test"

    with socketserver.UnixStreamServer("a.sock", Exchange) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        watch = ("brake", "w", "--watch", "--every", "0.1", "--exchange", "a.sock")
        said = fep(*watch, code=1)
        server.shutdown()
        thread.join()
    assert said.index("exchange-unreachable") < said.index("central-busy")
    assert "Served from now on" in said


@pytest.mark.usefixtures("workspace")
def test_role_speaks_anew_before_it_expires(fep: Fep) -> None:
    """Its people sign; who holds it stays, and root says nothing."""
    said = fep("rotate", "w", "releases")
    assert "releases 2" in said
    assert "\nroot " not in said
    assert "nobody holds a role" in fep("rotate", "w", "nobody", code=2)


@pytest.mark.parametrize("name", ["x", f"{DEPARTMENT}/"])
@pytest.mark.usefixtures("workspace")
def test_only_keys_and_nodes_are_revoked(fep: Fep, name: str) -> None:
    """A slip of the keyboard stops nobody."""
    assert "expected a node or a key id" in fep("revoke", "w", name, code=2)


@pytest.mark.usefixtures("workspace")
def test_what_is_revoked_stays_so(fep: Fep) -> None:
    """The second time says that it was done."""
    fep("revoke", "w", NODE, "--force")
    assert "is revoked already" in fep("revoke", "w", NODE, code=2)
    fep("revoke", "w", "k" * 43, "--force")


@pytest.mark.usefixtures("workspace")
def test_revoking_whom_nobody_knows_is_asked_back(fep: Fep) -> None:
    """A slip of the keyboard would leave the thief at work."""
    assert "--force" in fep("revoke", "w", f"{DEPARTMENT}/fepp1", code=2)
    key = KeyStatus("k" * 43, "active", "2026-11-22T08:00:00Z", None)
    own = NodeEntry(NODE, "active", (), (key,))
    body = DepartmentFile(DEPARTMENT, (own,), {}).as_object()
    Path("city/directory").mkdir(parents=True)
    Path(f"city/directory/{DEPARTMENT}.json").write_text(json.dumps(body), "utf-8")
    fep("draft", "w", "city")
    fep("sign", "w", "--key", "me.key", "--yes")
    fep("publish", "w")
    assert "--force" in fep("revoke", "w", f"{DEPARTMENT}/fepp1", code=2)
    fep("revoke", "w", NODE)
    fep("revoke", "w", "k" * 43)
