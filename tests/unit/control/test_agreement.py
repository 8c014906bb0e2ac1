# SPDX-License-Identifier: Apache-2.0
"""What a thief of the exchange's online key can say of who is who: nothing new."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control.agreement import Agreement
from agent.control.directory import City, TrustedDirectory
from agent.control.trust import Verified
from agent.crypto.jose import PrivateKey
from agent.errors import (
    DirectoryRefused,
    DirectoryStale,
    DirectoryUnvouched,
    MalformedMessage,
    UnknownKey,
)
from agent.state import Stopped
from agent.wire.directory import (
    DepartmentFile,
    Directory,
    ExchangeEntry,
    ExchangeFile,
    NodeEntry,
    RevokedFile,
)
from agent.wire.keys import KeyStatement

AUD = "yunxi.exchange"
OURS = "11990100MB0000018H"
THEIRS = "11990100MB7654321Y"
PEER = f"{THEIRS}/gaj-1"
AT = "2026-11-21T08:00:00Z"
EXCHANGE = PrivateKey.generate("receipt")
SIGN, DECRYPT, FOREIGN = (
    PrivateKey.generate(purpose) for purpose in ("sign", "decrypt", "decrypt")
)


def node(name: str, decrypt: PrivateKey = DECRYPT) -> NodeEntry:
    keys = (SIGN.public, decrypt.public)
    payload = KeyStatement(name, 1, keys, AT).payload()
    return NodeEntry(name, "active", (SIGN.sign("fep-keys+jws", payload),), ())


ENTRY = node(PEER)
KEY = (EXCHANGE.public, "active")
WITNESS = PrivateKey.generate("receipt").public
GOOD = Directory(
    iat=1000,
    departments={
        OURS: DepartmentFile(OURS, (), {"990100001/000001": f"{OURS}/fep1"}),
        THEIRS: DepartmentFile(THEIRS, (ENTRY,), {}),
    },
    exchange=ExchangeFile(
        (ExchangeEntry(AUD, ("https://x",), (KEY,)),)  # type: ignore[arg-type]
    ),
    revoked=RevokedFile({}, {}),
)


def signed(found: Directory) -> str:
    """With the exchange's own key, which lies on a machine with a line."""
    return EXCHANGE.sign("fep-directory+jws", found.payload())


def carried(found: Directory, *, version: int = 1, at: float = 1e9) -> Verified:
    """What TUF carries if the city says this."""
    objects = {f"directory/{d}.json": f for d, f in found.departments.items()}
    files = {path: file.as_object() for path, file in objects.items()}
    files["exchange.json"] = found.exchange.as_object()
    files["revoked.json"] = found.revoked.as_object()
    return Verified(
        {"timestamp": version},
        {path: json.dumps(body).encode() for path, body in files.items()},
        {},
        datetime.fromtimestamp(at, UTC),
    )


@dataclass
class Place:
    """A node's directory under a city."""

    folder: Path
    seconds: float = 0.0
    newer: list[Verified] = field(default_factory=list)
    asked: int = 0

    def __post_init__(self) -> None:
        self.agreement = Agreement(
            clock=lambda: self.seconds, wall=lambda: 1e9 + self.seconds
        )
        self.directory = self.opened()

    def opened(self) -> TrustedDirectory:
        found = TrustedDirectory(
            self.folder / "directory.jws",
            aud=AUD,
            kid=EXCHANGE.public.kid,
            clock=lambda: self.seconds,
        )
        found.city = City(self.agreement, self._again)
        return found

    async def _again(self) -> None:
        self.asked += 1
        if self.newer:
            self.agreement.take(self.newer.pop(0))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    found = Place(tmp_path)
    found.agreement.take(carried(GOOD))
    found.directory.take(signed(GOOD))
    return found


def other(department: str, **changes: object) -> Directory:
    file = replace(GOOD.departments[department], **changes)  # type: ignore[arg-type]
    return replace(GOOD, iat=1001, departments={**GOOD.departments, department: file})


def with_department(name: str) -> Directory:
    more = {**GOOD.departments, name: DepartmentFile(name, (), {})}
    return replace(GOOD, iat=1001, departments=more)


def with_exchange(**changes: object) -> Directory:
    entry = replace(GOOD.exchange.exchanges[0], **changes)  # type: ignore[arg-type]
    return replace(GOOD, iat=1001, exchange=ExchangeFile((entry,)))


@pytest.mark.parametrize(
    ("attack", "lie"),
    [
        ("adds a node", other(OURS, nodes=(node(f"{OURS}/fep9"),))),
        ("swaps a decrypt key", other(THEIRS, nodes=(node(PEER, FOREIGN),))),
        ("ends a node", other(THEIRS, nodes=(replace(ENTRY, status="left"),))),
        ("changes an owner", other(OURS, resources={"990100001/000001": f"{OURS}/x"})),
        ("takes a resource", other(THEIRS, resources={"990100001/000001": PEER})),
        ("adds a department", with_department("1" * 18)),
        ("moves the exchange", with_exchange(endpoints=("https://thief",))),
        ("adds a key of its own", with_exchange(keys=(KEY, (WITNESS, "active")))),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_a_stolen_exchange_key(place: Place, attack: str, lie: Directory) -> None:
    """The exchange's key alone changes nothing of who is who; the last good directory
    stays in use, and a person sees it."""
    with pytest.raises(DirectoryUnvouched, match="TUF repository"):
        place.directory.take(signed(lie))
    assert place.directory.current == GOOD
    assert isinstance(place.directory.refused, DirectoryUnvouched)
    place.directory.take(signed(replace(GOOD, iat=1002)))
    assert place.directory.refused is None


def test_without_a_verified_repository_no_directory_counts(tmp_path: Path) -> None:
    """A pinned root is no wish: before it was verified nobody is believed."""
    place = Place(tmp_path)
    with pytest.raises(DirectoryUnvouched, match="none yet"):
        place.directory.take(signed(GOOD))
    with pytest.raises(UnknownKey):
        _ = place.directory.current


def test_a_kept_directory_is_judged_again_at_the_start(place: Place) -> None:
    """What lies on the disk may be from a time without a pinned root."""
    assert place.opened().load()
    place.agreement.take(carried(other(OURS, resources={}), version=2))
    again = place.opened()
    assert not again.load()
    assert again.wanted.is_set()


async def test_a_directory_that_is_newer_than_our_copy_is_judged_again(
    place: Place,
) -> None:
    """The exchange read the new repository a moment before us: that is no attack."""
    new = other(OURS, nodes=(node(f"{OURS}/fep2"),))
    place.newer = [carried(new, version=2)]

    async def fetch() -> str:
        return signed(new)

    await place.directory.refresh(fetch)
    assert place.directory.current == new
    assert (place.asked, place.directory.refused) == (1, None)


async def test_a_directory_that_is_older_than_our_copy_is_fetched_again(
    place: Place,
) -> None:
    """We read the new repository a moment before the exchange."""
    new = other(OURS, nodes=(node(f"{OURS}/fep2"),))
    place.agreement.take(carried(new, version=2))
    answers = [signed(replace(GOOD, iat=1001)), signed(replace(new, iat=1002))]

    async def fetch() -> str:
        return answers.pop(0)

    assert (await place.directory.refresh(fetch)).iat == 1002


async def test_an_exchange_that_goes_on_lying_is_refused(place: Place) -> None:
    """One look more, and no endless loop."""
    lie = signed(other(THEIRS, nodes=(node(PEER, FOREIGN),)))

    async def fetch() -> str:
        return lie

    with pytest.raises(DirectoryUnvouched):
        await place.directory.refresh(fetch)
    assert place.asked == 1


def test_either_side_may_revoke_and_neither_alone_may_take_it_back(
    place: Place,
) -> None:
    """The brake's key and the exchange's can each stop a key, at once; whoever steals
    one of them lets nobody go on."""
    stopped = replace(GOOD, revoked=RevokedFile({DECRYPT.public.kid: AT}, {}))
    assert place.directory.current.node_key(PEER, DECRYPT.public.kid, "decrypt")
    place.agreement.take(carried(stopped, version=2))
    place.directory.stop()
    with pytest.raises(UnknownKey, match="revoked"):
        place.directory.current.node_key(PEER, DECRYPT.public.kid, "decrypt")
    place.directory.take(signed(replace(GOOD, iat=1001)))  # the exchange knows nothing
    assert DECRYPT.public.kid in place.directory.current.revoked.kids
    place.agreement.take(carried(GOOD, version=3))  # a stolen brake key
    with pytest.raises(DirectoryRefused, match="revoked"):
        place.directory.take(signed(replace(GOOD, iat=1002)))
    place.directory.take(signed(replace(stopped, iat=1003)))
    assert DECRYPT.public.kid in place.directory.current.revoked.kids


def test_what_the_repository_ever_revoked_is_revoked_though_it_is_silent(
    place: Place,
) -> None:
    """A stolen brake key that says less, and an exchange that never knew, bring neither
    a node nor a key back; nor does a restart."""
    ever = Stopped({SIGN.public.kid: AT}, {PEER: AT})
    place.agreement.take(replace(carried(GOOD, version=3), stopped=ever))
    again = place.opened()
    assert again.load()
    place.directory.stop()
    for found in (place.directory.current, again.current):
        with pytest.raises(UnknownKey, match="revoked"):
            found.node_keys(PEER)
        assert SIGN.public.kid in found.revoked.kids


def test_lookups_rely_on_it_only_while_the_city_confirms_it(place: Place) -> None:
    """A thief of the exchange's key who keeps us from the repository gets no further
    than the age that a directory may have."""
    place.directory.max_age_s = 600.0
    place.seconds = 500.0
    place.directory.take(signed(replace(GOOD, iat=1001)))
    assert place.directory.fresh.iat == 1001
    place.seconds = 601.0
    place.directory.take(signed(replace(GOOD, iat=1002)))
    with pytest.raises(DirectoryStale):
        _ = place.directory.fresh
    place.agreement.take(carried(GOOD, version=1, at=1e9 + 601))
    assert place.directory.fresh.iat == 1002


def test_a_signed_file_that_breaks_the_format_changes_nothing(place: Place) -> None:
    """People at the centre may publish nonsense; what holds goes on."""
    broken = carried(GOOD, version=2)
    for path in broken.files:
        bad = replace(broken, files={**broken.files, path: b'{"v": 2}'})
        with pytest.raises(MalformedMessage, match=path.replace(".", r"\.")):
            place.agreement.take(bad)
    place.directory.take(signed(replace(GOOD, iat=1001)))


def test_what_says_the_same_is_kept_once_though_only_the_city_revokes(
    place: Place,
) -> None:
    """Revocations of the repository make no new evidence of each directory."""
    stopped = replace(GOOD, revoked=RevokedFile({DECRYPT.public.kid: AT}, {}))
    place.agreement.take(carried(stopped, version=2))
    for iat in range(1001, 1004):
        place.directory.take(signed(replace(GOOD, iat=iat)))
    place.directory = place.opened()
    place.directory.load()
    assert len(list((place.folder / "vouchers").iterdir())) <= 2
