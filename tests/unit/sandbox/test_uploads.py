# SPDX-License-Identifier: Apache-2.0
"""An upload's bytes: the verdict and the digest do not depend on how they are cut."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.wire.batch import LINE_CAP
from agent.wire.problem import Problem
from sandbox.accept import Offer, Refuse, Repeat, Verdict
from sandbox.uploads import Ticket, Upload, Uploads
from tests.support.tries import tries

MINE = "a" * 64


class Seen:
    """A judge that remembers what it was asked."""

    def __init__(self) -> None:
        self.offers: list[Offer] = []

    def __call__(self, offer: Offer) -> Verdict:
        self.offers.append(offer)
        return Repeat(str(len(offer.line)))


def upload(length: int, seen: Seen, path: Path = Path("/nowhere")) -> Upload:
    return Upload(Ticket("0" * 32, length, MINE, "node"), path, seen)


@tries(60)
@given(
    st.binary(max_size=40).filter(lambda b: b"\n" not in b),
    st.binary(max_size=60),
    st.lists(st.integers(1, 20), max_size=30),
)
def test_verdict_and_digest_are_the_same_however_it_is_cut(
    line: bytes, payload: bytes, cuts: list[int]
) -> None:
    """Line 1 is judged once, wholly; the digest is over what follows its LF."""
    data, seen = line + b"\n" + payload, Seen()
    found = upload(len(data), seen)
    rest = data
    for cut in [*cuts, len(data)]:
        piece, rest = rest[:cut], rest[cut:]
        if piece:
            found.feed(piece)
    assert seen.offers == [Offer(line, len(data), "node")]
    assert found.content_digest == "sha256:" + hashlib.sha256(payload).hexdigest()
    assert found.whole


def test_line_without_end_is_judged_at_the_cap() -> None:
    """Not a byte more than 64 KiB is gathered."""
    seen = Seen()
    found = upload(1 << 20, seen)
    found.feed(b"a" * (LINE_CAP - 1))
    assert found.verdict is None
    found.feed(b"a" * 10)
    assert [len(o.line) for o in seen.offers] == [LINE_CAP]


def test_lf_at_the_last_allowed_byte_counts() -> None:
    """65,535 bytes and the LF are a line."""
    seen = Seen()
    found = upload(1 << 20, seen)
    found.feed(b"a" * (LINE_CAP - 1) + b"\n" + b"b")
    assert [len(o.line) for o in seen.offers] == [LINE_CAP - 1]


def test_end_without_lf_is_malformed() -> None:
    """The file is over and line 1 is not."""
    found = upload(5, Seen())
    found.feed(b"abcde")
    assert found.verdict == Refuse(Problem.of("malformed", "line 1 has no LF"))


def test_upload_is_found_again_by_its_certificate_only(tmp_path: Path) -> None:
    """A later process finds name, length and bytes; another certificate nothing."""
    seen = Seen()
    first = Uploads(tmp_path / "u", seen, life_s=60)
    made = first.create(length=10, certificate=MINE, node="node")
    made.path.write_bytes(b"line\nabc")
    later = Uploads(tmp_path / "u", seen, life_s=60)
    key = made.ticket.id
    assert later.find(key, certificate="b" * 64, node="node") is None
    found = later.find(key, certificate=MINE, node="node")
    assert found is not None
    assert (found.offset, found.ticket.length) == (8, 10)
    assert [o.line for o in seen.offers] == [b"line"]
    assert later.find(key, certificate="b" * 64, node="node") is None


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40))
def test_no_name_finds_what_was_not_made(tmp_path: Path, name: str) -> None:
    """Globs, dots and slashes are no way out of the folder."""
    uploads = Uploads(tmp_path / "u", Seen(), life_s=60)
    (tmp_path / "u" / "stray").touch()
    assert uploads.find(name, certificate=MINE, node="node") is None


def test_forgotten_upload_leaves_no_file(tmp_path: Path) -> None:
    """Over is over."""
    uploads = Uploads(tmp_path / "u", Seen(), life_s=60)
    made = uploads.create(length=10, certificate=MINE, node="node")
    uploads.forget(made)
    assert made.over
    assert not made.path.exists()
    assert uploads.find(made.ticket.id, certificate=MINE, node="node") is None


def test_only_old_uploads_expire(tmp_path: Path) -> None:
    """By the time of the last byte."""
    uploads = Uploads(tmp_path / "u", Seen(), life_s=60)
    old = uploads.create(length=10, certificate=MINE, node="node")
    new = uploads.create(length=10, certificate=MINE, node="node")
    os.utime(old.path, (1000, 1000))
    os.utime(new.path, (1050, 1050))
    assert uploads.expire(now=1070) == 1
    assert (old.over, new.over) == (True, False)
    assert uploads.end(new) == 1110
    uploads.sync()
