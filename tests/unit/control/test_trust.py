# SPDX-License-Identifier: Apache-2.0
"""The city's TUF repository: what a node believes, and every way to deceive it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control.trust import Trust
from agent.control.trust_fetch import Folder
from agent.errors import TrustRefused
from agent.state import State
from tests.support.tuf_city import DEPARTMENT, NODE, OTHER, City, signers

NODE_FILE = f"nodes/{NODE}/config.json"
OWN = f"directory/{DEPARTMENT}.json"


@dataclass
class Agent:
    """A node, its state and what it sees of the city."""

    city: City
    state: State
    folder: Path
    pin: str = ""
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    asked: list[str] = field(default_factory=list)

    def trust(self) -> Trust:
        return Trust(
            self.pin or self.city.pin(),
            node=NODE,
            folder=self.folder,
            book=self.state.trust,
            source=lambda: nullcontext(self),
            now=lambda: self.at,
        )

    def get(self, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        yield from Folder(self.city.folder).get(path)


@pytest.fixture
def city(tmp_path: Path) -> City:
    found = City(tmp_path / "city")
    found.put("exchange.json", {"v": 1})
    found.put("limits.json", {"v": 1})
    found.put("revoked.json", {"v": 1})
    found.put(OWN, {"v": 1, "department": DEPARTMENT})
    found.put(f"directory/{OTHER}.json", {"v": 1, "department": OTHER})
    found.put("groups/all/config.json", {"v": 1, "who": "all"})
    found.put("groups/west/config.json", {"v": 1, "who": "west"})
    found.put(NODE_FILE, {"v": 1, "groups": ["all", "../../exchange", "none"]})
    found.put(f"nodes/{DEPARTMENT}/fep2/config.json", {"v": 1})
    return found.first()


@pytest.fixture
def agent(city: City, tmp_path: Path) -> Iterator[Agent]:
    state = State(tmp_path / "state.db", new_incarnation=lambda: "0" * 32)
    yield Agent(city, state, tmp_path / "tuf")
    state.close()


# --- what is promised -------------------------------------------------------------


def test_a_node_gets_its_own_files_and_everybodys_directory(agent: Agent) -> None:
    """Of a repository a node takes what it needs: no other node's file, no foreign
    group's."""
    found = agent.trust().refresh()
    assert set(found.files) == {
        *("exchange.json", "limits.json", "revoked.json", NODE_FILE, OWN),
        *(f"directory/{OTHER}.json", "groups/all/config.json"),
    }
    assert found.files == {p: agent.city.content[p] for p in found.files}
    assert found.versions["timestamp"] == found.versions["root"] == 1
    assert found.expires["snapshot"] > datetime.now(UTC)


def test_what_was_verified_is_there_after_a_restart_without_a_line(
    agent: Agent,
) -> None:
    """kept() reads the disk alone; a damaged file is as good as none."""
    found = agent.trust().refresh()
    agent.asked.clear()
    assert agent.trust().kept() == found
    assert agent.asked == []
    next(agent.folder.glob("targets/*")).write_bytes(b"{}")
    assert agent.trust().kept() is None
    assert agent.trust().refresh() == found  # and is fetched again


def test_a_change_is_taken_and_little_is_asked(agent: Agent) -> None:
    """A second look asks for the next root and the timestamp; a change for what
    changed."""
    trust = agent.trust()
    trust.refresh()
    agent.asked.clear()
    trust.refresh()
    assert agent.asked == ["metadata/2.root.json", "metadata/timestamp.json"]
    agent.city.put("limits.json", {"v": 1, "generation": 2})
    agent.city.publish("targets")
    found = trust.refresh()
    assert found.files["limits.json"] == b'{"v": 1, "generation": 2}'
    assert found.versions["targets"] == 2
    kept = {p.name for p in (agent.folder / "targets").iterdir()}
    used = {hashlib.sha256(data).hexdigest() for data in found.files.values()}
    assert kept == used  # the old one is gone


def test_without_anything_kept_nothing_is_claimed(agent: Agent) -> None:
    """A new node has nothing."""
    assert agent.trust().kept() is None
    assert agent.trust().troubles() == []


# --- the root ---------------------------------------------------------------------


def test_a_root_of_somebody_else_is_refused(agent: Agent, tmp_path: Path) -> None:
    """Only the root whose bytes have the pinned SHA-256 begins anything."""
    agent.pin = City(tmp_path / "else").first().pin()
    trust = agent.trust()
    with pytest.raises(TrustRefused, match="expected a root with SHA-256"):
        trust.refresh()
    assert [e.code for e in trust.troubles()] == ["trust-refused"]


def test_a_later_root_may_be_the_pinned_one(agent: Agent) -> None:
    """A slip of today names the root of today."""
    agent.city.write("root")
    agent.pin = agent.city.pin(2)
    assert agent.trust().refresh().versions["root"] == 2


def test_rotated_root_keys_are_followed(agent: Agent) -> None:
    """A root signed by the old and by the new keys is the next one."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    old, new = city.keys["root"], signers(3)
    for key in old:
        city.signed["root"].signed.revoke_key(key.public_key.keyid, "root")
    for key in new:
        city.signed["root"].signed.add_key(key.public_key, "root")
    city.write("root", by=[*old, *new])
    city.keys["root"] = new
    city.publish()
    assert trust.refresh().versions["root"] == 2
    city.write("root")
    city.publish()
    assert trust.refresh().versions["root"] == 3
