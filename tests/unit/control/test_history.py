# SPDX-License-Identifier: Apache-2.0
"""Keys of the past: what was true then stays true, and nothing else becomes so."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from agent.control.history import History, trusted
from agent.crypto.jose import PrivateKey
from agent.errors import FepError, KeyRevoked, UnknownKey
from agent.wire.directory import ExchangeEntry, ExchangeFile, RevokedFile
from agent.wire.grammar import parse_time
from tests.support.rotations import AUD, NODE, Rotations, at


def counted(keys: Rotations, *texts: str, kid: str | None = None) -> History:
    """The directories that count with X pinned."""
    pinned = kid or keys.x.public.kid
    found, _ = trusted([t.encode() for t in texts], aud=AUD, kid=pinned)
    return found


def moment(year: int, month: int = 6) -> datetime:
    return parse_time(at(year, month))


def test_one_pin_leads_over_rotations_forward_and_back() -> None:
    """The slip of 2026 reads the directory of 2031; that of 2031 reads 2026's."""
    keys = Rotations()
    bridge = keys.signed(2028, by=keys.x)
    texts = [keys.signed(2026), bridge, keys.signed(2029), keys.signed(2031)]
    assert len(counted(keys, *texts).directories) == 4
    assert len(counted(keys, *texts, kid=keys.y.public.kid).directories) == 4
    assert len(counted(keys, *reversed(texts)).directories) == 4


def test_a_gap_in_between_is_none_while_a_directory_has_both_keys() -> None:
    """2031's, signed by Y, has X; but nothing that counts has Y, so nothing counts."""
    keys = Rotations()
    assert counted(keys, keys.signed(2031)).directories == ()
    bridge = keys.signed(2028, by=keys.x)
    assert len(counted(keys, keys.signed(2031), bridge).directories) == 2


def test_a_strangers_directory_does_not_count_and_says_why() -> None:
    """It has its own signer's key, as every forged one would."""
    keys, liar = Rotations(), Rotations()
    texts = [keys.signed(2026).encode(), liar.signed(2026).encode(), b"a.b.c"]
    found, faults = trusted(texts, aud=AUD, kid=keys.x.public.kid)
    assert len(found.directories) == 1
    assert faults[0] is None
    assert liar.x.public.kid in str(faults[1])
    assert "malformed" in str(faults[2])


def test_the_same_text_many_times_counts_once() -> None:
    """Copies cost a signature each, and no memory."""
    keys = Rotations()
    assert len(counted(keys, *[keys.signed(2026)] * 9).directories) == 1


def test_another_key_under_the_pinned_kid_does_not_count() -> None:
    """A kid is a thumbprint: what does not verify by that key is nobody's."""
    keys = Rotations()
    head, payload, _ = keys.signed(2026).split(".")
    other = keys.signed(2026, by=keys.y).split(".")[2]
    forged = ".".join((head, payload, other))
    assert counted(keys, forged).directories == ()


def test_a_directory_signed_after_its_key_was_revoked_does_not_count() -> None:
    """Whoever stole X in 2029 cannot speak for 2030."""
    keys = Rotations(revoked={})
    keys.revoked[keys.x.public.kid] = at(2029, 1)
    late = keys.signed(2030, by=keys.x)
    texts = [keys.signed(2026), keys.signed(2028, by=keys.x), keys.signed(2031)]
    quiet = Rotations(keys.a, keys.b, keys.x, keys.y).signed(2030, by=keys.x)
    for forged in (late, quiet):  # the second hides that X was revoked
        for order in ([*texts, forged], [forged, *texts]):
            found = counted(keys, *order)
            assert [d.iat for d in found.directories] == [
                keys.directory(year).iat for year in (2031, 2028, 2026)
            ]


def test_a_thief_can_make_evidence_fail_and_not_hold() -> None:
    """He says that Y was revoked before X was: neither counts for 2030 any more."""
    keys = Rotations()
    keys.revoked[keys.x.public.kid] = at(2029, 1)
    thief = Rotations(keys.a, keys.b, keys.x, keys.y)
    thief.revoked[keys.y.public.kid] = at(2028, 1)
    bridge = keys.signed(2028, by=keys.x)
    found = counted(keys, bridge, keys.signed(2031), thief.signed(2030, by=keys.x))
    for key in (keys.x, keys.y):
        with pytest.raises(KeyRevoked):
            found.exchange_key(AUD, key.public.kid, moment(2030))


def forged(keys: Rotations, thief: Rotations, year: int) -> tuple[str, str]:
    """Two directories of who stole X: it names his key, which signs the second."""
    plain = thief.directory(2026)
    entry = ExchangeEntry(
        AUD, (), ((keys.x.public, "active"), (thief.y.public, "active"))
    )
    own = replace(plain, exchange=ExchangeFile((entry,)))
    first = replace(own, iat=keys.directory(year).iat)
    second = replace(own, iat=keys.directory(2030).iat)
    return (
        keys.x.sign("fep-directory+jws", first.payload()),
        thief.y.sign("fep-directory+jws", second.payload()),
    )


@pytest.mark.parametrize("year", [2028, 2030])
@pytest.mark.parametrize("pin", ["x", "y"])
def test_a_thief_cannot_vouch_for_keys_of_his_own(year: int, pin: str) -> None:
    """Signed after X was revoked, or dated back before: his keys are nobody's."""
    keys, thief = Rotations(), Rotations()
    keys.revoked[keys.x.public.kid] = at(2029, 1)
    genuine = (keys.signed(2026), keys.signed(2028, by=keys.x), keys.signed(2031))
    pinned = getattr(keys, pin).public.kid
    for two in (forged(keys, thief, year), forged(keys, thief, year)[::-1]):
        found = counted(keys, *two, *genuine, kid=pinned)
        with pytest.raises(UnknownKey):
            found.exchange_key(AUD, thief.y.public.kid, moment(2030))
        with pytest.raises(UnknownKey):
            found.node_key(NODE, thief.a.public.kid, "sign", moment(2026))


def test_a_revoked_key_of_the_exchange_takes_nothing_genuine_along() -> None:
    """X was revoked in 2029: what was signed before holds, by keys that stayed."""
    keys = Rotations()
    keys.revoked[keys.x.public.kid] = at(2029, 1)
    genuine = (keys.signed(2026), keys.signed(2028, by=keys.x), keys.signed(2031))
    for pinned in (keys.x.public.kid, keys.y.public.kid):
        found = counted(keys, *genuine, kid=pinned)
        found.exchange_key(AUD, keys.x.public.kid, moment(2026))
        found.exchange_key(AUD, keys.y.public.kid, moment(2031))
        found.node_key(NODE, keys.a.public.kid, "sign", moment(2026))


@pytest.mark.parametrize(
    ("when", "holds"), [((2028, 12), True), ((2029, 1), False), ((2029, 6), False)]
)
def test_a_key_counts_until_it_was_revoked(when: tuple[int, int], holds: bool) -> None:
    """Judged at the receipt's time: before it good for ever, from then on never."""
    keys = Rotations()
    keys.revoked[keys.y.public.kid] = at(2029, 1)
    found = History((keys.directory(2031), keys.directory(2028)))
    if holds:
        key = found.exchange_key(AUD, keys.y.public.kid, moment(*when))
        assert key == keys.y.public
    else:
        with pytest.raises(KeyRevoked):
            found.exchange_key(AUD, keys.y.public.kid, moment(*when))


def test_an_old_directory_cannot_unrevoke() -> None:
    """What any that counts says is revoked stays so, whichever has the key."""
    keys = Rotations()
    keys.revoked[keys.b.public.kid] = at(2029, 1)
    found = History((keys.directory(2028), keys.directory(2031)))
    with pytest.raises(KeyRevoked):
        found.node_key(NODE, keys.b.public.kid, "sign", moment(2030))


def test_a_revocation_without_a_time_is_for_ever() -> None:
    """A status says revoked, nobody says since when: nothing of it counts."""
    keys = Rotations()
    plain = keys.directory(2026)
    (entry,) = plain.exchange.exchanges
    lost = replace(entry, keys=((keys.x.public, "revoked"),))
    exchange = replace(plain.exchange, exchanges=(lost,))
    with pytest.raises(KeyRevoked, match="ever"):
        History((replace(plain, exchange=exchange),)).exchange_key(
            AUD, keys.x.public.kid, moment(2026)
        )


def test_a_retired_key_counts_for_its_thirty_days() -> None:
    """A was replaced in January 2027: then it signs for a month, not for a year."""
    keys = Rotations()
    found = History((keys.directory(2031),))
    for year, month in ((2026, 6), (2027, 1)):
        found.node_key(NODE, keys.a.public.kid, "sign", moment(year, month))
    for when in (moment(2027, 2), moment(2028), None):
        with pytest.raises(KeyRevoked):
            found.node_key(NODE, keys.a.public.kid, "sign", when)


def test_a_revoked_node_counts_until_then() -> None:
    """All its keys ended with it."""
    keys = Rotations()
    gone = replace(keys.directory(2031), revoked=RevokedFile({}, {NODE: at(2028)}))
    found = History((gone,))
    found.node_key(NODE, keys.b.public.kid, "sign", moment(2027))
    with pytest.raises(KeyRevoked):
        found.node_key(NODE, keys.b.public.kid, "sign", moment(2029))


def test_a_node_that_enrolled_anew_is_known_by_the_older_directory() -> None:
    """Its first chain is not in today's directory; the one that vouched has it."""
    keys, other = Rotations(), Rotations()
    today = replace(keys.directory(2031), departments=other.directory(2031).departments)
    with pytest.raises(UnknownKey):
        History((today,)).node_key(NODE, keys.a.public.kid, "sign", moment(2026))
    both = History((today, keys.directory(2026)))
    assert both.node_key(NODE, keys.a.public.kid, "sign", moment(2026))


def test_a_key_of_another_purpose_or_exchange_is_unknown() -> None:
    """A node's key signs no receipts, a receipt key of another exchange none here."""
    keys = Rotations()
    found = History((keys.directory(2026),))
    calls = (
        lambda: found.exchange_key("other", keys.x.public.kid, None),
        lambda: found.exchange_key(AUD, keys.a.public.kid, None),
        lambda: found.node_key(NODE, keys.a.public.kid, "audit", None),
        lambda: found.node_key(
            NODE, PrivateKey.generate("sign").public.kid, "sign", None
        ),
    )
    for call in calls:
        with pytest.raises(FepError):
            call()
