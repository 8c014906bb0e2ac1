# SPDX-License-Identifier: Apache-2.0
"""What the reference exchange serves of a published repository, and says by it."""

from __future__ import annotations

import asyncio
import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from agent.crypto.jose import PrivateKey
from agent.wire.directory import (
    Directory,
    ExchangeEntry,
    ExchangeFile,
    RevokedFile,
)
from sandbox.accept import Refused
from sandbox.repository import Repository, readable, watch
from tests.support.tuf_city import DEPARTMENT, City

AT = "2026-11-21T08:00:00Z"
KEY = PrivateKey.generate("receipt").public
KID = PrivateKey.generate("sign").public.kid
NODES = {"v": 1, "department": DEPARTMENT, "nodes": [], "resources": []}


@pytest.fixture
def city(tmp_path: Path) -> City:
    found = City(tmp_path / "city")
    found.put(f"directory/{DEPARTMENT}.json", NODES)
    found.put("revoked.json", {"v": 1, "kids": [{"kid": KID, "at": AT}], "nodes": []})
    return found.first()


def own(**changes: str) -> Directory:
    """What the registry of the exchange says by itself."""
    entry = ExchangeEntry("yunxi.exchange", ("https://x",), ((KEY, "active"),))
    return Directory(7, {}, ExchangeFile((entry,)), RevokedFile(changes, {}))


def test_the_directory_says_what_the_newest_metadata_lists(city: City) -> None:
    """Files that lie there from before, or that no metadata names, say nothing."""
    repository = Repository(city.folder)
    other = PrivateKey.generate("sign").public.kid
    found = repository.over(own(**{other: AT}))
    assert (found.iat, list(found.departments)) == (7, [DEPARTMENT])
    assert set(found.revoked.kids) == {KID, other}  # either side may revoke
    assert found.exchange == own().exchange  # the repository has none yet
    more = [{"resource": "990100001/000001", "node": f"{DEPARTMENT}/fep1"}]
    city.put(f"directory/{DEPARTMENT}.json", {**NODES, "resources": more})
    assert repository.over(own()).departments == found.departments
    city.publish("directory")
    assert repository.over(own()).departments[DEPARTMENT].resources


def test_only_published_files_are_served(city: City) -> None:
    """No path leads out of the two folders, none to what is being written."""
    repository = Repository(city.folder)
    (city.folder / "secret").write_bytes(b"x")
    (city.folder / "metadata" / ".tmp").write_bytes(b"x")
    digest = hashlib.sha256(city.content["revoked.json"]).hexdigest()
    assert (
        repository.read(f"targets/{digest}.revoked.json")
        == (city.content["revoked.json"])
    )
    for path in (
        *("secret", "metadata/../secret", "../secret", "metadata/.tmp", "metadata"),
        *("targets//x", "/etc/passwd", "metadata/9.root.json", "metadata/\0", ""),
    ):
        with pytest.raises(Refused) as e:
            repository.read(path)
        assert e.value.problem.code == "not-found"


def test_while_the_repository_cannot_be_read_nothing_is_said(tmp_path: Path) -> None:
    """An exchange that follows a repository says nothing of its own instead."""
    city = City(tmp_path / "city")
    with pytest.raises(Refused, match="cannot be read"):
        readable(Repository(city.folder), own())
    city.first()
    city.place("timestamp", 1).write_bytes(b"{}")
    with pytest.raises(Refused, match="cannot be read"):
        readable(Repository(city.folder), own())


async def test_nodes_are_nudged_when_something_was_published(city: City) -> None:
    """Once for each publication."""
    moved = asyncio.Event()

    async def tell() -> None:
        moved.set()

    task = asyncio.create_task(watch(Repository(city.folder), tell))
    await asyncio.sleep(0)
    assert not moved.is_set()
    city.publish()
    async with asyncio.timeout(60):
        await moved.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
