# SPDX-License-Identifier: Apache-2.0
"""Values of a source to canonical texts: short way, long way and a push agree."""

from __future__ import annotations

import json
import math
import struct
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import example, given

from agent.child.source import stream_of
from agent.lookup.query.ask import BAD, Value
from agent.lookup.query.texts import Texts, float_text
from agent.model.item import Item
from agent.model.job import BoundItem
from agent.wire.arrow import LONG_CAP, canonical_columns
from agent.wire.text import canonical
from tests.support.columns import bound, checker, item
from tests.support.tries import tries

ZONE = "Asia/Shanghai"
ITEMS: dict[str, Item] = {
    "C": item("C", 6),
    "M": item("M"),
    "N": item("N", 8, 2),
    "N0": item("N", 5, 0),
    "NN": item("N", 3, 3),
    "Y": item("Y"),
    "I": item("I"),
    "D": item("D"),
    "T": item("T"),
    "L": item("L"),
    "B": item("B"),
    "F": item("F"),
    "G": item("G"),
}

NEAR = [
    "", " ", "0", "-0", "+1", "1", "01", " 1", "1.0", "1.50", "-0.00", "100.00", "1e5",
    "1E-7", ".5", "5.", "999999.99", "1000000", "0.005", "9223372036854775807",
    "9223372036854775808", "-9223372036854775808", "9" * 39, "１２", "٣", "NaN", "nan",
    "inf", "Infinity", "1e999", "5e-324", "1e-400", "0.1", "1e21", "123456789012345678",
    "t", "f", "true", "FALSE", "是", "y", "2",
    "1985-03-17", "1985/03/17", "1985-3-17", "19850317", "1985-03-17 00:00:00",
    "0000-00-00", "2023-02-30", "0001-01-01", "9999-12-31", "10000-01-01", "infinity",
    "0044-03-15 BC", "1985-13-01",
    "2026-11-21 08:00:00", "2026-11-21T08:00:00", "2026-11-21 08:00", "2026-11-21",
    "2026-11-21 08:00:00.1", "2026-11-21 08:00:00.123456",
    "2026-11-21 08:00:00.1234567",
    "2026-11-21 08:00:00+08", "2026-11-21 08:00:00+08:05", "2026-11-21 00:00:00Z",
    "2026-11-21 08:00:00-12:30", "2026-11-21 08:00:00+08:05:43", "1986-05-04 02:30:00",
    "1986-09-14 01:30:00", "1900-01-01 00:00:00", "2026-11-21 24:00:00",
    "2026-11-21 23:59:60", "0001-01-01 00:00:00", "0001-01-01 00:00:00+08",
    "9999-12-31 23:59:59.999999", "9999-12-31 23:59:59.999999-01", "20261121080000",
    "a\0b", "𠮷" * 6, "𠮷" * 7, "机密", "张三 ", "é", "e\u0301",
]  # fmt: skip

_letters = st.sampled_from(sorted(ITEMS))
_told = (
    st.none()
    | st.sampled_from(NEAR)
    | st.sampled_from(NEAR).map(str.encode)
    | st.text(max_size=8)
    | st.binary(max_size=6)
    | st.integers(-(2**70), 2**70).map(str)
    | st.floats().map(repr)
    | st.datetimes().map(str)
    | st.dates().map(str)
)


def long_way(column: Sequence[Any], what: Item) -> list[Value]:
    return Texts(what, ZONE).long_way(column)


@given(_letters, st.lists(_told, max_size=4))
@example("B", ["-0.0", "1e22", "1e-7"])
@example("T", NEAR[45:])
@tries(400)
def test_both_ways_agree(letter: str, column: list[Any]) -> None:
    """The short way gives what the long way gives, value by value and together."""
    texts = Texts(ITEMS[letter], ZONE)

    assert texts(column) == texts.long_way(column)
    assert texts(column) == [texts([told])[0] for told in column]


@pytest.mark.parametrize("letter", sorted(ITEMS))
def test_every_near_miss_is_what_the_long_way_says(letter: str) -> None:
    """Each odd text alone, and as the bytes of it, for every type."""
    texts = Texts(ITEMS[letter], ZONE)
    for told in [*NEAR, *(text.encode() for text in NEAR), b"\xff", b""]:
        assert texts([told]) == texts.long_way([told]), told


@given(_letters, st.lists(_told, min_size=1, max_size=4))
@tries(250)
def test_a_lookup_gives_what_a_push_sends(letter: str, column: list[Any]) -> None:
    """A row that a push withholds is BAD; of the others the canonical bytes agree."""
    what = ITEMS[letter]
    named = bound("x", what.type.value, what.length, what.scale)
    rows = pa.RecordBatch.from_arrays(
        [pa.array(range(len(column))), arrow(column, what)], names=["id", "x"]
    )
    lenient = {"secrecy_marker": "quarantine"}
    sent = checker([bound("id", "I", key=True), named], lenient).check(rows).rows
    kept = {row["id"]: row["_op"] == "u" for row in sent.to_pylist()}
    (expected,) = canonical_columns(sent.select(["x"]), [item_named(what)])
    found = Texts(what, ZONE)(column)

    for i, text in enumerate(found):
        if not kept[i]:
            assert text is BAD or text == "机密"
        elif what.type.value in "BF":
            assert expected[i] == bits(text)
        elif what.type.value == "G":
            assert (text is None) == (expected[i] is None)
        else:
            assert expected[i] == (None if text is None else str(text).encode())


def item_named(what: Item) -> Item:
    return Item("x", what.type, what.length, what.scale, key=False, share="1")


def arrow(column: Sequence[Any], what: Item) -> Any:
    """As a connector's read gives such values."""
    if what.type.value == "G" or any(isinstance(v, bytes) for v in column):
        raw = [v.encode() if isinstance(v, str) else v for v in column]
        return pa.array(raw, pa.binary())
    return pa.array(column, pa.string())


def bits(text: Value) -> bytes | None:
    if text is None:
        return None
    return struct.pack(">d", float(str(text)) + 0.0).hex().encode()


@given(_letters, _told)
@tries(250)
def test_what_is_answered_is_canonical(letter: str, told: Any) -> None:
    """A text that is answered could be asked as a key or claim again."""
    what = ITEMS[letter]
    (text,) = Texts(what, ZONE)([told])
    if isinstance(text, str) and what.type.value not in "BFG":
        assert canonical(what, text)


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_floats_are_written_as_rfc_8785_says(bits: str, text: str) -> None:
    """The samples of RFC 8785, appendix B."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert float_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
@tries(300)
def test_a_float_is_read_back_as_itself(value: float) -> None:
    """Its text is JSON, and the same float again; -0 is 0."""
    text = float_text(value)
    assert float(json.loads(text)) == value
    assert math.copysign(1, float(text)) > 0 or value < 0


def test_bytes_are_base64url_without_padding() -> None:
    """G as wire.md §4 has it."""
    assert Texts(ITEMS["G"], ZONE)([b"\xff\xfe\xfd\xfc", b"", None]) == [
        "__79_A",
        "",
        None,
    ]


def test_a_long_value_is_bad_at_its_bound() -> None:
    """1 MiB passes, a byte more does not."""
    assert Texts(ITEMS["M"], ZONE)(["x" * LONG_CAP, "x" * (LONG_CAP + 1)])[1] is BAD
    assert Texts(ITEMS["G"], ZONE)([b"x" * (LONG_CAP + 1)]) == [BAD]


def test_undecodable_text_is_bad() -> None:
    """Bytes that are no UTF-8 are BAD, the text beside them is not."""
    assert Texts(ITEMS["C"], ZONE)([b"\xb5\xc2", "ok", None]) == [BAD, "ok", None]


def test_usual_values_load_no_arrow() -> None:
    """A worker stays small until a value goes the long way."""
    program = (
        "import sys, agent.lookup.query.worker, agent.lookup.query.texts as t;"
        "import connectors.sqlite.lookup, connectors.postgres.lookup;"
        "from agent.model.item import Item, ItemType as T;"
        "t.Texts(Item('x', T('D'), None, None, False, '1'), 'Asia/Shanghai')"
        "(['1990-03-07']);"
        "sys.exit(bool({'pyarrow', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False)
    assert done.returncode == 0


def test_what_a_database_calls_latin1_is_answered_as_a_push_sends_it() -> None:
    """Repaired by the binding's encoding, and bad where it is no text of that."""
    texts = Texts(ITEMS["C"], ZONE, "gb18030")
    assert texts(["ÕÅ", "ok", None]) == ["张", "ok", None]
    assert texts(["é", b"\xd5\xc5"]) == [BAD, BAD]
    assert texts(["ok"]) == ["ok"]


def test_a_text_that_a_repair_shortens_is_not_cut_before_it() -> None:
    """The connector may cut at four Latin-1 characters for each that is meant."""
    name = BoundItem(ITEMS["C"], "x", encoding="gb18030")
    (column,) = stream_of(("t",), (name,)).columns
    assert column.length == 4 * (ITEMS["C"].length or 0)
