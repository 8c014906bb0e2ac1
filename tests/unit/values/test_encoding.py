# SPDX-License-Identifier: Apache-2.0
"""Texts that a database calls Latin-1 are what their bytes are in another encoding."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.values.encoding import repaired
from agent.wire.arrow import LONG_CAP
from tests.support.tries import tries

CHINESE = st.text(st.characters(codec="gb18030", exclude_characters="\0"), max_size=6)


def iso(raw: bytes) -> str:
    return raw.decode("latin-1")


def windows(raw: bytes) -> str:
    """As MySQL maps its latin1: cp1252, and the same code where that has nothing."""
    return "".join(
        bytes((b,)).decode("cp1252") if b not in b"\x81\x8d\x8f\x90\x9d" else chr(b)
        for b in raw
    )


@pytest.mark.parametrize("seen", [iso, windows])
@tries(60)
@given(texts=st.lists(st.none() | CHINESE, max_size=4))
def test_every_text_is_known_again(seen: object, texts: list[str | None]) -> None:
    """Whatever Latin-1 the database speaks, the text that was written comes back."""
    assert callable(seen)
    wrong = [None if t is None else seen(t.encode("gb18030")) for t in texts]
    assert repaired(pa.array(wrong, pa.string()), "gb18030").to_pylist() == texts


def test_what_is_no_text_of_the_encoding_stays_undecodable() -> None:
    """Neither real Latin-1 nor real Chinese is taken for something else."""
    found = repaired(pa.array(["\xe9", "\u5f20", "a", None, "\xd5\xc5"]), "gb18030")
    assert found.type == pa.binary()
    assert found.to_pylist() == [
        b"\xff\xc3\xa9",
        b"\xff\xe5\xbc\xa0",
        b"a",
        None,
        "\u5f20".encode(),
    ]


def test_a_page_with_undecodable_bytes_is_repaired_around_them() -> None:
    """In a page of bytes the texts are repaired and the others stay no text."""
    raw = pa.array(["\xd5\xc5".encode(), b"\xd5\xc5"], pa.binary())
    assert repaired(raw, "gb18030").to_pylist() == ["\u5f20".encode(), b"\xff\xd5\xc5"]


@pytest.mark.parametrize("beside", ["a", "\xd5\xc5", "\u5f20"])
def test_a_text_that_is_too_long_is_so_beside_any_other(beside: str) -> None:
    """What is wrong with a row does not depend on its neighbours in a page."""
    long = "x" * (LONG_CAP + 1)
    found = repaired(pa.array([long, beside], pa.string()), "gb18030")
    assert found.to_pylist()[0] in (long, long.encode())
    again = repaired(pa.array([long.encode(), b"\xff"], pa.binary()), "gb18030")
    assert again.to_pylist()[0] == long.encode()
