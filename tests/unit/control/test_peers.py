# SPDX-License-Identifier: Apache-2.0
"""Other nodes' chains of keys: what follows, what breaks, what a person accepts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control.peers import Peers
from agent.crypto.jose import PrivateKey
from agent.errors import PeerReset, PeerUnknown
from agent.state import State
from agent.state.peers import Pin
from agent.wire import directory as wire
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeFile,
    NodeEntry,
    Reset,
    RevokedFile,
)
from agent.wire.keys import KeyStatement

NOW = datetime(2026, 11, 22, tzinfo=UTC)
DEPARTMENT = "11990100MB0000027F"
NODE = f"{DEPARTMENT}/ybj-fep1"
OWN = "11990100MB0000018H/rsj-fep1"
RESET = Reset("2026-11-22T00:00:00Z", "disc is dead")


class Memory:
    def __init__(self) -> None:
        self.pins: dict[str, Pin] = {}

    def all(self) -> tuple[Pin, ...]:
        return tuple(self.pins.values())

    def put(self, pins: list[Pin]) -> None:
        self.pins |= {pin.node: pin for pin in pins}


def chain(n: int, *, node: str = NODE, begin: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Statements of a node; ``begin`` are the first ones of another chain."""
    key, texts = PrivateKey.generate("sign"), list(begin)
    while len(texts) < n:
        statement = KeyStatement(
            node, len(texts) + 1, (key.public,), "2026-01-01T00:00:00Z"
        )
        texts.append(key.sign("fep-keys+jws", statement.payload()))
    return tuple(texts)


def directory(
    *statements: str, reset: Reset | None = None, node: str = NODE
) -> Directory:
    """With one node that has these statements."""
    department = node.partition("/")[0]
    entry = NodeEntry(node, "active", statements, (), reset)
    return Directory(
        iat=0,
        departments={department: DepartmentFile(department, (entry,), {})},
        exchange=ExchangeFile(()),
        revoked=RevokedFile({}, {}),
    )


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def peers(memory: Memory) -> Peers:
    return Peers(memory, own=OWN, now=lambda: NOW)


def test_a_chain_that_goes_on_is_followed_silently(peers: Peers) -> None:
    """A rotation of a peer needs nobody here."""
    one = chain(1)
    assert peers.note(directory(*one)) == []
    longer = directory(*chain(3, begin=one))
    peers.check(longer, NODE)
    assert peers.note(longer) == []
    assert [(p.node, p.n) for p in peers.known()] == [(NODE, 3)]


def test_a_reset_stops_lookups_until_a_person_accepts(peers: Peers) -> None:
    """With the very directory that brings it, and over the next ones, too."""
    peers.note(directory(*chain(1)))
    anew = directory(*chain(1), reset=RESET)
    with pytest.raises(PeerReset, match="reset at 2026-11-22"):
        peers.check(anew, NODE)
    (found,) = peers.note(anew)
    assert (found.node, found.reason) == (NODE, "disc is dead")
    assert peers.trouble(anew) is not None
    with pytest.raises(PeerReset):
        peers.check(anew, NODE)
    assert peers.accept(anew, NODE).found == found.found
    peers.check(anew, NODE)
    assert peers.trouble(anew) is None
    assert peers.note(anew) == []


def test_attack_other_keys_without_a_reset(peers: Peers) -> None:
    """An exchange that changes a node's keys quietly is found out."""
    peers.note(directory(*chain(2)))
    with pytest.raises(PeerReset, match="without a reset"):
        peers.check(directory(*chain(2)), NODE)


def test_attack_the_chain_forks_behind_its_first_statement(peers: Peers) -> None:
    """Who stole an old sign key and the exchange makes another statement 2."""
    one = chain(1)
    peers.note(directory(*chain(2, begin=one)))
    with pytest.raises(PeerReset):
        peers.check(directory(*chain(2, begin=one)), NODE)


def test_attack_statements_are_taken_back(peers: Peers) -> None:
    """A shorter chain would bring a rotated key back."""
    two = chain(2)
    peers.note(directory(*two))
    with pytest.raises(PeerReset):
        peers.check(directory(two[0]), NODE)


def test_a_break_is_told_once_over_restarts(peers: Peers, memory: Memory) -> None:
    """Until it is on record it is told again; then the next life knows."""
    peers.note(directory(*chain(1)))
    anew = directory(*chain(1), reset=RESET)
    (found,) = peers.note(anew)
    assert peers.note(anew) == [found]
    peers.told(found)
    assert Peers(memory, own=OWN, now=lambda: NOW).note(anew) == []
    again = Peers(memory, own=OWN, now=lambda: NOW)
    with pytest.raises(PeerReset):
        again.check(anew, NODE)
    assert len(again.note(directory(*chain(1), reset=RESET))) == 1


def test_our_own_chain_is_no_peer(peers: Peers) -> None:
    """Enrolling anew must not lock us out of ourselves."""
    peers.note(directory(*chain(1, node=OWN), node=OWN))
    assert peers.known() == []


def test_only_who_waits_can_be_accepted(peers: Peers) -> None:
    """A wrong word changes nothing."""
    found = directory(*chain(1))
    peers.note(found)
    for node in (NODE, f"{DEPARTMENT}/nobody"):
        with pytest.raises(PeerUnknown):
            peers.accept(found, node)


def test_what_is_known_outlives_the_process(tmp_path: Path) -> None:
    """It stands in the state."""
    path = tmp_path / "state.db"
    state = State(path, new_incarnation=lambda: "0" * 32)
    Peers(state.peers, own=OWN, now=lambda: NOW).note(directory(*chain(1)))
    state.close()
    state = State(path, new_incarnation=lambda: "0" * 32)
    again = Peers(state.peers, own=OWN, now=lambda: NOW)
    with pytest.raises(PeerReset):
        again.check(directory(*chain(1)), NODE)
    state.close()


def test_a_reset_stands_in_the_directory_with_its_reason() -> None:
    """As an optional member; an entry without one has none."""
    found = directory(*chain(1), reset=RESET)
    file = found.departments[DEPARTMENT]
    assert wire.parse_department(file.as_object(), DEPARTMENT) == file
    plain = replace(file, nodes=(replace(file.nodes[0], reset=None, status="left"),))
    body = plain.as_object()
    assert "reset" not in body["nodes"][0]
    assert wire.parse_department(body, DEPARTMENT) == plain
