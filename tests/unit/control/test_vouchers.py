# SPDX-License-Identifier: Apache-2.0
"""The directory that vouched for a receipt's key is kept, once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.control.directory import TrustedDirectory
from agent.errors import SpoolWriteFailed, UnknownKey
from tests.support.rotations import AUD, Rotations

LATE = 4_000_000_000.0
"""After every year of this story."""


@pytest.fixture
def keys() -> Rotations:
    """The years."""
    return Rotations()


def opened(folder: Path, keys: Rotations, now: float = 0) -> TrustedDirectory:
    return TrustedDirectory(
        folder / "directory.jws",
        aud=AUD,
        kid=keys.x.public.kid,
        wall=lambda: now,
        now=lambda: LATE,
    )


def later(keys: Rotations, seconds: int) -> str:
    """The directory of 2026, signed again; nothing else is new."""
    found = keys.directory(2026)
    same = replace(found, iat=found.iat + seconds)
    return keys.x.sign("fep-directory+jws", same.payload())


def kept(folder: Path) -> list[str]:
    return [path.stem for path in (folder / "vouchers").iterdir()]


def test_what_says_the_same_is_kept_once(tmp_path: Path, keys: Rotations) -> None:
    """Signed anew every five minutes: one file, under the digest of its exact text."""
    directory = opened(tmp_path, keys)
    texts = [keys.signed(2026), later(keys, 300), later(keys, 600)]
    for text in texts:
        directory.take(text)
    first = hashlib.sha256(texts[0].encode()).hexdigest()
    assert kept(tmp_path) == [first]
    assert directory.held().voucher == first
    assert (tmp_path / "vouchers" / f"{first}.jws").read_text() == texts[0]


def test_what_says_something_new_is_kept_beside_it(
    tmp_path: Path, keys: Rotations
) -> None:
    """A rotation, a revocation: both texts stay."""
    directory = opened(tmp_path, keys)
    directory.take(keys.signed(2026))
    before = directory.held()
    text = keys.signed(2027)
    directory.take(text)
    assert directory.held().voucher == hashlib.sha256(text.encode()).hexdigest()
    assert len(kept(tmp_path)) == 2
    assert before.voucher in kept(tmp_path)


def test_a_restart_keeps_no_second_copy(tmp_path: Path, keys: Rotations) -> None:
    """What was kept last says the same as the directory that is loaded."""
    directory = opened(tmp_path, keys)
    directory.take(keys.signed(2026))
    directory.take(later(keys, 300))
    again = opened(tmp_path, keys)
    assert again.load()
    assert again.held().voucher == directory.held().voucher
    assert len(kept(tmp_path)) == 1


def test_keys_that_are_held_do_not_change(tmp_path: Path, keys: Rotations) -> None:
    """A directory that comes while a receipt is judged vouches for the next one."""
    directory = opened(tmp_path, keys)
    directory.take(keys.signed(2026))
    held = directory.held()
    directory.take(keys.signed(2028, by=keys.x))
    with pytest.raises(UnknownKey):
        held.receipt_key(keys.y.public.kid)
    assert directory.held().receipt_key(keys.y.public.kid)
    assert held.voucher != directory.held().voucher


def test_a_disk_that_refuses_does_not_keep_a_revocation_out(
    tmp_path: Path, keys: Rotations
) -> None:
    """The new directory holds at once; what it vouches for says that it is not kept."""
    directory = opened(tmp_path, keys)
    directory.take(keys.signed(2026))
    for path in (tmp_path / "vouchers").iterdir():
        path.unlink()
    (tmp_path / "vouchers").rmdir()
    (tmp_path / "vouchers").touch()
    keys.revoked[keys.a.public.kid] = "2026-12-01T00:00:00Z"
    with pytest.raises(SpoolWriteFailed):
        directory.take(keys.signed(2027))
    assert keys.a.public.kid in directory.current.revoked.kids
    assert directory.held().voucher is None


def taken(folder: Path, keys: Rotations, *, now: float) -> TrustedDirectory:
    """Three that each say something new, taken at 1000, 2000 and 3000 seconds."""
    directory = opened(folder, keys, now)
    texts = [keys.signed(2026), keys.signed(2027), keys.signed(2028, by=keys.x)]
    for n, text in enumerate(texts, 1):
        directory.take(text)
        path = folder / "vouchers" / f"{directory.held().voucher}.jws"
        os.utime(path, (n * 1000, n * 1000))
    return directory


def test_what_no_receipt_names_goes_a_day_after_it_was_replaced(
    tmp_path: Path, keys: Rotations
) -> None:
    """An exchange that changes something every minute fills no disk."""
    directory = taken(tmp_path, keys, now=86_400 + 2500)
    assert directory.sweep(set) == 1  # the second was replaced at 3000
    assert len(kept(tmp_path)) == 2
    assert directory.held().voucher in kept(tmp_path)


def test_what_a_receipt_names_stays_and_what_is_in_use_does(
    tmp_path: Path, keys: Rotations
) -> None:
    """However long ago it was replaced; the last one is needed though none names it."""
    directory = taken(tmp_path, keys, now=1e9)
    first = min(
        (tmp_path / "vouchers").iterdir(), key=lambda path: path.stat().st_mtime
    )
    assert directory.sweep(lambda: {first.stem}) == 1
    assert sorted(kept(tmp_path)) == sorted([first.stem, str(directory.held().voucher)])
    assert directory.sweep(lambda: {first.stem}) == 0


def test_receipts_are_not_asked_for_nothing(tmp_path: Path, keys: Rotations) -> None:
    """While nothing could go they are not read."""
    directory = opened(tmp_path, keys, 1e12)
    directory.take(keys.signed(2026))

    def never() -> set[str]:
        raise AssertionError

    assert directory.sweep(never) == 0
