# SPDX-License-Identifier: Apache-2.0
"""Short ways to items, pages and checkers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from agent.model.item import Item, ItemType
from agent.model.job import BoundItem
from agent.pipeline.quality.check import Checked, Checker


def item(
    kind: str,
    length: int | None = None,
    scale: int | None = None,
    *,
    name: str = "x",
    key: bool = False,
) -> Item:
    """An item of a type letter."""
    return Item(name, ItemType(kind), length, scale, key, "1")


def bound(
    name: str,
    kind: str,
    length: int | None = None,
    scale: int | None = None,
    *,
    key: bool = False,
    rules: Sequence[str] = (),
    required: bool = False,
) -> BoundItem:
    """A bound item whose column has its name."""
    made = item(kind, length, scale, name=name, key=key)
    return BoundItem(made, name, tuple(rules), required)


ID = bound("id", "I", key=True)


def page(columns: Mapping[str, Any]) -> pa.RecordBatch:
    """A page; lists of texts become string columns."""
    arrays = [
        pa.array(v, pa.string()) if isinstance(v, list) and _texts(v) else pa.array(v)
        for v in columns.values()
    ]
    return pa.RecordBatch.from_arrays(arrays, names=list(columns))


def _texts(values: list[Any]) -> bool:
    return all(v is None or isinstance(v, str) for v in values)


def checker(
    items: Sequence[BoundItem],
    severity: Mapping[str, str] | None = None,
    timezone: str = "Asia/Shanghai",
) -> Checker:
    """A checker with warnings for identifiers, as the settings have by default."""
    default = {"citizen_id": "warn", "citizen_id_15": "warn", "uscc": "warn"}
    default |= {"citizen_id_form": "warn", "uscc_form": "warn"}
    return Checker(
        tuple(items), timezone=timezone, severity={**default, **(severity or {})}
    )


def check(
    items: Sequence[BoundItem],
    columns: Mapping[str, Any],
    severity: Mapping[str, str] | None = None,
) -> Checked:
    """One page through a new checker."""
    return checker(items, severity).check(page(columns))


def ops(checked: Checked) -> list[tuple[str, object]]:
    """Operation and first item of every row that leaves."""
    first = checked.rows.schema.names[1]
    return [(str(row["_op"]), row[first]) for row in checked.rows.to_pylist()]


def causes(checked: Checked) -> list[tuple[int, str, str]]:
    """Row, reason and item of every withheld row."""
    return [(row, cause.reason, cause.item) for row, cause in checked.withheld]
