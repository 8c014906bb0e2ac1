# SPDX-License-Identifier: Apache-2.0
"""Catalog statements."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import MalformedMessage
from agent.model.item import Item, ItemType
from agent.wire import catalog
from tests.support import vectors
from tests.support.tries import tries

NODE = "11990100000000019F/front-1"


def _item(name: str, kind: str, *, key: bool = False) -> Item:
    length, scale = {"C": (10, None), "N": (5, 2)}.get(kind, (None, None))
    return Item(name, ItemType(kind), length, scale, key, "1")


def test_every_type_travels():
    """All letters, each with the measures it has."""
    items = tuple(_item(f"i_{k.lower()}", k, key=k == "C") for k in "CMNYIDTLBFG")
    statement = catalog.Statement(NODE, "a/b", 3, items)
    assert catalog.parse(statement.payload()) == statement


@pytest.mark.parametrize("kind", list("CINYDT"))
def test_key_types(kind: str):
    """C, I, N, Y, D and T may be keys."""
    catalog.check_items([_item("k", kind, key=True)])


@pytest.mark.parametrize("kind", list("MLBFG"))
def test_other_types_are_no_keys(kind: str):
    """Long text, logic, floats and bytes may not."""
    with pytest.raises(MalformedMessage, match=f"no type {kind}"):
        catalog.check_items([_item("k", kind, key=True)])


def test_unshared_item_cannot_be_formatted():
    """Share 3 is refused on this side too."""
    item = Item("k", ItemType.I, None, None, True, "3")  # type: ignore[arg-type]
    with pytest.raises(MalformedMessage, match="share"):
        catalog.Statement(NODE, "a/b", 1, (item,)).payload()


@tries(50)
@given(st.integers(-1, 40), st.integers(-1, 40))
def test_number_measures(length: int, scale: int):
    """Precision 1-38, scale from 0 to it, nothing else."""
    item = Item("k", ItemType.N, length, scale, True, "1")
    statement = catalog.Statement(NODE, "a/b", 1, (item,))
    if 1 <= length <= 38 and 0 <= scale <= length:
        assert catalog.parse(statement.payload()) == statement
    else:
        with pytest.raises(MalformedMessage):
            statement.payload()


def test_pinned_statement_keeps_column_order():
    """Items stand in the order in which they travel."""
    statement = catalog.parse(vectors.message("catalog")["payload"].encode())
    assert [item.name for item in statement.items][:3] == [
        "id_number",
        "name",
        "amount",
    ]
