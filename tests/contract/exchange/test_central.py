# SPDX-License-Identifier: Apache-2.0
"""The sandbox publishes by itself what it registers, as the city's repository."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from tests.contract.exchange.conftest import enrolled
from tests.support.city import Client
from tests.support.exchange_client import Node, Stream, payload
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract


class NodeFetcher(FetcherInterface):
    """Fetches as a node does, with its certificate."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def _fetch(self, url: str) -> Iterator[bytes]:
        answer = self._node.get(urlsplit(url).path)
        if answer.status != 200:
            raise DownloadHTTPError("refused", answer.status)
        yield answer.body


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    folder = tmp_path_factory.mktemp("exchange")
    with running_sandbox(folder, "--central") as found:
        yield found


@pytest.fixture
def client(sandbox: SandboxProcess, node: Node, tmp_path: Path) -> Client:
    """The reference client of a node, which pins the root of its slip."""
    root = node.get("/tuf/metadata/1.root.json").body
    assert hashlib.sha256(root).hexdigest() == sandbox.tuf_root_sha256
    base = f"{sandbox.url}/tuf"
    return Client(tmp_path / "tuf", root, base=base, fetcher=NodeFetcher(node))


def department(node: Node) -> str:
    return f"directory/{node.node.partition('/')[0]}.json"


def test_whoever_enrols_stands_in_the_repository_at_once(
    node: Node, client: Client
) -> None:
    """With its key statement, and the exchange with its keys."""
    found = client.read(department(node), "exchange.json", "revoked.json", "halt.json")
    assert len(found) == 4
    [entry] = json.loads(found[department(node)])["nodes"]
    assert (entry["node"], len(entry["statements"])) == (node.node, 1)


def test_directory_says_what_the_repository_says(
    node: Node, client: Client, resource: str
) -> None:
    """File by file, and a new owner of a resource stands in both."""
    assert Stream(node, resource).put_catalog().status == 201
    said = payload(node.get("/v1/directory").body.decode())["files"]
    found = client.read(*said)
    assert {path: json.loads(data) for path, data in found.items()} == said
    owned = [entry["resource"] for entry in said[department(node)]["resources"]]
    assert resource in owned


def test_revocation_is_in_the_repository_when_the_call_returns(
    sandbox: SandboxProcess, client: Client, tmp_path: Path
) -> None:
    """The brake carries it."""
    gone = enrolled(sandbox, tmp_path / "gone", node=f"{'9' * 18}/gone")
    sandbox.ask("POST", "/revoke", {"node": gone.node})
    found = json.loads(client.read("revoked.json")["revoked.json"])
    assert gone.node in [entry["node"] for entry in found["nodes"]]


def test_documents_of_a_folder_go_live(
    sandbox: SandboxProcess, node: Node, client: Client, tmp_path: Path
) -> None:
    """Without people; the same folder again changes nothing, and a brake stops it."""
    folder = tmp_path / "city"
    files = ["groups/all/config.json", f"nodes/{node.node}/config.json"]
    for path in files:
        (folder / path).parent.mkdir(parents=True)
        (folder / path).write_text("{}", "utf-8")
    assert sandbox.publish(folder)
    found = client.read(*files)
    assert [json.loads(found[path]) for path in files] == [
        {"v": 1, "generation": 1}
    ] * 2
    command = [sys.executable, "-m", "sandbox", "--dir", str(sandbox.folder)]
    again = [*command, "publish", str(folder)]
    assert subprocess.check_output(again, text=True) == "nothing changed\n"
    sandbox.ask("POST", "/halt", {"generation": 1})
    assert json.loads(client.read("halt.json")["halt.json"])["generations"] == [1]


def test_repository_is_the_same_after_a_kill(
    sandbox: SandboxProcess, client: Client, node: Node
) -> None:
    """Keys and versions are kept; what nodes pinned still holds."""
    pin = sandbox.tuf_root_sha256
    client.read()
    sandbox.kill()
    sandbox.start()
    assert sandbox.tuf_root_sha256 == pin
    assert set(client.read(department(node))) == {department(node)}
