# SPDX-License-Identifier: Apache-2.0
"""What ``fep central`` published is read by python-tuf's own client, from nginx."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main
from tests.support import cli_json
from tests.support.city import DEPARTMENT, GROUP_FILE, NODE, NODE_FILE, Client

pytestmark = pytest.mark.contract

CONFIG = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{ }}
http {{
    access_log off; client_body_temp_path {folder}; proxy_temp_path {folder};
    fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
    server {{ listen 127.0.0.1:{port}; location /tuf/ {{ alias {published}/; }} }}
}}
"""
WAIT_S = 60

Fep = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("central")


@pytest.fixture(scope="module")
def fep(folder: Path) -> Fep:
    """``fep central`` as people type it, one call after the other."""

    def run(*words: str, code: int = 0) -> Any:
        said = io.StringIO()
        with (
            contextlib.chdir(folder),
            contextlib.redirect_stdout(said),
            pytest.raises(SystemExit) as ended,
        ):
            main(["central", *words, "--json"])
        assert (ended.value.code or 0) == code, said.getvalue()
        body = json.loads(said.getvalue())
        if "error" not in body:
            assert cli_json.faults(members(words[0]), body) == []
        return body

    return run


def members(command: str) -> cli_json.Members:
    """What docs/cli-json.md says of a command's answer."""
    if command in ("init", "member", "rotate", "draft", "diff", "sign"):
        return cli_json.shape("draft")
    if command in ("publish", "refresh", "revoke", "brake"):
        return cli_json.shape("live")
    found = cli_json.sections()
    return next(m for h, m in found.items() if h.startswith(f"`fep central {command}"))


@pytest.fixture(scope="module")
def people(fep: Fep, folder: Path) -> str:
    """A workspace whose first draft five people signed; its root's digest."""
    (folder / "pass").write_text("correct horse battery staple\n", "utf-8")
    names = ("r1", "r2", "r3", "t1", "t2")
    for name in names:
        fep("keygen", f"{name}.key", "--passphrase-file", "pass")
    roots = [word for n in names[:3] for word in ("--root", f"{n}.pub")]
    others = [word for n in names[3:] for word in ("--targets", f"{n}.pub")]
    fep("init", "w", *roots, *others)
    assert fep("publish", "w", code=1)["error"]["code"] == "central-unsigned"
    for name in names:
        signed(fep, name)
    return str(fep("publish", "w")["root_sha256"])


def signed(fep: Fep, name: str) -> Any:
    return fep("sign", "w", "--key", f"{name}.key", "--passphrase-file", "pass")


@pytest.fixture(scope="module")
def served(people: str, folder: Path) -> Iterator[str]:
    """The address of an nginx that serves what was published."""
    del people
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    published = folder / "w" / "published"
    config = folder / "nginx.conf"
    config.write_text(
        CONFIG.format(folder=folder, port=port, published=published), "utf-8"
    )
    command = ["/usr/sbin/nginx", "-p", str(folder), "-c", str(config)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, "nginx does not start"
                assert time.monotonic() < until
                time.sleep(0.02)
        yield f"http://127.0.0.1:{port}/tuf"
    finally:
        process.terminate()
        process.wait(WAIT_S)


def documents(folder: Path, files: dict[str, str]) -> Path:
    place = folder / "city"
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text, "utf-8")
    return place


def test_reference_client_reads_from_nginx_what_people_published(
    fep: Fep, folder: Path, served: str, tmp_path: Path
) -> None:
    """Draft, member, signatures, publication, rotation, brake; its own fetcher."""
    root = (folder / "w/published/metadata/1.root.json").read_bytes()
    client = Client(tmp_path, root, base=served, fetcher=None)
    assert set(client.read("halt.json", "revoked.json")) == {
        "halt.json",
        "revoked.json",
    }

    fep("member", "w", DEPARTMENT, "--key", "t1.pub")
    city = documents(folder, {GROUP_FILE: '{"settings":{"log":{"level":"debug"}}}'})
    drafted = fep("draft", "w", str(city))
    assert [f["path"] for f in drafted["files"]] == [GROUP_FILE]
    assert fep("diff", "w", code=1)["ready"] is False
    signed(fep, "t1")
    assert signed(fep, "t2")["ready"] is True
    fep("publish", "w")
    documents(folder, {NODE_FILE: '{"groups":["all"]}'})
    assert fep("draft", "w", str(city))["nodes"] == [NODE]
    signed(fep, "t1")
    fep("publish", "w")
    found = client.read(GROUP_FILE, NODE_FILE)
    assert json.loads(found[NODE_FILE])["groups"] == ["all"]

    fep("rotate", "w", "timestamp")
    for name in ("r1", "r2", "r3"):
        signed(fep, name)
    fep("publish", "w")
    fep("brake", "w", "1")
    fep("revoke", "w", NODE, "--force")
    found = client.read("halt.json", "revoked.json", GROUP_FILE)
    assert json.loads(found["halt.json"])["generations"] == [1]
    assert json.loads(found["revoked.json"])["nodes"][0]["node"] == NODE
    assert len(found) == 3


def test_bad_rollout_is_stopped_by_who_watches(
    fep: Fep, folder: Path, served: str
) -> None:
    """More than five percent of a ring reverted: the generation is halted, exit 1."""
    rollout = '{"rings":[{"name":"all","start":"2020-01-01T00:00:00Z","nodes":["*"]}]}'
    city = documents(folder, {"rollout.json": rollout})
    fep("draft", "w", str(city))
    signed(fep, "t1")
    signed(fep, "t2")
    fep("publish", "w")
    digest = f"sha256:{'1' * 64}"
    config = {"desired": digest, "running": digest, "failed": None, "reason": None}
    beat = {
        "agent": "fep/1",
        "config": config,
        "worst": [],
        "spool": {"blocked": False},
        "troubles": [],
    }
    seen = {"node": NODE, "stands": "healthy", "at": "2026-11-22T08:00:00Z"}
    seen |= {"doubt": None, "beat": beat}
    view = folder / "view.json"
    view.write_text(json.dumps({"nodes": [seen]}), "utf-8")
    assert fep("fleet", "w", "--nodes", "view.json")["rings"][0]["running"] == 1
    config |= {"failed": digest, "running": f"sha256:{'0' * 64}", "reason": "x"}
    view.write_text(json.dumps({"nodes": [seen]}), "utf-8")
    shown = fep("fleet", "w", "--nodes", "view.json", "--failed", code=1)
    assert [n["node"] for n in shown["nodes"]] == [NODE]
    live = fep("brake", "w", "--watch", "--nodes", "view.json", code=1)
    assert {r["role"] for r in live["roles"]} >= {"brake", "timestamp"}
