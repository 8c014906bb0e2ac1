# SPDX-License-Identifier: Apache-2.0
"""The city's TUF repository: what a node believes, and every way to deceive it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.control.trust import Trust
from agent.control.trust_fetch import Folder
from agent.errors import (
    ExchangeRefused,
    ExchangeUnreachable,
    TrustExpired,
    TrustLongExpired,
    TrustRefused,
)
from agent.state import KeptTrust, State, Stopped
from agent.state.trust import MOST_STOPPED
from tests.support.tuf_city import DEPARTMENT, NODE, OTHER, City, signers

NODE_FILE = f"nodes/{NODE}/config.json"
OTHER_NODE = f"{OTHER}/gaj-1"
KID = "k" * 43
AT = "2026-11-21T08:00:00Z"
OWN = f"directory/{DEPARTMENT}.json"


def revoked(*nodes: str, kids: tuple[str, ...] = ()) -> dict[str, object]:
    """``revoked.json``."""
    return {
        "v": 1,
        "kids": [{"kid": kid, "at": AT} for kid in kids],
        "nodes": [{"node": node, "at": AT} for node in nodes],
    }


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
    found.put("exchange.json", {"v": 1, "exchanges": []})
    found.put("limits.json", {"v": 1, "limits": {}})
    found.put("revoked.json", revoked())
    for name in (DEPARTMENT, OTHER):
        empty = {"v": 1, "department": name, "nodes": [], "resources": []}
        found.put(f"directory/{name}.json", empty)
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


def test_a_chain_of_roots_with_a_gap_ends_before_it(agent: Agent) -> None:
    """Who leaves a version out keeps us at the one before, whatever comes after."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    city.write("root")
    missing = city.place("root", 2).read_bytes()
    city.write("root")
    city.place("root", 2).unlink()
    assert trust.refresh().versions["root"] == 1
    city.place("root", 2).write_bytes(city.place("root", 3).read_bytes())
    with pytest.raises(TrustRefused, match="Expected root version 2"):
        trust.refresh()
    city.place("root", 2).write_bytes(missing)
    assert trust.refresh().versions["root"] == 3


def test_a_root_that_too_few_of_the_old_keys_signed_is_refused(agent: Agent) -> None:
    """Two of three people who vouch for the next root must be those of the last."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    old, stranger = city.keys["root"], signers(3)
    for key in stranger:
        city.signed["root"].signed.add_key(key.public_key, "root")
    city.write("root", by=[old[0], *stranger])
    with pytest.raises(TrustRefused, match="signed by 1/2"):
        trust.refresh()
    assert trust.kept() is not None


# --- thresholds, versions, times --------------------------------------------------


@pytest.mark.parametrize("role", ["targets", "directory"])
def test_one_stolen_offline_key_of_two_signs_nothing(agent: Agent, role: str) -> None:
    """A threshold is a number of people, not of signatures."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    if role == "targets":
        city.put("limits.json", b"{}")
    else:
        city.put(OWN, b"{}")
    thief = city.keys[role][0]
    city.write(role, by=[thief, *signers(1)])
    city.publish()
    with pytest.raises(TrustRefused, match=f"{role} was signed by 1/2"):
        trust.refresh()
    assert trust.kept() == kept
    assert [e.code for e in trust.troubles()] == ["trust-refused"]


def test_stolen_online_keys_say_nothing_new(agent: Agent) -> None:
    """Snapshot and timestamp choose among what was signed offline, and brake only
    stops: neither a node's configuration nor the directory can be made by them."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    city.put("limits.json", b"{}")
    city.write("targets", by=city.keys["snapshot"])
    city.publish()
    with pytest.raises(TrustRefused):
        trust.refresh()
    city.put(NODE_FILE, b"{}", role="brake")
    city.put(OWN, b"{}", role="brake")
    city.signed["targets"].signed.version = 1
    city.write("targets", version=3)
    city.publish("brake")
    found = trust.refresh()
    assert found.files[NODE_FILE] == kept.files[NODE_FILE]
    assert found.files[OWN] == kept.files[OWN]


def test_the_brake_stops_with_one_key(agent: Agent) -> None:
    """What may only stop needs nobody to fetch a key from a safe."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    city.put("halt.json", {"v": 1, "generations": [4]})
    city.publish("brake")
    assert trust.refresh().files["halt.json"] == b'{"v": 1, "generations": [4]}'


def test_nobody_lifts_what_the_brake_stopped(agent: Agent) -> None:
    """Its key lies on a machine with a line: what it ever revoked or halted stays so,
    after its next word and after a restart; only what is stopped may grow."""
    trust, city = agent.trust(), agent.city
    city.put("revoked.json", revoked(OTHER_NODE, kids=(KID,)))
    city.put("halt.json", {"v": 1, "generations": [4]})
    city.publish("brake")
    first = trust.refresh().stopped
    assert first == Stopped({KID: AT}, {OTHER_NODE: AT}, frozenset({4}))
    city.put("revoked.json", revoked())
    city.put("halt.json", {"v": 1, "generations": [5]})
    city.publish("brake")
    both = replace(first, generations=frozenset({4, 5}))
    assert trust.refresh().stopped == both
    assert agent.trust().refresh().stopped == both
    kept = agent.trust().kept()
    assert kept is not None
    assert kept.stopped == both


def test_a_brake_that_lists_very_many_fills_no_disk(agent: Agent) -> None:
    """So many are remembered; what is beyond counts while it is said."""
    many = {f"{OTHER}/n{i}": AT for i in range(MOST_STOPPED + 1)}
    kept = KeptTrust(AT, (), {})
    agent.state.trust.keep("pin", kept, Stopped(nodes=many))
    agent.state.trust.keep("pin", kept, Stopped(nodes={"late": AT}))
    assert len(agent.state.trust.stopped("pin").nodes) == MOST_STOPPED
    assert agent.state.trust.stopped("other pin") == Stopped()


def test_one_departments_key_signs_for_its_own_nodes_alone(agent: Agent) -> None:
    """The path of a file says whose key counts."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    own = f"department-{DEPARTMENT}"
    for path in ("groups/west/config.json", OWN, "halt.json"):
        city.put(path, b"{}", role=own)
    city.put(NODE_FILE, b'{"groups": ["west"]}')
    city.content["groups/west/config.json"] = b'{"v": 1, "who": "west"}'
    city.publish(own)
    found = trust.refresh()
    assert found.files["groups/west/config.json"] == b'{"v": 1, "who": "west"}'
    assert found.files[OWN] != b"{}"
    assert "halt.json" not in found.files


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "brake"])
def test_going_back_is_refused(agent: Agent, role: str) -> None:
    """An older version that was signed once is no newer for being shown again."""
    trust, city = agent.trust(), agent.city
    city.publish("targets", "brake")
    kept = trust.refresh()
    delegated = role in ("targets", "brake")
    city.write(role, version=1)
    if delegated:
        city.write("snapshot")
    if role != "timestamp":
        city.write("timestamp")
    with pytest.raises(TrustRefused):
        trust.refresh()
    assert trust.kept() == kept


@pytest.mark.parametrize("gone", ["metadata", "targets", ""])
def test_going_back_is_refused_though_the_folder_was_deleted(
    agent: Agent, gone: str
) -> None:
    """The state holds the versions too."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    old = agent.city.folder.with_name("old")
    shutil.copytree(city.folder, old)
    city.publish("targets", "brake")
    trust.refresh()
    shutil.rmtree(agent.folder / gone)
    shutil.rmtree(city.folder)
    old.rename(city.folder)
    with pytest.raises(TrustRefused, match=r"version 2 or later, got 1|must be"):
        agent.trust().refresh()


def test_going_back_is_refused_though_an_old_folder_was_put_back(agent: Agent) -> None:
    """A backup of the metadata alone is not the past of the node."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    backup, old = agent.folder.with_name("backup"), city.folder.with_name("old")
    shutil.copytree(agent.folder, backup, symlinks=True)
    shutil.copytree(city.folder, old)
    city.put("limits.json", {"v": 1, "generation": 2})
    city.publish("targets")
    trust.refresh()
    for put, back in ((agent.folder, backup), (city.folder, old)):
        shutil.rmtree(put)
        back.rename(put)
    with pytest.raises(TrustRefused, match="targets: expected version 2 or later"):
        agent.trust().refresh()
    assert agent.trust().kept() is None  # its files are the old ones


def test_after_a_stolen_online_key_was_replaced_its_numbers_do_not_bar_the_way(
    agent: Agent,
) -> None:
    """A thief who counted far ahead is undone by new keys of snapshot and timestamp."""
    trust, city = agent.trust(), agent.city
    city.write("snapshot", version=999_999)
    city.write("timestamp", version=999_999)
    trust.refresh()
    root = city.signed["root"].signed
    for role in ("snapshot", "timestamp"):
        root.revoke_key(city.keys[role][0].public_key.keyid, role)
        city.keys[role] = signers(1)
        root.add_key(city.keys[role][0].public_key, role)
        city.signed[role].signed.version = 1
    city.write("root")
    city.publish()
    assert trust.refresh().versions["timestamp"] == 2


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "brake"])
def test_a_version_beyond_all_numbers_is_refused(agent: Agent, role: str) -> None:
    """A thief of the online keys counts as far as he likes: that ends no daemon."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    for version in (2**53, 2**63):
        city.write(role, version=version)
        if role == "brake":
            city.write("snapshot")
        if role != "timestamp":
            city.write("timestamp")
        with pytest.raises(TrustRefused, match=f"{role}: expected a version below"):
            trust.refresh()
        assert agent.trust().kept() == kept


def test_metadata_of_two_moments_do_not_mix(agent: Agent) -> None:
    """A new snapshot with the targets of before, or a snapshot that timestamp does not
    name, is no state that the city ever had."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    before = city.place("targets", 1).read_bytes()
    city.put("limits.json", b"{}")
    city.publish("targets")
    city.place("targets", 2).write_bytes(before)
    with pytest.raises(TrustRefused, match="Expected targets v2, got v1"):
        trust.refresh()
    assert trust.kept() == kept
    city.write("targets", version=2)
    older = city.place("snapshot", 2).read_bytes()
    city.publish()
    city.place("snapshot", 3).write_bytes(older)
    with pytest.raises(TrustRefused, match="Expected snapshot version 3, got 2"):
        trust.refresh()


def test_a_role_that_snapshot_forgets_is_missed(agent: Agent) -> None:
    """Nothing that was listed disappears from the list."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    del city.signed["brake"]
    del city.signed["snapshot"].signed.meta["brake.json"]
    city.publish()
    with pytest.raises(TrustRefused, match=r"missing info for 'brake\.json'"):
        trust.refresh()


@pytest.mark.parametrize(
    "role", ["root", "timestamp", "snapshot", "targets", "brake", "directory"]
)
def test_what_expired_is_not_taken_and_the_last_good_goes_on(
    agent: Agent, role: str
) -> None:
    """Expiry of any role bars what is new; what was verified stays, and a person is
    told after a day, and louder after a week."""
    trust, city = agent.trust(), agent.city
    hour = timedelta(hours=1)
    for each in city.signed:
        city.expire(each, city.now + 3000 * hour)
    city.expire(role, city.now + hour)
    city.write("root")
    city.publish(*city._delegating)
    kept = trust.refresh()
    agent.at += 2 * hour
    with pytest.raises(TrustExpired, match=r"expired"):
        trust.refresh()
    assert trust.kept() == kept
    assert trust.troubles() == []
    agent.at += 23 * hour
    assert [type(e) for e in trust.troubles()] == [TrustExpired]
    agent.at += timedelta(days=7)
    assert [type(e) for e in agent.trust().troubles()] == [TrustLongExpired]


@pytest.mark.parametrize("how", ["length", "version"])
def test_a_department_cannot_bar_the_way_by_big_numbers(agent: Agent, how: str) -> None:
    """A length or a version of its own role costs its nodes their news of
    configuration, and no revocation."""
    trust, city, own = agent.trust(), agent.city, f"department-{DEPARTMENT}"
    first = trust.refresh()
    if how == "length":
        city.signed[own].signed.targets[NODE_FILE].length = 10**9
    city.write(own, version=2**63 if how == "version" else None)
    city.put("revoked.json", revoked(OTHER_NODE))
    city.publish("brake")
    for each in (trust, agent.trust()):
        found = each.refresh()
        assert list(found.stopped.nodes) == [OTHER_NODE]
        assert found.files[NODE_FILE] == first.files[NODE_FILE]
        assert found.versions[own] == 1
        assert [e.code for e in each.troubles()] == ["trust-refused"]


def test_a_department_that_expired_and_a_kept_file_that_is_gone(agent: Agent) -> None:
    """Its own file cannot be had at all: revocations come all the same."""
    trust, city, own = agent.trust(), agent.city, f"department-{DEPARTMENT}"
    trust.refresh()
    city.expire(own, city.now + timedelta(hours=1))
    agent.at += timedelta(hours=2)
    city.put("revoked.json", revoked(OTHER_NODE))
    city.publish(own, "brake")
    shutil.rmtree(agent.folder)
    for _ in range(2):
        found = trust.refresh()
        assert list(found.stopped.nodes) == [OTHER_NODE]
        assert NODE_FILE not in found.files


@pytest.mark.parametrize("how", ["expired", "signed by another", "taken away"])
def test_a_department_that_forgot_its_own_keys_still_hears_of_revocations(
    agent: Agent, how: str
) -> None:
    """Its nodes keep the configuration that they had; what the city says of everybody
    goes on to reach them, and a person is told."""
    trust, city, own = agent.trust(), agent.city, f"department-{DEPARTMENT}"
    first = trust.refresh()
    city.put(NODE_FILE, {"v": 1, "generation": 2, "groups": ["west"]})
    city.put("revoked.json", revoked(OTHER_NODE))
    if how == "expired":
        city.expire(own, city.now + timedelta(hours=1))
        agent.at += timedelta(hours=2)
    city.write(own, by=signers(1) if how == "signed by another" else None)
    city.publish("brake")
    if how == "taken away":
        city.place(own, 2).unlink()
    for each in (trust, agent.trust()):
        found = each.refresh()
        assert list(found.stopped.nodes) == [OTHER_NODE]
        assert found.files[NODE_FILE] == first.files[NODE_FILE]
        assert found.files["groups/all/config.json"] == b'{"v": 1, "who": "all"}'
        assert found.versions[own] == 1
    code = "exchange-refused" if how == "taken away" else "trust-refused"
    said = [e.code for e in trust.troubles()]
    assert said == ([] if how == "expired" else [code])
    agent.at += timedelta(hours=25)
    later = [e.code for e in trust.troubles()]
    assert later == (["trust-expired"] if how == "expired" else [code])
    assert trust.kept() == agent.trust().kept()


def test_a_frozen_city_is_found_out(agent: Agent) -> None:
    """Who shows the same state for ever is believed until its timestamp ends."""
    trust, city = agent.trust(), agent.city
    city.expire("timestamp", city.now + timedelta(days=7))
    city.write("timestamp")
    trust.refresh()
    agent.at += timedelta(days=6)
    assert trust.refresh().versions["timestamp"] == 2
    agent.at += timedelta(days=2)
    with pytest.raises(TrustExpired):
        trust.refresh()
    assert [type(e) for e in trust.troubles()] == [TrustExpired]


# --- bytes ------------------------------------------------------------------------


def test_a_file_of_another_length_or_hash_is_refused(agent: Agent) -> None:
    """One byte changed, added or taken away, and the file is not the city's."""
    trust, city = agent.trust(), agent.city
    good = city.content["limits.json"]
    digest = hashlib.sha256(good).hexdigest()
    place = city.folder / "targets" / f"{digest}.limits.json"
    for bad in (good.replace(b"1", b"2"), good[:-1], good + b" "):
        place.write_bytes(bad)
        with pytest.raises(TrustRefused):
            trust.refresh()
        assert trust.kept() is None
    place.unlink()
    with pytest.raises(ExchangeRefused, match="http-404"):
        trust.refresh()
    place.write_bytes(good)
    trust.refresh()


@pytest.mark.parametrize(
    "path", ["metadata/2.root.json", "metadata/timestamp.json", "metadata/2.brake.json"]
)
def test_endless_data_is_cut(agent: Agent, path: str) -> None:
    """Each file has a length that it may have at most."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    city.publish("brake")
    drawn = 0

    def endless(asked: str) -> Iterator[bytes]:
        nonlocal drawn
        if asked != path:
            yield from Folder(city.folder).get(asked)
            return
        while True:
            drawn += 65536
            yield b" " * 65536

    agent.get = endless  # type: ignore[method-assign]
    with pytest.raises(TrustRefused, match="exceeding"):
        trust.refresh()
    assert drawn < 17 * 1024 * 1024


def test_a_file_that_is_too_long_for_its_kind_is_not_asked_for(agent: Agent) -> None:
    """A signature does not make a configuration of a gigabyte."""
    trust, city = agent.trust(), agent.city
    city.put("limits.json", b" " * (1024 * 1024 + 1))
    city.publish("targets")
    with pytest.raises(TrustRefused, match="too many"):
        trust.refresh()


def test_metadata_that_is_no_metadata_is_refused(agent: Agent) -> None:
    """Whatever stands where metadata should: nothing breaks but the refresh."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    for junk in (b"", b"[]", b"{}", b"\xff", b'{"signed": 1}', b"[" * 10_000):
        city.place("timestamp", 1).write_bytes(junk)
        with pytest.raises(TrustRefused):
            trust.refresh()
    assert trust.kept() == kept


@pytest.mark.parametrize("path", ["revoked.json", "exchange.json", OWN])
def test_a_signed_file_of_an_unknown_format_is_not_remembered(
    agent: Agent, path: str
) -> None:
    """Nonsense from the centre, or a format of later: what was verified before goes on,
    also after a restart, and a person is told."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    city.put(path, {"v": 2})
    city.publish(city.role_of(path))
    with pytest.raises(TrustRefused, match=path):
        trust.refresh()
    assert [e.code for e in trust.troubles()] == ["trust-refused"]
    assert agent.trust().kept() == kept


def test_a_halt_that_cannot_be_read_keeps_no_revocation_back(agent: Agent) -> None:
    """Nothing is applied while it stands; a key that is revoked is revoked."""
    trust, city = agent.trust(), agent.city
    trust.refresh()
    city.put("halt.json", {"v": 2})
    city.put("revoked.json", revoked(kids=(KID,)))
    city.publish("brake")
    assert list(trust.refresh().stopped.kids) == [KID]


def test_an_exchange_without_a_repository_is_told(agent: Agent) -> None:
    """404 is no attack, and nothing was verified."""
    shutil.rmtree(agent.city.folder / "metadata")
    agent.pin = "0" * 64
    with pytest.raises(TrustRefused, match="got none"):
        agent.trust().refresh()


def test_a_repository_that_is_gone_for_long_is_told(agent: Agent) -> None:
    """404, or no line: no trouble while it is short, and never silence for good."""
    trust = agent.trust()
    trust.refresh()
    place = agent.city.folder / "metadata"
    place.rename(place.with_name("gone"))
    for minutes, said in ((0, []), (14, []), (2, ["exchange-refused"])):
        agent.at += timedelta(minutes=minutes)
        with pytest.raises(ExchangeRefused, match="http-404"):
            trust.refresh()
        assert [e.code for e in trust.troubles()] == said
    place.with_name("gone").rename(place)
    trust.refresh()
    assert trust.troubles() == []


def test_a_cut_between_two_files_is_only_a_cut(agent: Agent) -> None:
    """After every file that could be the last before the line or the power went, the
    next look gets everything, and what was verified before is still there."""
    trust, city = agent.trust(), agent.city
    kept = trust.refresh()
    city.put("limits.json", {"v": 1, "generation": 2})
    city.put("halt.json", {"v": 1, "generations": []})
    city.write("root")
    city.publish("targets", "brake")
    whole = agent.get
    for left in range(20):
        seen = 0

        def until(asked: str, left: int = left) -> Iterator[bytes]:
            nonlocal seen
            seen += 1
            if seen > left:
                raise ExchangeUnreachable("cut")
            yield from whole(asked)

        agent.get = until  # type: ignore[method-assign]
        try:
            found = agent.trust().refresh()
        except ExchangeUnreachable:
            assert agent.trust().kept() == kept
        else:
            break
    assert found.versions["root"] == 2
    assert found.files["limits.json"] == b'{"v": 1, "generation": 2}'
    assert left >= 5


def test_a_file_that_the_power_took_is_fetched_again(agent: Agent) -> None:
    """Whatever one file of the folder is after a crash, empty or half: the next look
    has everything again, and the versions have not fallen."""
    city = agent.city
    city.write("root")
    city.publish("targets", "brake")
    good = agent.trust().refresh()
    paths = [p for p in agent.folder.rglob("*") if p.is_file() and not p.is_symlink()]
    assert len(paths) > 12
    for path in paths:
        whole = path.read_bytes()
        for half in (b"", whole[: len(whole) // 2]):
            path.write_bytes(half)
            found = agent.trust().refresh()
            assert (found.files, found.versions) == (good.files, good.versions)


def test_what_a_killed_walk_left_half_done_is_swept(agent: Agent) -> None:
    """Files that were never renamed into place do not pile up."""
    trust = agent.trust()
    trust.refresh()
    half = [
        agent.folder / "metadata" / "tmpabc123",
        agent.folder / "targets" / "a.part",
    ]
    for path in half:
        path.write_bytes(b"x")
    role = agent.folder / "metadata" / "tmp-role.json"
    role.write_bytes(b"x")  # a role may be called so
    trust.refresh()
    assert [path.exists() for path in (*half, role)] == [False, False, True]


def test_two_at_a_time_are_one_after_the_other(agent: Agent) -> None:
    """A timer and a nudge: python-tuf's folder has one user at a time."""
    inside, most = 0, 0
    whole = agent.get

    def slow(asked: str) -> Iterator[bytes]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        try:
            yield from whole(asked)
        finally:
            inside -= 1

    agent.get = slow  # type: ignore[method-assign]
    trust = agent.trust()
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: trust.refresh().versions, range(8)))
    assert found == [found[0]] * 8
    assert most == 1
