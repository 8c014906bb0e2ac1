# SPDX-License-Identifier: Apache-2.0
"""What the directory answers, and what it refuses to."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from agent.crypto.jose import PrivateKey
from agent.errors import MalformedMessage, UnknownKey
from agent.wire import directory
from agent.wire.directory import Directory
from agent.wire.keys import KeyStatement
from tests.support import vectors

DEPARTMENT = "11990100000000019F"
NODE = f"{DEPARTMENT}/front-1"
RESOURCE = "990100001/000001"
AUD = "yunxi.exchange"
KID = vectors.key("receipt").public.kid
SIGN, SIGN2 = (vectors.key(n).public.kid for n in ("sign", "sign2"))
AT = "2026-11-21T08:00:00Z"


@pytest.fixture
def known() -> Directory:
    """The directory of the vectors."""
    return directory.parse(vectors.message("directory")["payload"].encode())


def test_keys_of_an_exchange_are_found_by_purpose(known: Directory):
    """Kid, exchange and purpose must all fit."""
    assert known.exchange_key(AUD, KID, "receipt").kid == KID
    for aud, kid, purpose in (
        ("other", KID, "receipt"),
        (AUD, SIGN, "receipt"),
        (AUD, KID, "command"),
    ):
        with pytest.raises(UnknownKey):
            known.exchange_key(aud, kid, purpose)


def test_endpoints_of_an_exchange(known: Directory):
    """None for one that is unknown."""
    assert known.endpoints(AUD) == ("https://exchange.yunxi.example",)
    assert known.endpoints("other") == ()


@pytest.mark.parametrize("how", ["status", "list"])
def test_revoked_key_of_an_exchange_is_unknown(known: Directory, how: str):
    """By its own status or by revoked.json."""
    entry = known.exchange.exchanges[0]
    if how == "status":
        keys = ((entry.keys[0][0], "revoked"),)
        exchange = directory.ExchangeFile((replace(entry, keys=keys),))
        known = replace(known, exchange=exchange)
    else:
        known = replace(known, revoked=directory.RevokedFile({KID: AT}, {}))
    with pytest.raises(UnknownKey, match="revoked"):
        known.exchange_key(AUD, KID, "receipt")


def test_keys_of_a_node_are_verified_when_asked_for(known: Directory):
    """Both sign keys are known, with their status."""
    assert known.node_keys(NODE).node == NODE
    assert known.node_key(NODE, SIGN2, "sign").kid == SIGN2
    status = known.key_status(NODE, SIGN)
    assert status is not None
    assert (status.status, status.until) == ("retired", "2026-12-21T08:00:00Z")
    assert known.node_key(NODE, SIGN, "sign").kid == SIGN


def test_unknown_nodes_and_keys(known: Directory):
    """Each is our error."""
    with pytest.raises(UnknownKey):
        known.node_keys(f"{DEPARTMENT}/other")
    with pytest.raises(UnknownKey):
        known.node_key(NODE, SIGN2, "tls")
    assert known.key_status(NODE, KID) is None
    assert known.node("0" * 18 + "/a") is None


def test_revoked_node_and_its_revoked_key(known: Directory):
    """revoked.json stops a node or one key."""
    by_key = replace(known, revoked=directory.RevokedFile({SIGN2: AT}, {}))
    with pytest.raises(UnknownKey, match="revoked"):
        by_key.node_key(NODE, SIGN2, "sign")
    assert by_key.node_key(NODE, SIGN, "sign")
    by_node = replace(known, revoked=directory.RevokedFile({}, {NODE: AT}))
    with pytest.raises(UnknownKey, match="revoked"):
        by_node.node_key(NODE, SIGN, "sign")
    assert directory.parse(by_node.payload()) == by_node


def test_damaged_statements_harm_their_own_node_only(known: Directory):
    """The directory is read; only asking for that node fails."""
    department = known.departments[DEPARTMENT]
    entry = replace(department.nodes[0], statements=("broken",))
    damaged = replace(
        known, departments={DEPARTMENT: replace(department, nodes=(entry,))}
    )
    again = directory.parse(damaged.payload())
    assert again.exchange_key(AUD, KID, "receipt")
    with pytest.raises(MalformedMessage):
        again.node_keys(NODE)


def test_statements_of_another_node_are_refused(known: Directory):
    """A node cannot borrow another's keys."""
    department = known.departments[DEPARTMENT]
    other = f"{DEPARTMENT}/other"
    entry = replace(department.nodes[0], node=other)
    borrowed = replace(
        known, departments={DEPARTMENT: replace(department, nodes=(entry,))}
    )
    with pytest.raises(MalformedMessage, match="front-1"):
        borrowed.node_keys(other)


def test_owner_of_a_resource(known: Directory):
    """One node, or none when nobody or two claim it."""
    assert known.owner(RESOURCE) == NODE
    assert known.owner("a/b") is None
    rival = "22" + DEPARTMENT[2:]
    claim = directory.DepartmentFile(rival, (), {RESOURCE: f"{rival}/a"})
    twice = replace(known, departments={**known.departments, rival: claim})
    assert directory.parse(twice.payload()).owner(RESOURCE) is None


def _edit(path: str, **change: Any) -> bytes:
    obj = json.loads(vectors.message("directory")["payload"])
    place = obj["files"][path]
    for name, value in change.items():
        place[name] = value
    return json.dumps(obj).encode()


FILE = f"directory/{DEPARTMENT}.json"
JWK = dict(vectors.key("sign").public.jwk)


def test_later_members_and_files_are_ignored(known: Directory):
    """A newer directory does not stop an older agent."""
    obj = json.loads(_edit(FILE, later=1))
    obj["files"]["later.json"] = {"v": 9}
    obj["later"] = 1
    assert directory.parse(json.dumps(obj).encode()) == known


@pytest.mark.parametrize(
    "data",
    [
        _edit(FILE, v=2),
        _edit(FILE, resources=[{"resource": RESOURCE, "node": NODE}] * 2),
        _edit(FILE, nodes=[1]),
        _edit(
            FILE,
            nodes=[{"node": NODE, "status": "active", "statements": [1], "keys": []}],
        ),
        _edit(
            FILE,
            nodes=[{"node": NODE, "status": "active", "statements": [], "keys": []}]
            * 2,
        ),
        _edit("exchange.json", exchanges=[{"aud": AUD, "endpoints": [1], "keys": []}]),
        _edit(
            "exchange.json",
            exchanges=[
                {"aud": AUD, "endpoints": [], "keys": [{**JWK, "status": "active"}]}
            ],
        ),
        _edit("revoked.json", kids=[{"kid": "x", "at": AT}]),
    ],
    ids=[
        "version",
        "resource twice",
        "node is 1",
        "statement is 1",
        "node twice",
        "endpoint is 1",
        "node's key at an exchange",
        "kid",
    ],
)
def test_directory_that_breaks_its_schema_is_refused(data: bytes):
    """Whole, with the place of the fault."""
    with pytest.raises(MalformedMessage):
        directory.parse(data)


# --- keys of lookups ------------------------------------------------------------------

DECRYPT = "decrypt"


def with_keys(known: Directory, *keys: PrivateKey) -> Directory:
    """The directory with a node of these keys, the first of purpose sign."""
    statement = KeyStatement(
        f"{DEPARTMENT}/front-2", 1, tuple(k.public for k in keys), AT
    )
    text = keys[0].sign("fep-keys+jws", statement.payload())
    entry = directory.NodeEntry(statement.node, "active", (text,), ())
    department = known.departments[DEPARTMENT]
    nodes = (*department.nodes, entry)
    return replace(known, departments={DEPARTMENT: replace(department, nodes=nodes)})


NODE2 = f"{DEPARTMENT}/front-2"
SIGNER = PrivateKey.generate("sign")
OLD, NEW = PrivateKey.generate(DECRYPT), PrivateKey.generate(DECRYPT)


def stand(known: Directory, kid: str, status: directory.Status) -> Directory:
    """The directory with a status for a key of node 2."""
    department = known.departments[DEPARTMENT]
    entry = department.nodes[-1]
    keys = (*entry.keys, directory.KeyStatus(kid, status, AT, None))
    nodes = (*department.nodes[:-1], replace(entry, keys=keys))
    return replace(known, departments={DEPARTMENT: replace(department, nodes=nodes)})


def test_the_newest_active_decrypt_key_is_encrypted_to(known: Directory):
    """The last one listed; a retired or revoked one is passed over."""
    two = with_keys(known, SIGNER, OLD, NEW)
    assert two.encryption_key(NODE2) == NEW.public
    for status in ("retired", "revoked"):
        assert stand(two, NEW.public.kid, status).encryption_key(NODE2) == OLD.public
    revoked = directory.RevokedFile({NEW.public.kid: AT}, {})
    assert replace(two, revoked=revoked).encryption_key(NODE2) == OLD.public


def test_a_node_without_a_decrypt_key_cannot_be_written_to(known: Directory):
    """Enrolled before lookups, or all keys retired."""
    with pytest.raises(UnknownKey, match="decrypt"):
        with_keys(known, SIGNER).encryption_key(NODE2)
    one = with_keys(known, SIGNER, NEW)
    with pytest.raises(UnknownKey, match="decrypt"):
        stand(one, NEW.public.kid, "retired").encryption_key(NODE2)
    with pytest.raises(UnknownKey):
        one.encryption_key(f"{DEPARTMENT}/nobody")


def test_a_chain_is_verified_once(known: Directory):
    """The second question is answered from memory, for this directory alone."""
    two = with_keys(known, SIGNER, NEW)
    assert two.node_keys(NODE2) is two.node_keys(NODE2)
    assert replace(two).node_keys(NODE2) is not two.node_keys(NODE2)


def test_a_revoked_node_has_no_keys_even_if_verified_before(known: Directory):
    """Memory never unrevokes."""
    two = with_keys(known, SIGNER, NEW)
    two.node_keys(NODE2)
    gone = replace(two, revoked=directory.RevokedFile({}, {NODE2: AT}))
    with pytest.raises(UnknownKey, match="revoked"):
        gone.node_keys(NODE2)


def test_witness_keys_are_those_not_revoked(known: Directory):
    """Of this exchange, of this purpose."""
    key = vectors.note_key("witness").public
    entry = known.exchange.exchanges[0]
    for status, wanted in (("active", (key,)), ("retired", (key,)), ("revoked", ())):
        keys = (*entry.keys, (key, status))
        held = replace(
            known, exchange=directory.ExchangeFile((replace(entry, keys=keys),))
        )
        assert held.witness_keys(AUD) == wanted
        assert held.witness_keys("other") == ()
    gone = directory.RevokedFile({key.kid: AT}, {})
    assert replace(held, revoked=gone).witness_keys(AUD) == ()
