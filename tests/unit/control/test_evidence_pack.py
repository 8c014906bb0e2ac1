# SPDX-License-Identifier: Apache-2.0
"""Evidence packs judged offline, years later."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from agent.control.evidence import Verdict, examine
from agent.control.evidence_pack import Trust, examine_pack, is_pack
from agent.control.history import trusted
from agent.crypto.jose import PrivateKey
from agent.wire import pack
from tests.support.rotations import AUD, Contents, Rotations, at, two_batches


def judged(keys: Rotations, path: Path, *more: str) -> Verdict:
    """What a machine says that has the slip of 2026, and perhaps later directories."""
    texts = tuple(text.encode() for text in more)
    return examine_pack(path, Trust(None, keys.x.public.kid, texts))


def failed(verdict: Verdict) -> list[str]:
    return [c.check for c in verdict.checks if c.ok is False]


def test_evidence_holds_five_years_on(tmp_path: Path) -> None:
    """Keys rotated, retired, certificates long expired: nothing of that matters."""
    keys = Rotations()
    path = two_batches(keys).write(tmp_path / "p.zip")
    for later in ([], [keys.signed(2027)], [keys.signed(2028, by=keys.x)]):
        verdict = judged(keys, path, *later, keys.signed(2031))
        assert verdict.genuine, verdict.checks
    facts = verdict.facts
    assert facts["receipts"] == {"loaded": 2, "stored": 2}
    assert (facts["first"], facts["last"]) == (at(2026, 6), at(2026, 7))
    assert facts["revocations_known_to"] == at(2031)
    assert [c.detail for c in verdict.checks if c.check == "chain"] == ["1 links hold"]


def test_a_pin_of_five_years_on_reads_it_too(tmp_path: Path) -> None:
    """The slip of 2031 names Y; the directory of 2031 has X, which signed 2026's."""
    keys = Rotations()
    path = two_batches(keys).write(tmp_path / "p.zip")
    trust = Trust(AUD, keys.y.public.kid, (keys.signed(2031).encode(),))
    assert examine_pack(path, trust).genuine
    assert not examine_pack(path, replace(trust, directories=())).genuine


@pytest.mark.parametrize(
    ("when", "holds"), [(at(2028, 12), True), (at(2029, 2), False)]
)
def test_a_receipt_is_judged_at_its_own_time(
    tmp_path: Path, when: str, holds: bool
) -> None:
    """Signed before its key was revoked it is evidence, after it is a forgery."""
    keys = Rotations()
    keys.revoked[keys.y.public.kid] = at(2029, 1)
    found = Contents({1: keys.line(1)})
    bridge = [keys.signed(2028, by=keys.x), keys.signed(2028)]
    found.directories = bridge
    # A is retired by then: B sealed it, under the same identity
    found.manifests = {1: keys.line(1, by=keys.b)}
    found.receipts = [(1, "loaded", keys.receipt(1, when, by=keys.y))]
    path = found.write(tmp_path / "p.zip")
    for later in (keys.signed(2029, by=keys.x), keys.signed(2031, by=keys.y)):
        verdict = judged(keys, path, later)
        assert verdict.genuine is holds, verdict.checks


def test_a_manifest_is_judged_when_it_was_accepted(tmp_path: Path) -> None:
    """Its key was revoked since; the exchange's receipt says that it was good then."""
    keys = Rotations()
    keys.revoked[keys.a.public.kid] = at(2026, 12)
    path = two_batches(keys).write(tmp_path / "p.zip")
    assert judged(keys, path, keys.signed(2027)).genuine
    alone = two_batches(keys)
    alone.receipts = []
    path = alone.write(tmp_path / "q.zip")
    assert failed(judged(keys, path, keys.signed(2027))) == ["manifest", "manifest"]


def test_a_receipt_is_judged_alone_as_in_a_pack(tmp_path: Path) -> None:
    """`fep verify receipt.jws` after rotation and revocation, by its time."""
    keys = Rotations()
    keys.revoked[keys.x.public.kid] = at(2027, 1)
    keys.line(1)
    texts = [keys.signed(2026).encode(), keys.signed(2031).encode()]
    bridge = replace(keys, revoked={}).signed(2028, by=keys.x)
    pinned = keys.y.public.kid
    history, _ = trusted([*texts, bridge.encode()], aud=AUD, kid=pinned)
    for when, holds in ((at(2026), True), (at(2027, 2), False)):
        path = tmp_path / "receipt.jws"
        path.write_text(keys.receipt(1, when))
        assert examine(path, history).genuine is holds


Spoil = Callable[[Rotations, Contents], None]


def _other_manifest(keys: Rotations, found: Contents) -> None:
    found.manifests[2] = keys.line(2)  # sealed again: another signature and digest
    found.receipts = found.receipts[:2]
    found.manifests[2] = keys.line(2, by=PrivateKey.generate("sign"))


def _swapped_receipt(keys: Rotations, found: Contents) -> None:
    text = keys.receipt(2, at(2026), manifest=keys.digests[1])
    found.receipts[2] = (2, "stored", text)


def _broken_chain(keys: Rotations, found: Contents) -> None:
    keys.digests[1] = "sha256:" + "c" * 64
    found.manifests[2] = keys.line(2)
    found.receipts = found.receipts[:2]


def _forged_receipt(keys: Rotations, found: Contents) -> None:
    text = keys.receipt(1, at(2026), by=PrivateKey.generate("receipt"))
    found.receipts[0] = (1, "stored", text)


def _forged_directory(_keys: Rotations, found: Contents) -> None:
    found.directories.append(Rotations().signed(2026))


def _node_key_as_receipt(keys: Rotations, found: Contents) -> None:
    text = keys.line(1)
    found.receipts[0] = (1, "stored", text)


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        (_other_manifest, "manifest"),
        (_swapped_receipt, "receipt"),
        (_broken_chain, "chain"),
        (_forged_receipt, "receipt"),
        (_forged_directory, "directory"),
        (_node_key_as_receipt, "form"),
    ],
)
def test_what_was_put_in_shows(tmp_path: Path, spoil: Spoil, check: str) -> None:
    """Each forgery is named for what it is."""
    keys = Rotations()
    found = two_batches(keys)
    spoil(keys, found)
    verdict = judged(keys, found.write(tmp_path / "p.zip"))
    assert check in failed(verdict), verdict.checks
    assert not verdict.genuine


def test_what_was_left_out_is_said(tmp_path: Path) -> None:
    """A hole in the chain is no forgery, but the reader is told."""
    keys = Rotations()
    found = two_batches(keys)
    found.manifests[3] = keys.line(3)
    found.receipts.append((3, "stored", keys.receipt(3, at(2026))))
    del found.manifests[2]
    verdict = judged(keys, found.write(tmp_path / "p.zip"))
    assert verdict.genuine
    open_ = [c.detail for c in verdict.checks if c.ok is None]
    assert open_ == [
        "2 speak of a manifest that is not here",
        "1 times batches in between are not here",
    ]


def test_an_empty_pack_proves_nothing(tmp_path: Path) -> None:
    """No signature was verified."""
    assert not judged(Rotations(), Contents().write(tmp_path / "p.zip")).genuine


def test_the_same_evidence_is_the_same_bytes(tmp_path: Path) -> None:
    """No time of day, no user and no machine stands in a pack."""
    found = two_batches(Rotations())
    one, two = (found.write(tmp_path / name) for name in ("1.zip", "2.zip"))
    assert one.read_bytes() == two.read_bytes()


def zipped(path: Path, entries: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "name",
    ["../receipts/a.jws", "receipts/../../a.jws", "/etc/a.jws", "other/a.jws", "a"],
)
def test_a_pack_has_four_places_and_no_others(tmp_path: Path, name: str) -> None:
    """Nothing is ever unpacked, and a name that leads elsewhere is refused."""
    path = zipped(tmp_path / "p.zip", {name: b"a.b.c"})
    assert failed(judged(Rotations(), path)) == ["form"]


def test_a_bomb_does_not_go_off(tmp_path: Path) -> None:
    """A receipt of 20 MB of zeroes is read up to its cap."""
    path = zipped(
        tmp_path / "p.zip",
        {"receipts/a.jws": bytes(20_000_000)},
        compression=zipfile.ZIP_DEFLATED,
    )
    verdict = judged(Rotations(), path)
    assert "at most 2048 bytes" in verdict.checks[0].detail


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_bomb_of_another_compression_is_not_even_opened(
    tmp_path: Path, compression: int
) -> None:
    """They unpack a whole block, however little of it is asked for."""
    path = zipped(
        tmp_path / "p.zip", {"receipts/a.jws": b"a.b.c"}, compression=compression
    )
    verdict = judged(Rotations(), path)
    assert "stored or deflated" in verdict.checks[0].detail


@pytest.mark.parametrize(
    ("place", "count", "most"),
    [
        ("directories", 17, "268435456 bytes of directories"),
        ("manifests", 16_385, "1073741824"),
    ],
)
def test_many_entries_that_are_each_small_enough_are_no_bomb(
    tmp_path: Path, place: str, count: int, most: str
) -> None:
    """All are weighed by the sizes that the list names, before the first is opened."""
    size = {"directories": 16 * 1024 * 1024, "manifests": 64 * 1024}[place]
    path = zipped(tmp_path / "p.zip", {f"{place}/{n}.jws": b"" for n in range(count)})
    data = bytearray(path.read_bytes())
    at_ = data.find(b"PK\x01\x02")
    while at_ >= 0:  # each says that it is larger than it is
        struct.pack_into("<I", data, at_ + 24, size)
        at_ = data.find(b"PK\x01\x02", at_ + 46)
    path.write_bytes(data)
    assert f"at most {most}" in judged(Rotations(), path).checks[0].detail


def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Programs differ in which of the two they show."""
    path = tmp_path / "p.zip"
    zipped(path, {"receipts/a.jws": b"1", "receipts/b.jws": b"2"})
    path.write_bytes(path.read_bytes().replace(b"receipts/b", b"receipts/a"))
    assert failed(judged(Rotations(), path)) == ["form"]


def test_a_pack_that_is_cut_or_flipped_is_a_verdict(tmp_path: Path) -> None:
    """Whatever stands in the file: a verdict, no crash; nothing else is genuine."""
    keys = Rotations()
    whole = two_batches(keys).write(tmp_path / "p.zip").read_bytes()
    path = tmp_path / "q.zip"
    for n in range(4, len(whole), 211):
        path.write_bytes(whole[:n])
        assert not judged(keys, path).genuine
        path.write_bytes(whole[:n] + struct.pack("B", whole[n] ^ 0x55) + whole[n + 1 :])
        judged(keys, path)


def test_a_pack_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    """Not by its name."""
    path = two_batches(Rotations()).write(tmp_path / "evidence.bin")
    assert is_pack(path)
    (tmp_path / "x").write_bytes(b"eyJ")
    assert not is_pack(tmp_path / "x")


def test_a_jose_library_of_others_checks_a_pack(tmp_path: Path) -> None:
    """As README.txt says: kid, directory, signature, digest, by joserfc alone."""
    keys = Rotations()
    path = two_batches(keys).write(tmp_path / "p.zip")
    with zipfile.ZipFile(path) as file:
        texts = {name: file.read(name).decode() for name in file.namelist()}
    assert texts.pop("README.txt") == pack.README
    (signed,) = [t for name, t in texts.items() if name.startswith("directories/")]
    body = json.loads(_decoded(signed.split(".")[1]))
    jwk = body["files"]["exchange.json"]["exchanges"][0]["keys"][0]
    key = ECKey.import_key({k: jwk[k] for k in ("kty", "crv", "x", "y")})
    assert key.thumbprint() == keys.x.public.kid
    jws.deserialize_compact(signed, key)
    digests = set()
    for name, text in texts.items():
        if name.startswith("receipts/"):
            receipt = json.loads(jws.deserialize_compact(text, key).payload)
            digests.add(receipt["manifest"])
    ours = {
        "sha256:" + hashlib.sha256(text.rpartition(".")[0].encode()).hexdigest()
        for name, text in texts.items()
        if name.startswith("manifests/")
    }
    assert digests == ours


def _decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
