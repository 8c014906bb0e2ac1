# SPDX-License-Identifier: Apache-2.0
"""Text columns looked at as a whole: never kinder than a look at each value."""

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.wire import ipc, texts
from tests.support.tries import tries

ROOT = Path(__file__).resolve().parents[3]
LONG = "住" * 2000
"""More bytes than a column's beginning that is looked at first."""


def column(
    data: bytes, offsets: list[int], *, offset: int = 0, valid: bytes | None = None
) -> Any:
    """A column of text made of these bytes, whatever they are."""
    at = struct.pack(f"<{len(offsets)}i", *offsets)
    buffers = [
        None if valid is None else pa.py_buffer(valid),
        pa.py_buffer(at),
        pa.py_buffer(data),
    ]
    rows = len(offsets) - 1 - offset
    return pa.Array.from_buffers(pa.string(), rows, buffers, offset=offset)


def sound(text: Any, *, judge: Any) -> bool:
    """Whether a judge lets a column pass."""
    try:
        judge(text)
    except pa.ArrowInvalid:
        return False
    return True


def by_the_library(text: Any) -> None:
    """What the library says, value by value."""
    text.validate(full=True)


@tries(300)
@given(
    data=st.one_of(st.binary(max_size=12), st.text(max_size=12).map(str.encode)),
    offsets=st.lists(st.integers(-2, 14), min_size=2, max_size=6),
    ascending=st.booleans(),
    valid=st.one_of(st.none(), st.binary(min_size=1, max_size=1)),
    data_of=st.data(),
)
def test_what_the_library_refuses_is_refused(
    data: bytes,
    offsets: list[int],
    ascending: bool,
    valid: bytes | None,
    data_of: st.DataObject,
):
    """And nothing else is, whatever bytes and offsets a payload brings."""
    places = sorted(offsets) if ascending else offsets
    first = data_of.draw(st.integers(0, len(places) - 1))
    try:
        text = column(data, places, offset=first, valid=valid)
    except pa.ArrowInvalid:  # first or last offset: nobody gets such a column
        return
    ours = sound(text, judge=texts.validate)
    theirs = sound(text, judge=by_the_library)
    assert ours == theirs  # a report must not show the column: it may crash by that


@pytest.mark.parametrize(
    "offsets", [[0, 9, 4], [0, 3, 2, 4], [0, -1, 4], [0, 2**31 - 1, 4]]
)
def test_offsets_that_lie_are_refused_though_all_is_ascii(offsets: list[int]):
    """They are judged before any of them is believed."""
    passes = sound(column(b"abcd", offsets), judge=texts.validate)
    assert not passes


def test_half_a_character_after_much_ascii_is_refused():
    """A column that begins well may end otherwise."""
    data = b"a" * 10_000 + "住".encode()[:2]
    text = column(data, [0, 10_000, len(data)])
    assert not sound(text, judge=texts.validate)


def test_a_character_cut_between_two_values_is_refused():
    """All bytes together are UTF-8, and neither value is."""
    data = "住".encode()
    assert not sound(column(data, [0, 1, 3]), judge=texts.validate)


def test_what_lies_under_a_null_need_not_be_text():
    """It is nobody's value; only the other one counts."""
    data = "住".encode() + b"\xff"
    assert sound(column(data, [0, 3, 4], valid=b"\x01"), judge=texts.validate)
    assert not sound(column(data, [0, 3, 4], valid=b"\x02"), judge=texts.validate)


@pytest.mark.parametrize("before", range(8))
def test_offsets_may_lie_anywhere(before: int):
    """A payload stands behind a line of any length, and need not be compressed."""
    for data, passes in (("住人".encode(), True), (b"\xe4\xbd\xff\xe4\xba\xba", False)):
        at = struct.pack("<3i", 0, 3, 6)
        offsets = pa.py_buffer(b" " * before + at).slice(before)
        buffers = [None, offsets, pa.py_buffer(data)]
        text = pa.Array.from_buffers(pa.string(), 2, buffers)
        assert sound(text, judge=texts.validate) == passes


def test_bytes_behind_the_offsets_mean_nothing():
    """A peer's buffer may have any number of them."""
    at = pa.py_buffer(struct.pack("<3i", 0, 3, 6) + b"\x07")
    buffers = [None, at, pa.py_buffer("住人".encode())]
    text = pa.Array.from_buffers(pa.string(), 2, buffers)
    assert sound(text, judge=texts.validate)
    assert texts.lengths(text).tolist() == [3, 3]
    assert texts.fit(text, 1)
    assert not texts.may_have_nul(text)


def test_more_rows_than_offsets_are_refused():
    """C would read what is not there."""
    schema = pa.schema([pa.field("c", pa.string())])
    one = pa.RecordBatch.from_pydict({"c": ["a"]}, schema=schema).serialize()
    message = bytearray(one)
    at = ipc.blanks(memoryview(message))
    for place in (at.rows, at.nodes):
        struct.pack_into("<q", message, place, 10**8)
    claimed = pa.ipc.read_record_batch(pa.py_buffer(bytes(message)), schema)
    assert len(claimed.column(0)) == 10**8
    assert not sound(claimed.column(0), judge=texts.validate)


WITHOUT = """\
import pyarrow as pa
from agent.wire import texts
from connectors.native import loader
assert not loader.PATH.exists()
texts.validate(pa.array(["住", None]))
try:
    texts.validate(pa.array([b"\\xff"]).view(pa.string()))
except pa.ArrowInvalid:
    print("refused")
"""


def test_without_the_compiled_library_texts_are_judged_too(tmp_path: Path):
    """A checkout that cannot read a source can still serve as an exchange."""
    for name in ("agent", "connectors"):
        made = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=made)
    said = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        check=True,
        text=True,
    )
    assert said.stdout == "refused\n"


def test_other_types_are_validated_in_full():
    """A decimal with more digits than its type has is found by nothing else."""
    wide = pa.array([10**6], pa.decimal128(7, 0))
    narrow = pa.Array.from_buffers(pa.decimal128(3, 0), 1, wide.buffers())
    assert not sound(narrow, judge=texts.validate)


def test_u_alone_counts_as_u():
    """Neither two letters for one row nor none for another make up for it."""
    assert texts.all_are(pa.array(["u", "u"]), "u")
    assert texts.all_are(pa.array([], pa.string()), "u")
    assert texts.all_are(pa.array(["d", "u"]).slice(1), "u")
    assert not texts.all_are(pa.array(["uu", ""]), "u")
    assert not texts.all_are(pa.array(["u", "d"]), "u")


def test_a_nul_anywhere_in_the_values_is_seen():
    """The last byte counts, and what lies outside of a slice does not."""
    text = pa.array(["\0", LONG, "a\0"])
    assert texts.may_have_nul(text)
    assert texts.may_have_nul(text.slice(1))
    assert not texts.may_have_nul(text.slice(1, 1))
    assert not texts.may_have_nul(pa.array([], pa.string()))


def test_values_fit_by_their_bytes_or_by_half_of_them():
    """Bytes are counted, and where none is ASCII two of them are one character."""
    text = pa.array([LONG, "住ab", "ab"])
    assert texts.fit(text, len(LONG.encode()))
    assert not texts.fit(text, len(LONG.encode()) - 1)
    assert texts.fit(text.slice(0, 1), len(LONG.encode()) // 2)
    assert texts.fit(text.slice(1), 5)
    assert not texts.fit(text.slice(1), 4)
    assert texts.fit(pa.array(["\u00b7" * 4]), 4)
    assert texts.fit(text.slice(0, 0), 0)


@tries(200)
@given(
    st.lists(
        st.one_of(st.none(), st.text(max_size=4), st.text("·住𠮷", max_size=4)),
        max_size=4,
    ),
    st.integers(0, 4),
)
def test_what_fits_is_never_too_long(values: list[str | None], most: int):
    """Whatever is written in it."""
    longest = max((len(value) for value in values if value is not None), default=0)
    assert longest <= most or not texts.fit(pa.array(values, pa.string()), most)
