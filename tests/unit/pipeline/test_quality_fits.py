# SPDX-License-Identifier: Apache-2.0
"""Quality fits what stands around it: the wire, the catalog and the settings."""

from __future__ import annotations

import io
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.ipc
from hypothesis import given

from agent.catalog import lint, lint_items
from agent.model.item import ItemType
from agent.pipeline.quality import reasons
from agent.pipeline.quality.rules import judge
from agent.settings.model import Quality
from agent.wire import arrow, catalog, grammar
from agent.wire.arrow import read_payload
from tests.support.columns import ID, bound, checker
from tests.support.tries import tries

_SIZES = {"C": (6, None), "N": (8, 2)}
ITEMS = (ID, *(bound(k.lower(), k, *_SIZES.get(k, (None, None))) for k in "CMNYDTLBFG"))

_NEAR = ["", "0", "1", "t", "否", "1.5", "-0.00", "1e5", "NaN", "infinity", "a\0b"]
_NEAR += ["1985-03-17", "19850317", "2026-11-21T08:00:00", "2026-11-21T08:00:00Z"]
_NEAR += ["1986-05-04T02:30:00", "0001-01-01T00:00", "9223372036854775808", "机密"]
_near = st.sampled_from([*_NEAR, "9" * 39, "𠮷" * 7])
_text = st.none() | _near | st.text(max_size=8)
_bytes = st.none() | st.binary(max_size=4) | _near.map(str.encode)


@st.composite
def _pages(draw: Any) -> pa.RecordBatch:
    size = draw(st.integers(0, 4))
    columns: list[Any] = [pa.array(range(size), pa.int64())]
    for _ in ITEMS[1:]:
        if draw(st.integers(0, 5)):
            values = draw(st.lists(_text, min_size=size, max_size=size))
            columns.append(pa.array(values, pa.string()))
        else:
            raw = draw(st.lists(_bytes, min_size=size, max_size=size))
            columns.append(pa.array(raw, pa.binary()))
    return pa.RecordBatch.from_arrays(columns, names=[b.column for b in ITEMS])


@tries(60)
@given(_pages())
def test_what_quality_lets_out_the_wire_takes(page: pa.RecordBatch) -> None:
    """Whatever the source holds, the payload is valid and every row is counted."""
    checked = checker(ITEMS, {"secrecy_marker": "quarantine"}).check(page)
    assert checked.quality.read == page.num_rows
    assert checked.counts.upsert + checked.quality.quarantined == page.num_rows
    assert checked.counts.keep == checked.quality.quarantined
    items = [b.item for b in ITEMS]
    payload = io.BytesIO()
    with pyarrow.ipc.new_stream(payload, arrow.schema_of(items)) as writer:
        if checked.rows.num_rows:
            writer.write_batch(checked.rows)
    data = payload.getvalue()
    size = arrow.raw_size(data)
    batches = read_payload(data, items, mode="full", raw_size=size, rows=checked.counts)
    assert sum(b.num_rows for b in batches) == checked.rows.num_rows


def test_every_rule_has_a_severity_in_the_settings() -> None:
    """And the settings name no other."""
    assert set(Quality.model_fields) == set(reasons.RULES)


def test_every_rule_that_lint_allows_has_a_judge() -> None:
    """A document that loads does not fail in the worker."""
    for rule in lint_items.RULES:
        assert callable(judge(rule))


def test_lint_asks_for_what_the_wire_asks() -> None:
    """A document without errors makes a statement that the exchange takes."""
    assert frozenset(catalog.KEY_TYPES) == lint_items.KEY_TYPES
    assert (catalog.KEY_ITEMS, catalog.TEXT_LENGTH, catalog.PRECISION) == (
        lint_items.KEY_ITEMS,
        lint_items.TEXT_LENGTH,
        lint_items.PRECISION,
    )
    assert lint.WIRE_CODE.strip("^$") == grammar.RESOURCE.pattern.strip("^$")
    assert lint_items.ITEM_NAME.strip("^$") == grammar.ITEM_NAME.pattern.strip("^$")
    assert {str(kind) for kind in ItemType} == set("CMNYIDTLBFG")
