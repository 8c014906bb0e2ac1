# SPDX-License-Identifier: Apache-2.0
"""What the centre has of a table: read, checked, packed, and decoded again.

The steps are those of a run's worker: the real connector, the quality stage, the packer
and the file that would be sent; only the process around them is missing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from agent.child.source import stream_of
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Ended, Failed, Job, Line, Message, Packed
from agent.pipeline.worker.run import Run, Tools
from agent.pipeline.worker.sieve import QualitySieve
from agent.registry import find
from agent.wire.arrow import read_payload, type_of
from connectors.contract import Limits

KEY = BoundItem(Item("id", ItemType.I, None, None, True, "1"), "id")


def value(letter: str, length: int | None = None, scale: int | None = None) -> Item:
    """An item ``v``; C and N have the length (and scale) that items must have."""
    if letter == "C":
        length = length or 4000
    if letter == "N":
        length, scale = length or 38, scale or 0
    return Item("v", ItemType(letter), length, scale, False, "1")


@dataclass(frozen=True)
class Withheld:
    """A value is kept back, and this is why."""

    reason: str


@dataclass
class Arrived:
    """What a run gave.

    Args:
        rows: of all payloads in order, as the exchange decodes them.
        withheld: lines of the quarantine.
        ended: the run's last message.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    withheld: list[dict[str, Any]] = field(default_factory=list)
    ended: Ended | Failed | None = None


def arrive(
    folder: Path,
    connector: str,
    source: Mapping[str, Any],
    table: Sequence[str],
    items: Sequence[BoundItem],
) -> Arrived:
    """One full pull of a table.

    Args:
        folder: empty but for other pulls' files.
        connector: name in the registry.
        source: settings of the source.
        table: its name, outermost first.
        items: what is bound, a key among them.
    """
    (folder / "quarantine").unlink(missing_ok=True)
    found, job = Arrived(), _job(folder, connector, source, table, items)
    packed: list[Packed] = []

    def tell(message: Message) -> None:
        if isinstance(message, Packed):
            packed.append(message)
        if isinstance(message, Ended | Failed):
            found.ended = message

    def hear() -> Message:
        part = packed[-1].part
        path = folder / f"{part}.line"
        path.unlink(missing_ok=True)
        return Line(part, "a.b.c", str(path))

    Run(job, tell=tell, hear=hear, tools=Tools(find=find, sieve=QualitySieve)).go()
    for one in packed:
        data = (folder / f"{one.part}.line").read_bytes().partition(b"\n")[2]
        for batch in read_payload(
            data,
            tuple(bound.item for bound in items),
            mode="full",
            raw_size=one.raw_size,
            rows=one.rows,
        ):
            batch.validate(full=True)
            found.rows += batch.to_pylist()
    kept = folder / "quarantine"
    lines = kept.read_bytes().split(b"\n")[:-1] if kept.exists() else []
    found.withheld = [json.loads(line) for line in lines]
    return found


def _job(
    folder: Path,
    connector: str,
    source: Mapping[str, Any],
    table: Sequence[str],
    items: Sequence[BoundItem],
) -> Job:
    return Job(
        kind="pull",
        resource="11/000001/0001",
        run="019abcde-0000-7000-8000-000000000001",
        connector=connector,
        source={k: v for k, v in source.items() if v is not None},
        table=tuple(table),
        items=tuple(items),
        timezone="Asia/Shanghai",
        severity={},
        batch_raw_bytes=8_000_000,
        max_rows_per_batch=200_000,
        quarantine=str(folder / "quarantine"),
        statement_timeout_s=60,
    )


@dataclass(frozen=True)
class Vector:
    """A column and what the centre has of its values.

    Args:
        native: its type.
        item: what it is bound to.
        values: SQL of a value -> the value at the centre.
        encoding: what its texts really are, as ``BoundItem`` has it.
    """

    native: str
    item: Item
    values: Mapping[str, Any]
    encoding: str | None = None

    @property
    def sent(self) -> list[str]:
        """SQL of the values that arrive."""
        return [s for s, v in self.values.items() if not isinstance(v, Withheld)]


@dataclass(frozen=True)
class Sheet:
    """All vectors in one table: each row has one value, in its vector's column."""

    vectors: tuple[Vector, ...]

    @property
    def columns(self) -> list[str]:
        """Definitions, the key's first."""
        own = [f"v{i} {v.native}" for i, v in enumerate(self.vectors)]
        return ["id bigint primary key", *own]

    @property
    def inserts(self) -> list[tuple[int, str, str]]:
        """Key, column and SQL of each value."""
        return [
            (1000 * i + n, f"v{i}", sql)
            for i, vector in enumerate(self.vectors)
            for n, sql in enumerate(vector.values)
        ]

    @property
    def fitting(self) -> dict[str, str]:
        """Column -> SQL of a value that arrives; none of texts, whose paths are one."""
        return {
            f"v{i}": sent[0]
            for i, vector in enumerate(self.vectors)
            if vector.item.type not in "CM" and (sent := vector.sent)
        }

    @property
    def usual(self) -> str:
        """After ``insert into …``: one row, of which every value arrives."""
        columns, values = zip(*self.fitting.items(), strict=True)
        return f"(id, {', '.join(columns)}) values (1, {', '.join(values)})"

    @property
    def items(self) -> tuple[BoundItem, ...]:
        """What is bound, the key first."""
        own = (
            BoundItem(replace(v.item, name=f"v{i}"), f"v{i}", encoding=v.encoding)
            for i, v in enumerate(self.vectors)
        )
        return (KEY, *own)

    def of(self, arrived: Arrived) -> list[list[object]]:
        """A list for each vector, its values in order, as :func:`exact`."""
        assert isinstance(arrived.ended, Ended), arrived.ended
        rows = {row["id"]: row for row in arrived.rows if row["_op"] == "u"}
        kept = {q["key"]["id"]: Withheld(q["reason"]) for q in arrived.withheld}
        return [
            [
                kept.get(key) or exact(rows[key][f"v{i}"])
                for key in range(1000 * i, 1000 * i + len(vector.values))
            ]
            for i, vector in enumerate(self.vectors)
        ]


def paths(
    connector: str, source: Mapping[str, Any], table: Sequence[str], sheet: Sheet
) -> dict[str, tuple[str | None, str]]:
    """How ``check`` says that each column is read, and how it is.

    Args:
        connector: name in the registry.
        source: settings of the source.
        table: made of the sheet, with nothing in it but :meth:`Sheet.usual`.
        sheet: its vectors.

    Returns:
        column -> the path that is told, and the one that was met: ``native`` if the
        value came in the item's own type.
    """
    source = {k: v for k, v in source.items() if v is not None}
    stream = stream_of(tuple(table), sheet.items)
    told = {f.column: f.path for f in find(connector).check(source, [stream])}
    with find(connector).open(source, Limits()) as session:
        (page,) = session.read(*session.plan(stream))
    kinds = {field.name: field.type for field in page.rows.schema}
    items = {b.column: b.item for b in sheet.items}
    return {
        name: (told[name], "native" if _own(kinds[name], items[name]) else "text")
        for name in sheet.fitting
    }


def _own(kind: pa.DataType, item: Item) -> bool:
    """Whether it is the item's type, or its wall-clock time."""
    local = item.type is ItemType.T and kind == pa.timestamp("us")
    return local or kind == type_of(item)


def exact(found: object) -> object:
    """What equals no other value: floats by bits, decimals by digits without zeros."""
    if isinstance(found, float):
        return "nan" if math.isnan(found) else found.hex()
    if isinstance(found, datetime):
        return found.astimezone(UTC).isoformat()
    if isinstance(found, Decimal):
        text = format(found, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return Decimal(0) if not found else Decimal(text).as_tuple()
    return found
