# SPDX-License-Identifier: Apache-2.0
"""What goes live, and what does not."""

from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.central import brake, standing
from agent.central.disk import RealDisk
from agent.central.own import OwnRepository
from agent.central.roles import Terms
from agent.errors import (
    CentralInvalid,
    CentralStale,
    CentralUnsigned,
    DocumentsInvalid,
    UsageFault,
)
from tests.support.city import (
    DEPARTMENT,
    GROUP_FILE,
    NODE,
    NODE_FILE,
    OTHER,
    City,
    Client,
    document,
    fresh,
)

BOTH = "targets-1 targets-2"
LISTED = b'{"v":1,"generation":1,"groups":["all"]}'


@pytest.fixture
def city(tmp_path: Path) -> City:
    """A city whose repository is published."""
    found = City(tmp_path / "work")
    found.begin()
    return found


def test_a_client_reads_what_was_published(city: City) -> None:
    """A group's, a node's and the brake's files arrive as they were put."""
    city.member()
    city.put(GROUP_FILE, document(1), BOTH)
    city.put(NODE_FILE, document(1), f"{DEPARTMENT}-1")
    found = fresh(city).read(GROUP_FILE, NODE_FILE, "revoked.json", "halt.json")
    assert found[GROUP_FILE] == found[NODE_FILE] == document(1)
    assert sorted(found) == sorted([GROUP_FILE, NODE_FILE, "revoked.json", "halt.json"])


def test_a_client_follows_from_publication_to_publication(
    city: City, tmp_path: Path
) -> None:
    """What it kept of the last one does not stop it."""
    client = Client.of(city, tmp_path / "client")
    for generation in (1, 2, 3):
        city.put(GROUP_FILE, document(generation), BOTH)
        assert client.read(GROUP_FILE) == {GROUP_FILE: document(generation)}


@pytest.mark.parametrize("names", ["", "targets-1", "targets-1 root-1 directory-1"])
def test_too_few_signatures_publish_nothing(city: City, names: str) -> None:
    """Targets need two of their own three; other roles' keys do not count."""
    with pytest.raises(CentralUnsigned, match=r"targets version 2: \d more"):
        city.put(GROUP_FILE, document(1), names)
    assert fresh(city).read(GROUP_FILE) == {}


def test_one_key_that_signs_twice_counts_once(city: City) -> None:
    """A threshold counts keys, not signatures."""
    with pytest.raises(CentralUnsigned, match="1 more of targets-2, targets-3"):
        city.put(GROUP_FILE, document(1), "targets-1 targets-1")


def test_root_needs_three_of_five(city: City) -> None:
    """The old root's holders and the new one's."""
    change = city.change()
    change.hold("root", city.holders("root-1 root-2 root-3 root-4 new-1", 3))
    city.sign(change, "new-1 root-1 root-5")
    with pytest.raises(CentralUnsigned, match="root version 2: 1 more"):
        city.press().publish(change)


def test_department_cannot_sign_for_another(city: City) -> None:
    """Its role speaks of its own nodes only, though its signature is good."""
    city.member()
    city.member(OTHER)
    change = city.change()
    change.put(NODE_FILE, document(1))
    mine, other = (f"department-{d}" for d in (DEPARTMENT, OTHER))
    file = change.words[mine].signed.targets.pop(NODE_FILE)
    change.word(other).signed.targets[NODE_FILE] = file
    city.sign(change, f"{DEPARTMENT}-1 {OTHER}-1")
    with pytest.raises(DocumentsInvalid, match=f"expected a path that {other} may"):
        city.press().publish(change)


def test_department_without_keys_has_no_voice(city: City) -> None:
    """A member is made first."""
    with pytest.raises(UsageFault, match="has no keys yet"):
        city.change().put(NODE_FILE, document(1))


@pytest.mark.parametrize(
    "path",
    ["evil.json", "../x", "groups/a/b/config.json", "nodes/x/y/config.json", "groups"],
)
def test_path_of_nobody_is_refused(city: City, path: str) -> None:
    """Only what the agreement names is published."""
    with pytest.raises(UsageFault):
        city.change().put(path, document(1))


@pytest.mark.parametrize(
    "path",
    [
        "groups/Hospitals/config.json",
        "groups/医院/config.json",
        "groups/%2e%2e/config.json",
        f"nodes/{DEPARTMENT}/FEP1/config.json",
        "directory/x.json",
    ],
)
def test_path_that_no_agent_asks_for_is_refused(city: City, path: str) -> None:
    """Nobody would ever notice that it has no effect."""
    city.member()
    with pytest.raises(UsageFault):
        city.change().put(path, document(1))


def test_node_of_a_group_that_is_not_there_is_refused(city: City) -> None:
    """It would run nothing of what is wanted."""
    city.member()
    with pytest.raises(DocumentsInvalid, match="groups that are published, got all"):
        city.put(NODE_FILE, LISTED, f"{DEPARTMENT}-1")


def test_group_that_a_node_lists_is_not_withdrawn(city: City) -> None:
    """The nodes first, then the group."""
    city.member()
    city.put(GROUP_FILE, document(1), BOTH)
    city.put(NODE_FILE, LISTED, f"{DEPARTMENT}-1")
    change = city.change()
    change.remove(GROUP_FILE)
    with pytest.raises(DocumentsInvalid, match=f"{NODE_FILE}: groups"):
        city.press().publish(city.sign(change, BOTH))
    change.put(NODE_FILE, document(2))
    city.press().publish(city.sign(change, f"{DEPARTMENT}-1"))


def test_exchange_without_an_address_is_refused(city: City) -> None:
    """Agents would refuse it."""
    with pytest.raises(DocumentsInvalid, match="exchanges: expected one or more"):
        city.put("exchange.json", b'{"v":1,"exchanges":[]}', BOTH)


def test_draft_of_yesterday_is_refused(city: City) -> None:
    """Another one of the same version went live meanwhile."""
    first = city.change()
    first.put(GROUP_FILE, document(1))
    second = copy.deepcopy(first)
    city.press().publish(city.sign(first, BOTH))
    second.before = standing.read(city.workspace.published)
    with pytest.raises(CentralStale, match="expected version 3, got 2"):
        city.press().publish(city.sign(second, BOTH))


def test_revocation_of_another_process_is_not_lost(tmp_path: Path) -> None:
    """Who began before it does not publish over it, and what is served stays whole."""
    now = datetime.now(UTC)
    one = OwnRepository.at(tmp_path / "own")
    one.begin(now)
    slow, quick = one.change(now), one.change(now)
    slow.put("limits.json", b'{"v":1,"generation":1,"limits":{}}')
    assert brake.revoke(quick, NODE)
    one.publish(quick)
    with pytest.raises(CentralStale, match="meanwhile"):
        one.publish(slow)
    found = standing.read(one.workspace.published)
    assert found is not None
    assert b"fep1" in found.content("revoked.json")
    assert one.put({"limits.json": slow.files["limits.json"]}, now) is not None


def test_folder_that_is_served_is_never_removed(city: City) -> None:
    """Not even if its number is the next one's."""
    (city.metadata.resolve()).rename(city.workspace.published / ".metadata-2")
    city.metadata.unlink()
    city.metadata.symlink_to(".metadata-2")
    with pytest.raises(CentralInvalid, match="is served already"):
        city.put(GROUP_FILE, document(1), BOTH)
    assert set(fresh(city).read("halt.json")) == {"halt.json"}


def test_expired_draft_is_refused(city: City) -> None:
    """It waited longer for its signatures than its word holds."""
    change = city.change()
    change.put(GROUP_FILE, document(1))
    city.sign(change, BOTH)
    change.now += timedelta(days=366)
    with pytest.raises(CentralStale, match="expired"):
        city.press().publish(change)


def test_repository_whose_root_expired_is_refused(city: City) -> None:
    """A client would refuse it, so it does not go live."""
    change = city.change()
    change.now += timedelta(days=400)
    change.put(GROUP_FILE, document(1))
    with pytest.raises(CentralInvalid, match=r"client would refuse.*expired"):
        city.press().publish(city.sign(change, BOTH))


def test_role_that_expired_keeps_nobody_from_the_brake(city: City) -> None:
    """A department whose people sleep is no reason to trust a stolen machine."""
    change = city.change()
    change.terms = Terms({"department": 1})
    change.hold(f"department-{DEPARTMENT}", city.holders("sleeper", 1))
    city.press().publish(city.sign(change, f"{BOTH} sleeper"))
    change = city.change()
    change.now += timedelta(days=2)
    assert brake.revoke(change, NODE)
    live = city.press().publish(change)
    assert live.versions["brake"] == 2
    assert live.expires[f"department-{DEPARTMENT}"] < change.now


def test_brake_is_signed_anew_before_it_expires(city: City) -> None:
    """By whatever is published in the second half of its time."""
    change = city.change()
    change.put(GROUP_FILE, document(1))
    assert city.press().publish(city.sign(change, BOTH)).versions["brake"] == 1
    change = city.change()
    change.now += timedelta(days=16)
    change.put(GROUP_FILE, document(2))
    assert city.press().publish(city.sign(change, BOTH)).versions["brake"] == 2


def test_lower_generation_is_refused(city: City) -> None:
    """Going back is a new generation with old content."""
    city.put(GROUP_FILE, document(5), BOTH)
    with pytest.raises(DocumentsInvalid, match="generation: expected more than 5"):
        city.put(GROUP_FILE, document(4), BOTH)


def test_every_fault_of_all_documents_is_told_at_once(city: City) -> None:
    """Not one after the other."""
    change = city.change()
    change.put(GROUP_FILE, b'{"v":1,"generation":0}')
    change.put("rollout.json", b'{"v":1,"generation":1,"rings":[{}]}')
    change.put("exchange.json", b"[]")
    with pytest.raises(DocumentsInvalid) as caught:
        city.press().publish(city.sign(change, BOTH))
    assert {f.file for f in caught.value.faults} == set(change.files)


def test_content_that_was_not_signed_is_refused(city: City) -> None:
    """A file was changed after the signatures."""
    change = city.change()
    change.put(GROUP_FILE, document(1))
    city.sign(change, BOTH)
    change.files[GROUP_FILE] = document(1, "other")
    with pytest.raises(DocumentsInvalid, match="the content that was signed"):
        city.press().publish(change)


def test_online_key_that_is_not_there_stops_the_press(city: City) -> None:
    """Nothing is published without a timestamp."""
    del city.people["timestamp-1"]
    with pytest.raises(CentralUnsigned, match="timestamp"):
        city.put(GROUP_FILE, document(1), BOTH)


def test_damaged_repository_is_not_published_over(city: City) -> None:
    """A lost file of metadata is told, not papered over."""
    (city.metadata / "1.targets.json").unlink()
    with pytest.raises(CentralInvalid, match=r"1\.targets\.json"):
        city.change()


@pytest.mark.parametrize("left", [b"", b"x" * len(document(1)), None])
def test_damaged_file_is_told_and_written_again(city: City, left: bytes | None) -> None:
    """Cut, overwritten or gone; whoever publishes its content heals it."""
    city.put(GROUP_FILE, document(1), BOTH)
    before = standing.read(city.workspace.published)
    assert before is not None
    assert standing.damaged(before) == ()
    name = standing.digest_name(before.files[GROUP_FILE])
    place = city.workspace.published / "targets" / name
    place.unlink() if left is None else place.write_bytes(left)
    assert standing.damaged(before) == (GROUP_FILE,)
    change = city.change()
    change.word("targets")
    change.files[GROUP_FILE] = document(1)
    city.press().publish(city.sign(change, BOTH))
    assert fresh(city).read(GROUP_FILE) == {GROUP_FILE: document(1)}


def test_same_content_makes_no_new_version(city: City) -> None:
    """Nobody has to sign for nothing."""
    city.put(GROUP_FILE, document(1), BOTH)
    change = city.change()
    assert not change.put(GROUP_FILE, document(1))
    assert change.words == {}


def test_real_disk_replaces_links_of_others(tmp_path: Path) -> None:
    """A link that somebody laid where the new file is made is not followed."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (tmp_path / ".x.new").symlink_to(victim)
    RealDisk().write(tmp_path / "x", b"new")
    assert (victim.read_bytes(), (tmp_path / "x").read_bytes()) == (b"mine", b"new")
