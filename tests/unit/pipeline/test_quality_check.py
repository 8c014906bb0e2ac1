# SPDX-License-Identifier: Apache-2.0
"""A page of the source to rows that may be sent."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given

from agent.errors import SourceTypeChanged
from agent.model.batch import Quality, Rows
from agent.pipeline.quality import reasons
from agent.pipeline.quality.check import MarkerFound, RuleHalted
from agent.values import dates
from tests.support.columns import (
    ID,
    bound,
    causes,
    check,
    checker,
    ops,
    page,
)
from tests.support.tries import tries


def test_a_clean_page_leaves_unchanged() -> None:
    """Every row is `u`, in exact wire types, in order."""
    checked = check(
        [ID, bound("name", "C", 10), bound("pay", "N", 12, 2)],
        {"id": [1, 2], "name": ["王", ""], "pay": ["1.50", None]},
    )
    assert checked.rows.to_pylist() == [
        {"_op": "u", "id": 1, "name": "王", "pay": Decimal("1.50")},
        {"_op": "u", "id": 2, "name": "", "pay": None},
    ]
    assert checked.counts == Rows(upsert=2, delete=0, keep=0)
    assert checked.quality == Quality(read=2, quarantined=0, skipped=0)
    assert (checked.reasons, checked.warnings, len(checked.withheld)) == ({}, {}, 0)


def test_the_schema_is_the_wires() -> None:
    """`_op` and keys are not null, the types are those of the Arrow profile."""
    rows = check([ID, bound("at", "T")], {"id": [1], "at": ["2026-11-21 08:00"]}).rows
    fields = [rows.schema.field(i) for i in range(3)]
    assert [(f.name, str(f.type), f.nullable) for f in fields] == [
        ("_op", "string", False),
        ("id", "int64", False),
        ("at", "timestamp[us, tz=UTC]", True),
    ]
    rows.validate(full=True)


def test_an_empty_page_is_an_empty_page() -> None:
    """No rows, no complaint."""
    columns = {"id": pa.array([], pa.int64()), "at": pa.array([], pa.string())}
    for kind in "CDTLBG":
        checked = check([ID, bound("at", kind, 9 if kind == "C" else None)], columns)
        assert checked.rows.num_rows == 0


def test_a_withheld_row_with_a_good_key_is_kept() -> None:
    """Its key leaves as `k`, nothing else of it does."""
    checked = check(
        [ID, bound("day", "D"), bound("name", "C", 3)],
        {"id": [1, 2, 3], "day": ["0000-00-00", "2026-01-01", None], "name": ["x"] * 3},
    )
    assert ops(checked) == [("k", 1), ("u", 2), ("u", 3)]
    assert checked.rows.to_pylist()[0] == {"_op": "k", "id": 1} | dict.fromkeys(
        ("day", "name")
    )
    assert causes(checked) == [(0, "bad_date", "day")]
    assert checked.counts == Rows(upsert=2, delete=0, keep=1)
    assert checked.quality == Quality(read=3, quarantined=1, skipped=0)


def test_a_row_without_a_good_key_does_not_leave_at_all() -> None:
    """NULL and unreadable keys are quarantined without `k`."""
    checked = check([ID], {"id": ["1", None, "x"]})
    assert ops(checked) == [("u", 1)]
    assert checked.reasons == {"key_missing": 1, "bad_number": 1}
    assert checked.counts == Rows(upsert=1, delete=0, keep=0)


def test_the_first_reason_decides() -> None:
    """Item by item in catalog order; a row is counted once."""
    checked = check(
        [ID, bound("a", "D"), bound("b", "I")], {"id": [1], "a": ["x"], "b": ["x"]}
    )
    assert causes(checked) == [(0, "bad_date", "a")]
    assert checked.reasons == {"bad_date": 1}


@pytest.mark.parametrize(
    ("kind", "length", "scale", "column", "reason"),
    [
        ("C", 2, None, ["王王", "王王王"], "too_long"),
        ("C", 2, None, ["𠮷𠮷", "𠮷𠮷𠮷"], "too_long"),
        ("C", 9, None, ["ok", "a\0b"], "nul_char"),
        ("M", None, None, ["x" * 2**20, "x" * (2**20 + 1)], "too_long"),
        ("M", None, None, ["ok", "\0"], "nul_char"),
        ("G", None, None, pa.array([b"\0" * 2**20, b"x" * (2**20 + 1)]), "too_long"),
        ("B", None, None, pa.array([0.0, float("nan")]), "out_of_range"),
        ("F", None, None, pa.array([-0.0, float("inf")]), "out_of_range"),
        ("D", None, None, pa.array([-719_162, -719_163], pa.int32()), "out_of_range"),
        ("D", None, None, pa.array([2_932_896, 2_932_897], pa.int32()), "out_of_range"),
        (
            "T",
            None,
            None,
            pa.array([253_402_300_799_999_999, 253_402_300_800_000_000]),
            "out_of_range",
        ),
        (
            "T",
            None,
            None,
            pa.array([-62_135_596_800_000_000, -62_135_596_800_000_001]),
            "out_of_range",
        ),
    ],
)
def test_a_native_value_outside_its_type_is_withheld(
    kind: str, length: int | None, scale: int | None, column: Any, reason: str
) -> None:
    """The first value just fits, the second does not."""
    if kind == "D":
        column = column.cast(pa.date32())
    if kind == "T":
        column = column.cast(pa.timestamp("us", tz="UTC"))
    checked = check([ID, bound("x", kind, length, scale)], {"id": [1, 2], "x": column})
    assert causes(checked) == [(1, reason, "x")]


def test_a_decimal_wider_than_its_precision_is_withheld() -> None:
    """A native decimal whose digits do not fit is seen without full validation."""
    raw = pa.array([99_999, 100_000], pa.int64())
    wide = raw.cast(pa.decimal128(19, 0)).cast(pa.decimal128(38, 2)).buffers()
    column = pa.Array.from_buffers(pa.decimal128(5, 2), 2, [None, wide[1]])
    checked = check([ID, bound("x", "N", 5, 2)], {"id": [1, 2], "x": column})
    assert [row for row, *_ in causes(checked)] == [0, 1]


def test_wall_clock_times_become_utc() -> None:
    """A native timestamp without zone is the source's local time."""
    column = pa.array([datetime(2026, 11, 21, 8), None], pa.timestamp("us"))  # noqa: DTZ001
    rows = check([ID, bound("x", "T")], {"id": [1, 2], "x": column}).rows
    assert rows.column("x").to_pylist() == [datetime(2026, 11, 21, tzinfo=UTC), None]


def test_wall_clock_times_that_never_were_are_withheld() -> None:
    """Gap, overlap, and years outside of 1 to 9999."""
    column = pa.array(
        [
            datetime(1986, 5, 4, 2, 30),  # noqa: DTZ001
            datetime(1986, 9, 14, 1, 30),  # noqa: DTZ001
            datetime(1, 1, 1),  # noqa: DTZ001
        ],
        pa.timestamp("us"),
    )
    far = pa.array([2**63 - 1, -(2**63) + 1, 0]).cast(pa.timestamp("us"))
    checked = check(
        [ID, bound("x", "T"), bound("y", "T")], {"id": [1, 2, 3], "x": column, "y": far}
    )
    assert [c[1] for c in causes(checked)] == [
        "time_gap",
        "time_ambiguous",
        "out_of_range",
    ]


def test_text_that_is_not_text_is_withheld() -> None:
    """A binary column of a text item: what is UTF-8 is sent, the rest is not."""
    checked = check(
        [ID, bound("name", "C", 2), bound("n", "I")],
        {
            "id": [1, 2, 3],
            "name": pa.array(["王".encode(), b"\xff", b"abc"]),
            "n": pa.array([b"5", b"6", b"\xfe"]),
        },
    )
    assert ops(checked) == [("u", 1), ("k", 2), ("k", 3)]
    assert causes(checked) == [(1, "undecodable", "name"), (2, "too_long", "name")]


def test_a_column_of_another_type_is_named() -> None:
    """The catalog and the source differ: the run fails, no value is bent."""
    with pytest.raises(SourceTypeChanged, match=r"item x: expected .*, got int64"):
        check([ID, bound("x", "D")], {"id": [1], "x": [5]})
    with pytest.raises(SourceTypeChanged, match="expected 1 columns, got 2"):
        check([ID], {"id": [1], "x": [5]})


# --- keys -------------------------------------------------------------------------


def test_of_equal_keys_the_first_counts() -> None:
    """Later ones are withheld without `k`, also on the next page."""
    run = checker([ID])
    first = run.check(page({"id": [1, 1, 2]}))
    second = run.check(page({"id": [2, 3, 3]}))
    assert [ops(first), ops(second)] == [[("u", 1), ("u", 2)], [("u", 3)]]
    assert (first.reasons, second.reasons) == (
        {"duplicate_key": 1},
        {"duplicate_key": 2},
    )
    assert causes(second) == [(0, "duplicate_key", "id"), (2, "duplicate_key", "id")]


def test_an_empty_page_does_not_forget_the_last_key() -> None:
    """Doubles are seen across pages without a good key, too."""
    run = checker([ID])
    run.check(page({"id": ["1"]}))
    run.check(page({"id": pa.array([], pa.string())}))
    run.check(page({"id": ["x", None]}))
    assert run.check(page({"id": ["1"]})).reasons == {"duplicate_key": 1}


def test_a_double_of_a_kept_row_is_a_double() -> None:
    """The key left as `k` already; it must not leave twice."""
    checked = check([ID, bound("d", "D")], {"id": [1, 1], "d": ["x", "2026-01-01"]})
    assert ops(checked) == [("k", 1)]
    assert checked.reasons == {"bad_date": 1, "duplicate_key": 1}


def test_rows_without_key_do_not_hide_a_double() -> None:
    """A bad key between two equal ones changes nothing."""
    checked = check([ID], {"id": ["1", None, "1"]})
    assert checked.reasons == {"key_missing": 1, "duplicate_key": 1}


def test_keys_of_several_items_are_compared_whole() -> None:
    """Only equal in all items is equal."""
    items = [bound("a", "C", 2, key=True), bound("b", "D", key=True)]
    days = ["2026-01-01", "2026-01-02", "2026-01-02", "2026-01-01"]
    checked = check(items, {"a": ["x", "x", "x", "y"], "b": days})
    assert causes(checked) == [(2, "duplicate_key", "a")]


def test_a_number_bound_to_text_cannot_smuggle_a_double() -> None:
    """`05` far from `5` would be the same key twice: what falls back is withheld."""
    run = checker([ID])
    first = run.check(page({"id": ["05", "1", "10", "2"]}))
    second = run.check(page({"id": ["5", "6", "11"]}))
    assert ops(first) + ops(second) == [("u", 5), ("u", 10), ("u", 11)]
    assert first.reasons == {"key_order": 2}
    assert second.reasons == {"key_order": 2}


def test_text_keys_may_come_in_any_grouped_order() -> None:
    """A collation's order is the source's affair."""
    checked = check([bound("k", "C", 3, key=True)], {"k": ["b", "B", "a", "a", "A"]})
    assert [row for row, *_ in causes(checked)] == [3]


def test_without_a_key_nothing_can_be_checked() -> None:
    """A checker needs a key item."""
    with pytest.raises(ValueError, match="no item is a key"):
        checker([bound("x", "I")])


# --- rules ------------------------------------------------------------------------


def test_a_required_item_that_is_empty_is_withheld() -> None:
    """NULL is empty, `''` is not."""
    items = [ID, bound("name", "C", 5, required=True)]
    checked = check(items, {"id": [1, 2], "name": ["", None]})
    assert causes(checked) == [(1, "required", "name")]


def test_a_warning_is_sent_and_counted_by_row() -> None:
    """Two items of one row that fail the same rule are one warning."""
    items = [
        ID,
        bound("a", "C", 18, rules=["citizen_id"]),
        bound("b", "C", 18, rules=["citizen_id"]),
    ]
    bad = "110105194912310021"
    checked = check(items, {"id": [1, 2], "a": [bad, None], "b": [bad, bad]})
    assert checked.warnings == {"citizen_id": 2}
    assert checked.counts.upsert == 2


def test_a_warning_of_a_withheld_row_does_not_count() -> None:
    """Warnings count rows that are sent."""
    items = [ID, bound("a", "C", 18, rules=["citizen_id"]), bound("d", "D")]
    checked = check(items, {"id": [1], "a": ["110105194912310021"], "d": ["x"]})
    assert checked.warnings == {}


def test_severity_quarantine_withholds() -> None:
    """What warns by default can be made to withhold."""
    items = [ID, bound("a", "C", 18, rules=["uscc"])]
    columns = {"id": [1], "a": ["91350211M0000XUF46"]}
    assert check(items, columns).warnings == {"uscc": 1}
    strict = check(items, columns, {"uscc": "quarantine"})
    assert (ops(strict), strict.reasons) == ([("k", 1)], {"uscc": 1})


def test_severity_halt_stops_the_run() -> None:
    """The error names rule, item and rows, no value; the rows come with it."""
    items = [ID, bound("g", "C", 1, rules=["code:gender"])]
    with pytest.raises(RuleHalted) as caught:
        check(items, {"id": [1, 2], "g": ["7", "1"]}, {"code_list": "halt"})
    assert caught.value.detail == "code_list in item g: 1 rows"
    assert caught.value.code == "quality-halt"
    assert causes(caught.value.checked) == [(0, "code_list", "g")]


MARKED = ["机密★10年", "附件：绝密　★", "秘密 ★长期"]
UNMARKED = ["机密", "★", "保密★", "机 密★", "☆机密", "机密文件★", "“机密”", None]


@pytest.mark.parametrize("text", MARKED)
@pytest.mark.parametrize("kind", ["C", "M"])
def test_a_secrecy_marking_stops_the_run(kind: str, text: str) -> None:
    """In any text item, whatever rules it has."""
    items = [ID, bound("x", kind, 20 if kind == "C" else None)]
    with pytest.raises(MarkerFound) as caught:
        check(items, {"id": [1, 2], "x": ["fine", text]})
    assert caught.value.code == "secrecy-marker"
    assert caught.value.detail == "secrecy_marker in item x: 1 rows"
    assert text not in str(caught.value)
    assert causes(caught.value.checked) == [(1, "secrecy_marker", "x")]


def test_what_only_looks_like_a_marking_passes() -> None:
    """The star has to follow the word."""
    checked = check([ID, bound("x", "M")], {"id": list(range(8)), "x": UNMARKED})
    assert checked.counts.upsert == len(UNMARKED)


def test_a_marking_can_be_quarantined_but_never_sent() -> None:
    """Severity `warn` is refused."""
    items = [ID, bound("x", "M")]
    columns = {"id": [1], "x": ["机密★"]}
    checked = check(items, columns, {"secrecy_marker": "quarantine"})
    assert checked.rows.to_pylist() == [{"_op": "k", "id": 1, "x": None}]
    with pytest.raises(ValueError, match="never sent"):
        check(items, columns, {"secrecy_marker": "warn"})


def test_a_marking_in_a_row_withheld_for_another_reason_stops_the_run() -> None:
    """The halt does not depend on the first reason."""
    items = [ID, bound("d", "D"), bound("x", "C", 3)]
    with pytest.raises(MarkerFound):
        check(items, {"id": [1], "d": ["x"], "x": ["机密★10年"]})


def test_an_unnamed_rule_quarantines() -> None:
    """A rule that no settings name is not a reason to send."""
    items = [ID, bound("g", "C", 1, rules=["code:gender"])]
    assert check(items, {"id": [1], "g": ["7"]}).reasons == {"code_list": 1}


def test_every_reason_has_a_title_in_both_languages() -> None:
    """What the code names, people can read."""
    names = {**vars(reasons), **vars(reasons.values)}
    codes = {v for k, v in names.items() if k.isupper() and isinstance(v, str)}
    assert codes == set(reasons.TITLES)
    assert all(title.en and title.zh for title in reasons.TITLES.values())
    assert set(reasons.RULES) <= codes


# --- two sources, the same bytes ------------------------------------------------------


def test_native_and_text_columns_give_the_same_bytes() -> None:
    """PostgreSQL's native columns and SQLite's texts end as equal batches."""
    items = [
        ID,
        bound("n", "N", 12, 2),
        bound("d", "D"),
        bound("t", "T"),
        bound("l", "L"),
        bound("f", "B"),
    ]
    text = {
        "id": ["1", "2"],
        "n": ["1.5", None],
        "d": ["1985-03-17", None],
        "t": ["2026-11-21 08:00:00", None],
        "l": ["t", None],
        "f": ["0.1", None],
    }
    native: dict[str, Any] = {
        "id": [1, 2],
        "n": pa.array([Decimal("1.50"), None], pa.decimal128(12, 2)),
        "d": pa.array([date(1985, 3, 17), None]),
        "t": pa.array(
            [datetime(2026, 11, 21, tzinfo=UTC), None], pa.timestamp("us", "UTC")
        ),
        "l": pa.array([True, None]),
        "f": pa.array([0.1, None]),
    }
    assert _stream(check(items, text).rows) == _stream(check(items, native).rows)


@pytest.mark.parametrize("kind", "IDTBNY")
def test_a_withheld_value_is_erased_not_hidden(kind: str) -> None:
    """Nothing of a `k` row but its key stands in the batch, not even under a null."""
    size = (12, 2) if kind == "N" else (None, None)
    texts = {"D": "1985-03-17", "T": "2026-11-21 08:00:00"}
    items = [ID, bound("x", kind, *size), bound("bad", "D"), bound("name", "C", 3)]
    columns = {"id": [1], "x": [texts.get(kind, "77")], "bad": ["x"], "name": ["王"]}
    batch = check(items, columns).rows
    for column in batch.columns[2:]:
        assert not any(b"".join(b.to_pybytes() for b in column.buffers()[1:] if b))


def test_the_bytes_do_not_depend_on_what_lies_under_a_null() -> None:
    """Equal rows are equal bytes, whatever the driver left in its buffers."""
    items = [ID, *(bound(kind, kind) for kind in "ILBDTMG")]
    batches = []
    for dirt in (0, 255):
        columns: dict[str, Any] = {"id": [1, 2, 3]}
        for name, column in _natives().items():
            valid = pa.py_buffer(bytes([0b101 | (dirt & 0b11111000)]))
            columns[name] = _dirty(column, valid, dirt)
        batches.append(_stream(check(items, columns).rows))
    assert batches[0] == batches[1]


def _natives() -> dict[str, Any]:
    days = pa.array([1, 2, 3], pa.int32()).cast(pa.date32())
    times = pa.array([1, 2, 3], pa.int64()).cast(dates.UTC_TIME)
    made: dict[str, Any] = {"I": pa.array([1, 2, 3]), "L": pa.array([True] * 3)}
    made |= {"B": pa.array([1.0, 2.0, 3.0]), "D": days, "T": times}
    return made | {"M": pa.array(["a", "b", "c"]), "G": pa.array([b"a", b"b", b"c"])}


def _dirty(column: Any, valid: pa.Buffer, dirt: int) -> Any:
    """The column with its middle value null and other bytes under it."""
    *rest, data = column.buffers()
    raw = bytearray(data.to_pybytes())
    width = {1: 1, 8: 0}.get(len(raw), len(raw) // 3)
    raw[width : 2 * width] = bytes([dirt % 128]) * width
    if column.type == pa.bool_():
        raw[0] ^= dirt & 0b11111010
    buffers = [valid, *rest[1:], pa.py_buffer(bytes(raw))]
    return pa.Array.from_buffers(column.type, 3, buffers)


def _stream(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


_cell = st.none() | st.sampled_from(["1", "2", "x", "", "2026-01-01", "机密", "a\0"])


@tries(50)
@given(st.lists(st.tuples(_cell, _cell, _cell), max_size=8))
def test_every_row_is_accounted_for(rows: list[tuple[str | None, ...]]) -> None:
    """read = upsert + quarantined; keys leave once; what leaves is valid."""
    items = [bound("k", "C", 10, key=True), bound("n", "I"), bound("d", "D")]
    rows = sorted(rows, key=lambda row: (row[0] or "", row[0] is None))
    columns = {
        name: pa.array([row[i] for row in rows], pa.string())
        for i, name in enumerate(("k", "n", "d"))
    }
    checked = check(items, columns)
    checked.rows.validate(full=True)
    assert checked.quality.read == len(rows)
    assert checked.quality.read == checked.counts.upsert + checked.quality.quarantined
    assert sum(checked.reasons.values()) == checked.quality.quarantined
    assert checked.counts.keep <= checked.quality.quarantined
    keys = checked.rows.column("k").to_pylist()
    assert len(set(keys)) == len(keys)
    assert None not in keys
