# SPDX-License-Identifier: Apache-2.0
"""What batches do to the centre's rows: operations, snapshots, deletes, catalogs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tests.support.exchange_client import ITEMS, SCHEMA, Node, Stream
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

Row = tuple[Any, ...]
FIRST = "01934b00-0000-7000-8000-00000000000a"
SECOND = "01934b00-0000-7000-8000-00000000000b"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    """An exchange whose brake lets ten deletes, or half of the rows, through."""
    folder = tmp_path_factory.mktemp("loading")
    config = folder / "sandbox.toml"
    config.write_text("delete_floor = 10\ndelete_percent = 50\n")
    with running_sandbox(folder / "centre", "--config", str(config)) as found:
        yield found


def centre(sandbox: SandboxProcess, stream: Stream) -> list[Row]:
    """The centre's rows in order of key."""
    table = stream.resource.replace("/", "_")
    return sandbox.rows(f'select * from "{table}" order by 1')


def people(*ids: int) -> list[Row]:
    return [("u", f"{i:04d}", "甲", i) for i in ids]


def stored(*ids: int) -> list[Row]:
    return [row[1:] for row in people(*ids)]


# --- operations -------------------------------------------------------------------


def test_upsert_inserts_and_replaces(sandbox: SandboxProcess, stream: Stream) -> None:
    """A later row of a key takes the place of the earlier one, NULLs too."""
    stream.load(stream.next([("u", "1", "a", 1), ("u", "2", "b", 2)]))
    stream.load(stream.next([("u", "2", None, None), ("u", "3", "", 3)]))
    assert centre(sandbox, stream) == [("1", "a", 1), ("2", None, None), ("3", "", 3)]


def test_delete_removes_and_keep_does_nothing(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """d takes the row away; k leaves it, or leaves nothing."""
    stream.load(stream.next([("u", "1", "a", 1), ("u", "2", "b", 2)]))
    rows = [("d", "1", None, None), ("k", "2", None, None), ("k", "9", None, None)]
    receipt = stream.load(stream.next(rows))
    assert receipt["rows"] == {"upsert": 0, "delete": 1, "keep": 2}
    assert centre(sandbox, stream) == [("2", "b", 2)]


def test_delete_of_an_absent_row_is_no_fault(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """The result is the same: it is not there."""
    assert stream.load(stream.next([("d", "1", None, None)]))["state"] == "loaded"


def test_unchanged_moves_the_stream_only(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Nothing changed until as_of: no bytes, no rows, a receipt."""
    stream.load(stream.next(people(1)))
    receipt = stream.load(stream.next([], mode="unchanged"))
    assert receipt["rows"] == {"upsert": 0, "delete": 0, "keep": 0}
    assert centre(sandbox, stream) == stored(1)
    position = stream.node.position(stream.resource)
    assert position["loaded"] == {"epoch": 1, "seq": 2}


@pytest.mark.parametrize("mode", ["incremental", "diff", "cdc", "repair"])
def test_modes_are_labels(sandbox: SandboxProcess, stream: Stream, mode: str) -> None:
    """incremental, diff, cdc and repair are applied alike."""
    stream.load(stream.next(people(1, 2), mode=mode))
    rows = [("d", "0001", None, None), ("k", "0002", None, None)]
    stream.load(stream.next(rows, mode=mode))
    assert centre(sandbox, stream) == stored(2)


def test_every_type_stands_in_its_canonical_text(
    sandbox: SandboxProcess, node: Node, resource: str
) -> None:
    """N, Y, D and T as text, L as 0 or 1, floats and bytes as they are."""
    kinds = [
        ("k", "C", 18, None, pa.string()),
        ("n", "N", 12, 2, pa.decimal128(12, 2)),
        ("small", "N", 38, 20, pa.decimal128(38, 20)),
        ("y", "Y", None, None, pa.decimal128(19, 4)),
        ("d", "D", None, None, pa.date32()),
        ("t", "T", None, None, pa.timestamp("us", "UTC")),
        ("l", "L", None, None, pa.bool_()),
        ("b", "B", None, None, pa.float64()),
        ("g", "G", None, None, pa.binary()),
        ("m", "M", None, None, pa.string()),
    ]
    items = [
        {
            "name": n,
            "type": t,
            "length": length,
            "scale": scale,
            "key": n == "k",
            "share": "1",
        }
        for n, t, length, scale, _ in kinds
    ]
    fields = [pa.field(n, kind, n != "k") for n, _, _, _, kind in kinds]
    schema = pa.schema([SCHEMA.field(0), *fields])
    stream = Stream(node, resource, items=items, schema=schema)
    assert stream.put_catalog().status == 201
    row = (
        "u",
        "1",
        Decimal("-100.50"),
        Decimal("0.00000000000000000001"),
        Decimal("7.0000"),
        date(1, 1, 1),
        datetime(1969, 12, 31, 23, 59, 59, 123456, UTC),
        True,
        0.1,
        b"\x00\xff",
        "",
    )
    nulls = ("u", "2", *[None] * 9)
    stream.load(stream.next([row, nulls]))
    assert centre(sandbox, stream) == [
        (
            "1",
            "-100.5",
            "0.00000000000000000001",
            "7",
            "0001-01-01",
            "1969-12-31T23:59:59.123456Z",
            1,
            0.1,
            b"\x00\xff",
            "",
        ),
        ("2", *[None] * 9),
    ]


def test_keys_differ_by_bytes_whatever_looks_alike(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Case, trailing blanks and composed forms are different keys."""
    keys = ["a", "A", "a ", "\u00e9", "e\u0301"]
    stream.load(stream.next([("u", key, None, None) for key in keys]))
    assert {row[0] for row in centre(sandbox, stream)} == set(keys)


# --- snapshots --------------------------------------------------------------------


def test_snapshot_replaces_all_rows_at_once(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Until the final part readers see the old rows; parts stay ``stored``."""
    stream.load(stream.next(people(1, 2)))
    stream.push(stream.part(people(2, 3), snapshot=FIRST))
    sandbox.wait_loaded()
    assert centre(sandbox, stream) == stored(1, 2)
    assert stream.node.receipt(1, 2, stream.resource)["state"] == "stored"
    stream.load(stream.part(people(4), snapshot=FIRST, part=2, total=3))
    assert centre(sandbox, stream) == stored(2, 3, 4)
    assert stream.node.receipt(1, 2, stream.resource)["state"] == "loaded"
    assert stream.node.position(stream.resource)["loaded"] == {"epoch": 1, "seq": 3}


def test_kept_key_takes_the_row_of_the_centre(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """k without u keeps the last version, or none; it counts among the rows."""
    stream.load(stream.next(people(1, 2)))
    rows = [("k", "0001", None, None), ("k", "0009", None, None), *people(3)]
    assert stream.load(stream.part(rows, total=3))["state"] == "loaded"
    assert centre(sandbox, stream) == stored(1, 3)


def test_later_part_replaces_but_keep_never_removes(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Between parts a later u wins, and a k leaves a staged u alone."""
    stream.push(stream.part([("u", "1", "old", 1), ("u", "2", "b", 2)]))
    stream.push(stream.part([("u", "1", "new", 1), ("k", "2", None, None)], part=2))
    stream.load(stream.part([("k", "1", None, None)], part=3, total=2))
    assert centre(sandbox, stream) == [("1", "new", 1), ("2", "b", 2)]


def test_kept_key_gives_way_to_a_later_row(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A k in an early part and the u in a later one are one key, with the u's row."""
    stream.push(stream.part([("k", "1", None, None)]))
    stream.load(stream.part([("u", "1", "a", 1)], part=2, total=1))
    assert centre(sandbox, stream) == [("1", "a", 1)]


@pytest.mark.parametrize("total", [1, 3])
def test_snapshot_of_another_number_of_keys_is_incomplete(
    sandbox: SandboxProcess, stream: Stream, total: int
) -> None:
    """rows of the final part is the number of distinct keys."""
    stream.load(stream.next(people(7)))
    receipt = stream.load(stream.part(people(1, 2), total=total))
    assert receipt["code"] == "snapshot-incomplete"
    assert centre(sandbox, stream) == stored(7)


def test_snapshot_with_a_missing_part_is_incomplete(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """part counts from 1 without gap."""
    stream.push(stream.part(people(1)))
    receipt = stream.load(stream.part(people(2), part=3, total=2))
    assert receipt["code"] == "snapshot-incomplete"


def test_snapshot_must_begin_with_part_1(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A part 2 whose beginning nobody has is rejected."""
    receipt = stream.load(stream.part(people(2), part=2, total=1))
    assert receipt["code"] == "snapshot-incomplete"


def test_other_batch_discards_the_staging(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """An increment in between ends the snapshot; its parts never load."""
    stream.push(stream.part(people(1), snapshot=FIRST))
    stream.load(stream.next(people(5)))
    receipt = stream.load(stream.part(people(2), snapshot=FIRST, part=2, total=2))
    assert receipt["code"] == "snapshot-incomplete"
    assert stream.node.receipt(1, 1, stream.resource)["state"] == "stored"
    assert centre(sandbox, stream) == stored(5)


def test_new_snapshot_discards_the_old_staging(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A run that starts over begins with part 1 of another id."""
    stream.push(stream.part(people(1, 2, 3), snapshot=FIRST))
    stream.load(stream.part(people(4), snapshot=SECOND, total=1))
    assert centre(sandbox, stream) == stored(4)


def test_snapshot_has_one_catalog(sandbox: SandboxProcess, stream: Stream) -> None:
    """A catalog that changes between parts is no whole snapshot."""
    stream.push(stream.part(people(1), snapshot=FIRST))
    stream.follow(2, ITEMS)
    receipt = stream.load(stream.part(people(2), snapshot=FIRST, part=2, total=2))
    assert receipt["code"] == "snapshot-incomplete"


def test_empty_snapshot_of_an_empty_table_loads(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A source table without rows is a valid state."""
    assert stream.load(stream.part([], total=0))["state"] == "loaded"
    assert centre(sandbox, stream) == []


def test_stream_is_proven_by_a_full_snapshot(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """False before any snapshot and after a lost spool, until one loads."""
    seen = []

    def proven() -> None:
        seen.append(stream.node.position(stream.resource)["proven"])

    stream.load(stream.next(people(1)))
    proven()
    stream.load(stream.part(people(1), snapshot=FIRST, total=1))
    proven()
    stream.new_epoch("spool_lost")
    stream.load(stream.next(people(1)))
    proven()
    stream.load(stream.part(people(1), snapshot=SECOND, total=1))
    proven()
    assert seen == [False, True, False, True]


# --- mass deletes -----------------------------------------------------------------


def delete(*ids: int) -> list[Row]:
    return [("d", f"{i:04d}", None, None) for i in ids]


def confirmed(count: int) -> dict[str, Any]:
    return {"deletes_confirmed": {"at": "2026-11-21T08:00:00Z", "count": count}}


def test_deletes_up_to_the_floor_load(sandbox: SandboxProcess, stream: Stream) -> None:
    """max(floor, share of the rows): ten of twelve is at the floor."""
    stream.load(stream.next(people(*range(12))))
    assert stream.load(stream.next(delete(*range(10))))["state"] == "loaded"


def test_deletes_above_the_limit_are_rejected(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Eleven of twelve: the batch is rejected and no row goes."""
    stream.load(stream.next(people(*range(12))))
    assert stream.load(stream.next(delete(*range(11))))["code"] == "mass-delete"
    assert len(centre(sandbox, stream)) == 12


def test_deletes_of_the_last_24_hours_add_up(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Small steps are counted together; a day later they are forgotten."""
    stream.load(stream.next(people(*range(20))))
    stream.load(stream.next(delete(*range(6))))
    assert stream.load(stream.next(delete(*range(6, 12))))["code"] == "mass-delete"
    sandbox.faults({"kind": "clock", "seconds": 86_401})
    stream.new_epoch("rejected")
    assert stream.load(stream.next(delete(*range(6, 12))))["state"] == "loaded"


def test_large_table_has_a_larger_limit(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Above the floor the share of the loaded rows counts."""
    stream.load(stream.next(people(*range(100))))
    assert stream.load(stream.next(delete(*range(50))))["state"] == "loaded"
    assert stream.load(stream.next(delete(50)))["code"] == "mass-delete"


def test_confirmed_deletes_pass_up_to_their_count(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A person's word covers its own batch only, up to the number confirmed."""
    stream.load(stream.next(people(*range(40))))
    stream.load(stream.next(delete(*range(25)), **confirmed(25)))
    stream.load(stream.next(delete(*range(25, 35))))
    batch = stream.next(people(*range(40)))
    stream.load(batch)
    too_many = stream.next(delete(*range(40)), **confirmed(12))
    assert stream.load(too_many)["code"] == "mass-delete"


def test_keys_gone_by_a_snapshot_are_deletes(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """A swap that loses too many keys is rejected, a confirmed one is not."""
    stream.load(stream.part(people(*range(30)), snapshot=FIRST, total=30))
    small = stream.part(people(1), snapshot=SECOND, total=1)
    assert stream.load(small)["code"] == "mass-delete"
    assert len(centre(sandbox, stream)) == 30
    stream.new_epoch("rejected")
    small = stream.part(people(1), snapshot=SECOND, total=1, **confirmed(29))
    assert stream.load(small)["state"] == "loaded"
    assert centre(sandbox, stream) == stored(1)


def test_kept_keys_are_not_gone(sandbox: SandboxProcess, stream: Stream) -> None:
    """A key that quality withheld is no delete."""
    stream.load(stream.part(people(*range(30)), snapshot=FIRST, total=30))
    rows = [("k", f"{i:04d}", None, None) for i in range(30)]
    assert stream.load(stream.part(rows, snapshot=SECOND, total=30))["state"] == (
        "loaded"
    )
    assert centre(sandbox, stream) == stored(*range(30))


# --- catalogs ---------------------------------------------------------------------

NOTE = {
    "name": "note",
    "type": "M",
    "length": None,
    "scale": None,
    "key": False,
    "share": "1",
}
WIDER = pa.schema([*SCHEMA, pa.field("note", pa.string())])


def test_appended_item_needs_no_full_run(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """Old rows have NULL in the new column."""
    stream.load(stream.next(people(1)))
    stream.follow(2, [*ITEMS, NOTE])
    stream.schema = WIDER
    stream.load(stream.next([("u", "0002", "乙", 2, "注")]))
    assert centre(sandbox, stream) == [
        ("0001", "甲", 1, None),
        ("0002", "乙", 2, "注"),
    ]


def other_type() -> list[dict[str, Any]]:
    return [*ITEMS[:2], NOTE | {"name": "age"}]


def fewer() -> list[dict[str, Any]]:
    return ITEMS[:2]


def other_key() -> list[dict[str, Any]]:
    return [ITEMS[0], ITEMS[1] | {"key": True}, ITEMS[2]]


@pytest.mark.parametrize(
    ("items", "schema"),
    [
        (other_type(), SCHEMA.set(3, pa.field("age", pa.string()))),
        (fewer(), pa.schema(list(SCHEMA)[:3])),
        (other_key(), SCHEMA.set(2, pa.field("name", pa.string(), nullable=False))),
    ],
    ids=["type", "fewer", "key"],
)
def test_other_change_needs_a_full_run(
    sandbox: SandboxProcess,
    stream: Stream,
    items: list[dict[str, Any]],
    schema: pa.Schema,
) -> None:
    """An increment after it is rejected; a snapshot rebuilds the table."""
    stream.load(stream.next(people(1)))
    stream.follow(2, items)
    stream.schema = schema
    columns = len(schema)
    row = ("u", "0002", "乙", "3" if items[-1]["type"] == "M" else 3)[:columns]
    assert stream.load(stream.next([row]))["code"] == "bad-manifest"
    stream.new_epoch("rejected")
    assert stream.load(stream.part([row], total=1))["state"] == "loaded"
    assert centre(sandbox, stream) == [row[1:]]
