# SPDX-License-Identifier: Apache-2.0
"""A draft is carried to people, shown and signed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    SuccinctRoles,
    Targets,
)

from agent.central import brake, collect, draft, keys, standing
from agent.central.change import Change
from agent.central.difference import Member, difference
from agent.central.keys import FileSigner
from agent.central.roles import Holders, Terms
from agent.crypto.metakey import MetadataKey
from agent.errors import (
    CentralInvalid,
    CentralKeyForeign,
    CentralStale,
    DocumentsInvalid,
    SecretUnreadable,
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
    """A city with a member whose node is in the group ``all``."""
    found = City(tmp_path / "work")
    found.begin()
    found.member()
    found.put(GROUP_FILE, document(1, "info"), BOTH)
    found.put(NODE_FILE, LISTED, f"{DEPARTMENT}-1")
    return found


@pytest.fixture
def carried(city: City) -> Path:
    """A draft of the group's next generation."""
    change = city.change()
    change.put(GROUP_FILE, document(2, "debug"))
    return city.drafted(change)


def sign(city: City, folder: Path, name: str) -> tuple[str, ...]:
    """Sign as a person does who has nothing but the folder."""
    change = draft.load_carried(folder, now=city.now)
    return draft.sign(folder, change, city.person(name), disk=city.disk)


def publish(city: City, folder: Path) -> None:
    """What came back goes live."""
    before = standing.read(city.workspace.published)
    change = draft.load(folder, before=before, terms=Terms(), now=city.now)
    city.press().publish(change)


def test_draft_goes_from_person_to_person_and_live(city: City, carried: Path) -> None:
    """Each adds a signature without the others, and without the repository."""
    assert sign(city, carried, "targets-3") == ("targets",)
    assert sign(city, carried, "targets-1") == ("targets",)
    publish(city, carried)
    assert fresh(city).read(GROUP_FILE) == {GROUP_FILE: document(2, "debug")}


def test_draft_shows_values_and_whom_they_reach(city: City, carried: Path) -> None:
    """Old and new of every member, and the nodes that list the group."""
    found = difference(draft.load_carried(carried, now=city.now))
    assert found.files[0].members == (
        Member("generation", "1", "2"),
        Member("settings.log.level", '"info"', '"debug"'),
    )
    assert (found.nodes, found.everybody) == ((NODE,), False)
    assert (found.signed[0].missing, found.signed[0].open) == (
        2,
        ("targets-1", "targets-2", "targets-3"),
    )


def test_change_of_holders_is_shown(city: City) -> None:
    """Who was, who comes, and how many must sign."""
    change = city.change()
    change.hold("targets", city.holders("targets-1 new-1", 1))
    held = difference(change).holdings
    new = tuple(keys.named(city.person(n).public_key) for n in ("new-1", "targets-1"))
    assert [(h.role, h.new, h.old_threshold, h.new_threshold) for h in held] == [
        ("targets", new, 2, 1)
    ]


def test_other_keys_under_the_same_labels_are_shown(city: City) -> None:
    """A thief's keys that are called as the old ones were."""
    change = city.change()
    thieves = [FileSigner(MetadataKey.generate(), f"directory-{i}") for i in (1, 2, 3)]
    change.hold("directory", Holders(tuple(t.public_key for t in thieves), 2))
    assert [h.role for h in difference(change).holdings] == ["directory"]


def widened(targets: Targets) -> None:
    """Another department's nodes."""
    _role(targets).paths = ["nodes/*/*/config.json"]


def hashed(targets: Targets) -> None:
    """Every file whose digest begins so, which is every file."""
    _role(targets).paths, _role(targets).path_hash_prefixes = None, [""]


def further(targets: Targets) -> None:
    """A role that nobody knows."""
    found = targets.delegations
    assert found is not None
    assert found.roles is not None
    found.roles["more"] = DelegatedRole("more", [], 1, True, paths=["*.json"])


def binned(targets: Targets) -> None:
    """Roles that are never named."""
    found = targets.delegations
    assert found is not None
    some = next(iter(found.keys))
    roles = SuccinctRoles([some], 1, 1, "bin")
    targets.delegations = Delegations(dict(found.keys), succinct_roles=roles)


def swapped(targets: Targets) -> None:
    """The thief's key under the id of somebody else's."""
    found = targets.delegations
    assert found is not None
    public = FileSigner(MetadataKey.generate()).public_key.keyval
    found.keys[_role(targets).keyids[0]].keyval = public


def _role(targets: Targets) -> DelegatedRole:
    found = targets.get_delegated_role(f"department-{DEPARTMENT}")
    assert isinstance(found, DelegatedRole)
    return found


@pytest.mark.parametrize("attack", [widened, hashed, further, binned, swapped])
def test_power_that_nobody_is_shown_is_not_signed(
    city: City, attack: Callable[[Targets], None]
) -> None:
    """A stolen publisher cannot hide it in a harmless draft."""
    change = city.change()
    change.put(GROUP_FILE, document(2))
    attack(change.word("targets").signed)
    with pytest.raises(DocumentsInvalid, match="targets"):
        sign(city, city.drafted(change), "targets-1")


def test_role_hands_nothing_on(city: City) -> None:
    """Only targets says who speaks of what."""
    change = city.change()
    word = change.word(f"department-{DEPARTMENT}")
    word.signed.delegations = Delegations({}, roles={})
    with pytest.raises(DocumentsInvalid, match="delegations: expected none"):
        sign(city, city.drafted(change), f"{DEPARTMENT}-1")


@pytest.mark.parametrize("name", ["root-1", f"{OTHER}-1", "nobody"])
def test_key_without_a_part_signs_nothing(city: City, carried: Path, name: str) -> None:
    """A foreign key is told so; the draft stays as it was."""
    before = (carried / "new/metadata/targets.json").read_bytes()
    with pytest.raises(CentralKeyForeign):
        sign(city, carried, name)
    assert (carried / "new/metadata/targets.json").read_bytes() == before


def test_content_that_was_swapped_is_not_signed(city: City, carried: Path) -> None:
    """A person signs what was shown."""
    (carried / "new/targets" / GROUP_FILE).write_bytes(document(2, "error"))
    with pytest.raises(DocumentsInvalid):
        sign(city, carried, "targets-1")


def test_forged_past_is_not_compared_with(city: City, carried: Path) -> None:
    """What is said to run already was signed by those who held it."""
    path = carried / "old/metadata/targets.json"
    found = Metadata.from_bytes(path.read_bytes())
    found.signed.expires = found.signed.expires.replace(year=2099)
    path.write_bytes(found.to_bytes())
    with pytest.raises(CentralInvalid, match="not signed by those who held it"):
        sign(city, carried, "targets-1")


def test_past_of_another_root_is_refused(city: City, tmp_path: Path) -> None:
    """A forged city, whole in itself, does not follow from the root on the slip."""
    other = City(tmp_path / "other")
    other.begin()
    change = other.change()
    change.put(GROUP_FILE, document(2))
    folder = other.drafted(change)
    pin = hashlib.sha256(city.first).hexdigest()
    with pytest.raises(CentralInvalid, match="expected a first root"):
        draft.load_carried(folder, now=city.now, root_sha256=pin)
    found = draft.load_carried(folder, now=city.now)
    assert draft.first_root_sha256(found) == hashlib.sha256(other.first).hexdigest()


def test_root_that_does_not_follow_is_refused(city: City, carried: Path) -> None:
    """The pinned root is there, but the one compared with was made by others."""
    path = carried / "old/metadata/root.json"
    found = Metadata[Root].from_bytes(path.read_bytes())
    found.signed.version = 2
    thief = city.person("thief")
    found.signed.roles["root"].threshold = 1
    found.signed.add_key(thief.public_key, "root")
    found.signatures.clear()
    found.sign(thief)
    for each in (path, carried / "old/roots/2.json"):
        each.write_bytes(found.to_bytes())
    pin = hashlib.sha256(city.first).hexdigest()
    with pytest.raises(CentralInvalid, match="old/root: is not signed"):
        draft.load_carried(carried, now=city.now, root_sha256=pin)


def test_past_is_followed_over_every_root(city: City) -> None:
    """Holders changed twice; the first root still vouches for the newest."""
    for name in ("next-1", "next-2"):
        change = city.change()
        held = f"root-1 root-2 root-3 root-4 {name}"
        change.hold("root", city.holders(held, 3))
        city.press().publish(city.sign(change, "root-1 root-2 root-3"))
    change = city.change()
    change.put(GROUP_FILE, document(2))
    pin = hashlib.sha256(city.first).hexdigest()
    found = draft.load_carried(city.drafted(change), now=city.now, root_sha256=pin)
    assert found.before is not None
    assert len(found.before.roots) == 3


def test_version_that_leaves_one_out_is_not_signed(city: City, carried: Path) -> None:
    """Nobody can hide a version between."""
    path = carried / "new/metadata/targets.json"
    found = Metadata.from_bytes(path.read_bytes())
    found.signed.version += 1
    path.write_bytes(found.to_bytes())
    with pytest.raises(CentralStale):
        sign(city, carried, "targets-1")


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "brake", "../x", "who"])
def test_online_or_unknown_role_is_never_drafted(
    city: City, carried: Path, role: str
) -> None:
    """A draft cannot bring a timestamp of its own."""
    name = f"{role.replace('../', '')}.json"
    (carried / "new/metadata" / name).write_bytes(
        (city.metadata / "timestamp.json").read_bytes()
    )
    with pytest.raises((UsageFault, CentralInvalid)):
        sign(city, carried, "targets-1")


def test_link_in_a_draft_is_not_followed(city: City, carried: Path) -> None:
    """A draft holds plain files."""
    (carried / "new/targets/limits.json").symlink_to("/etc/hostname")
    with pytest.raises(UsageFault, match="expected a plain file"):
        sign(city, carried, "targets-1")


# --- holders ----------------------------------------------------------------------


def test_lost_key_is_replaced_and_old_clients_follow(
    city: City, tmp_path: Path
) -> None:
    """Three of root's five let another hold targets; the lost key counts no more."""
    old = Client.of(city, tmp_path / "old")
    old.read(GROUP_FILE)
    change = city.change()
    change.hold("targets", city.holders("targets-2 targets-3 new-1", 2))
    city.press().publish(city.sign(change, "root-1 root-2 root-4 targets-2 targets-3"))
    change = city.change()
    change.put(GROUP_FILE, document(2))
    assert city.sign(change, "targets-1 targets-2").signed()[0].missing == 1
    city.press().publish(city.sign(change, "new-1"))
    assert old.read(GROUP_FILE) == {GROUP_FILE: document(2)}


def test_root_chain_is_read_by_a_client_that_was_away(
    city: City, tmp_path: Path
) -> None:
    """From the first root over every rotation, each signed by old and new."""
    away = Client.of(city, tmp_path / "away")
    away.read()
    held = "root-1 root-2 root-3 root-4 root-5"
    for i in range(1, 4):
        old, held = held, f"{held.partition(' ')[2]} next-{i}"
        change = city.change()
        change.hold("root", city.holders(held, 3))
        city.press().publish(city.sign(change, f"{old} next-{i}"))
    assert away.read(GROUP_FILE) == {GROUP_FILE: document(1, "info")}
    assert (city.metadata / "4.root.json").exists()


def test_lost_online_key_is_replaced(city: City, tmp_path: Path) -> None:
    """Root names another timestamp key; the lost one need not sign."""
    old = Client.of(city, tmp_path / "old")
    old.read()
    del city.people["timestamp-1"]
    change = city.change()
    change.hold("timestamp", city.holders("timestamp-2", 1))
    city.press().publish(city.sign(change, "root-1 root-2 root-3"))
    assert set(old.read(GROUP_FILE)) == set(fresh(city).read(GROUP_FILE))


def test_new_brake_key_signs_the_brake_anew(city: City) -> None:
    """Its word is not left with a key that is trusted no more."""
    change = city.change()
    change.hold("brake", city.holders("brake-2", 1))
    city.press().publish(city.sign(change, BOTH))
    assert set(fresh(city).read("halt.json")) == {"halt.json"}


# --- folders ----------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Documents without generations, as people keep them."""
    found = tmp_path / "city"
    for path, text in {
        GROUP_FILE: '{"settings": {"log": {"level": "info"}}, "off": []}',
        NODE_FILE: '{"groups": ["all", "new"]}',
        "groups/new/config.json": "{}",
        ".git/config": "x",
    }.items():
        (found / path).parent.mkdir(parents=True, exist_ok=True)
        (found / path).write_text(text, "utf-8")
    return found


def test_only_what_differs_is_drafted_with_the_next_generation(
    city: City, folder: Path
) -> None:
    """A person need not count."""
    change = city.change()
    assert set(collect.collect(change, folder)) == {NODE_FILE, "groups/new/config.json"}
    assert b'"generation": 2' in change.files[NODE_FILE]


def test_stopped_withdrawn_and_drafted_numbers_are_not_given_again(
    city: City, folder: Path
) -> None:
    """What agents refuse, or have seen with other content, is passed over."""
    for number in (2, 11, 2**53 - 1):
        change = city.change()
        brake.halt(change, number)
        city.press().publish(change)
    assert collect.next_generation(city.change()) == 3
    city.put("groups/b/config.json", document(9), BOTH)
    change = city.change()
    change.remove("groups/b/config.json")
    city.press().publish(city.sign(change, BOTH))
    assert collect.next_generation(city.change()) == 10
    change = city.change()
    change.put("groups/c/config.json", document(10))
    assert collect.next_generation(change) == 12
    collect.collect(change, folder)
    assert b'"generation": 12' in change.files[NODE_FILE]


def test_number_that_is_stopped_is_not_signed(city: City) -> None:
    """Nobody would take it."""
    change = city.change()
    brake.halt(change, 2)
    city.press().publish(change)
    change = city.change()
    change.put(GROUP_FILE, document(2))
    with pytest.raises(DocumentsInvalid, match="one that is not stopped, got 2"):
        sign(city, city.drafted(change), "targets-1")


def test_file_of_nobody_stops_the_draft(city: City, folder: Path) -> None:
    """A slip of the keyboard is not left out silently."""
    (folder / "group").mkdir()
    (folder / "group/config.json").write_text("{}", "utf-8")
    with pytest.raises(UsageFault, match=r"group/config\.json"):
        collect.collect(city.change(), folder)


def test_brake_is_not_drafted_from_a_folder(city: City, folder: Path) -> None:
    """It lies online; people's signatures are not for it."""
    (folder / "halt.json").write_text('{"v":1,"generations":[]}', "utf-8")
    with pytest.raises(UsageFault, match=r"halt\.json"):
        collect.collect(city.change(), folder)


# --- key files --------------------------------------------------------------------


def test_key_file_is_its_owners_alone_and_sealed(city: City, tmp_path: Path) -> None:
    """0400, and not readable without its passphrase."""
    path = city.key_file(tmp_path, "zhang", b"correct horse battery")
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert (
        keys.read_public(keys.public_path(path)).keyid
        == (
            keys.load(path, passphrase=b"correct horse battery", environ={})
        ).public_key.keyid
    )
    with pytest.raises(SecretUnreadable):
        keys.load(path, passphrase=b"wrong", environ={})
    with pytest.raises(UsageFault, match="is there already"):
        city.key_file(tmp_path, "zhang", None)


def test_key_file_that_others_may_read_is_refused(city: City, tmp_path: Path) -> None:
    """A stick that shows everything to everybody is told."""
    path = city.key_file(tmp_path, "zhang", None)
    path.chmod(0o444)
    with pytest.raises(SecretUnreadable, match="0400"):
        keys.load(path, passphrase=None, environ={})


def test_draft_in_the_making_is_not_taken(city: City) -> None:
    """An empty folder is no draft."""
    change = Change(None, Terms(), city.now)
    assert change.signed() == ()
    with pytest.raises(UsageFault, match="no draft"):
        draft.load_carried(city.workspace.draft, now=city.now)
