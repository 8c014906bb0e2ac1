# SPDX-License-Identifier: Apache-2.0
"""The gate: nothing leaves that must not."""

from __future__ import annotations

import dataclasses
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import find, given

from agent.catalog.document import Resource
from agent.catalog.gate import Offer, Outgoing, closed, leave, offer, offers, refused
from agent.errors import GateClosed
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem
from tests.support.catalog_text import raw, resource
from tests.support.tries import tries

BASIS = {"level": "law", "title": "某法", "article": "第一条"}


def test_an_open_gate_gives_what_travels() -> None:
    """Items in order with their columns; key and share type as on the wire."""
    out = leave(resource())
    assert (out.resource, out.version) == ("101001/000001", 1)
    assert (out.source, out.table) == ("rsj", ("public", "person"))
    assert out.items == (
        BoundItem(Item("person_id", ItemType.I, None, None, True, "2"), "person_id"),
        BoundItem(Item("title", ItemType.C, 20, None, False, "2"), "zw"),
    )
    assert out.statement == tuple(bound.item for bound in out.items)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"push": False}, "push is not true"),
        ({"push": None}, "push is not true"),
        ({"share_type": "not_shared", "legal_basis": BASIS}, "not_shared"),
        ({"secrecy_level": "confidential"}, "confidential"),
        ({"secrecy_level": "top_secret"}, "top_secret"),
        ({"network_zone": "inner"}, "network_zone"),
        ({"binding": None}, r"no \[binding\]"),
        ({"share_condition": None}, "states its conditions"),
    ],
)
def test_a_shut_gate_says_why(changes: dict[str, Any], why: str) -> None:
    """One reason is enough."""
    document = resource(**changes)
    assert closed(document) is not None
    with pytest.raises(GateClosed, match=why):
        leave(document)


def test_an_item_that_is_not_shared_stays() -> None:
    """Neither its name nor its column is told to anyone."""
    items = [
        *raw()["items"],
        {
            "name": "secret",
            "title": "保留",
            "type": "D",
            "share_type": "not_shared",
            "legal_basis": BASIS,
        },
    ]
    out = leave(resource(items=items))
    assert [bound.item.name for bound in out.items] == ["person_id", "title"]
    assert "secret" not in repr(out)


@pytest.mark.parametrize(
    "columns",
    [
        {"title": "id_card"},
        {"title": "ID_Card"},
        {"title": "sfz", "secret": "sfz"},
        {"title": "secret"},
        {"person_id": "secret"},
    ],
)
def test_a_withheld_column_does_not_leave_under_another_name(
    columns: dict[str, str],
) -> None:
    """Whatever the binding says, its values stay."""
    items = [
        *raw()["items"],
        {
            "name": "secret" if "id_card" not in str(columns).lower() else "id_card",
            "title": "保留",
            "type": "C",
            "length": 18,
            "share_type": "not_shared",
            "legal_basis": BASIS,
        },
    ]
    binding = {"source": "rsj", "table": "person", "columns": columns}
    with pytest.raises(GateClosed, match="not shared"):
        leave(resource(items=items, binding=binding))


def test_nobody_else_makes_an_outgoing() -> None:
    """Not by hand, not by copying one with other values."""
    out = leave(resource())
    fields = {f.name: getattr(out, f.name) for f in dataclasses.fields(out)}
    for permit in (None, True, object()):
        with pytest.raises(GateClosed):
            Outgoing(**fields, permit=permit)
    with pytest.raises((GateClosed, ValueError)):
        dataclasses.replace(out, table=("hr", "salaries"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        out.table = ("hr", "salaries")  # type: ignore[misc]


@pytest.mark.parametrize("way", [None, False])
def test_nothing_is_answered_before_a_person_writes_true(way: bool | None) -> None:
    """push = true does not open a resource for lookups, nor the other way round."""
    pushed = resource(lookup=way)
    assert refused(pushed) == "lookup is not true"
    with pytest.raises(GateClosed, match="lookup is not true"):
        offer(pushed)
    asked = resource(lookup=True, push=False)
    assert closed(asked) == "push is not true"
    assert offer(asked).resource == "101001/000001"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share_type": "not_shared", "legal_basis": BASIS}, "not_shared"),
        ({"secrecy_level": "secret"}, "secret"),
        ({"network_zone": "inner"}, "network_zone"),
        ({"binding": None}, r"no \[binding\]"),
        ({"share_condition": None}, "states its conditions"),
    ],
)
def test_lookup_alone_does_not_open_the_gate(changes: dict[str, Any], why: str) -> None:
    """Everything else that keeps it shut for a push keeps it shut for lookups."""
    document = resource(lookup=True, push=None, **changes)
    with pytest.raises(GateClosed, match=why):
        offer(document)
    assert offers([document]) == {}


def test_an_offer_holds_the_shared_items_only() -> None:
    """With their columns; of the others it knows the names, for people."""
    secret = {
        "name": "secret",
        "title": "保留",
        "type": "D",
        "share_type": "not_shared",
        "legal_basis": BASIS,
    }
    found = offer(resource(lookup=True, items=[*raw()["items"], secret]))
    assert [bound.item.name for bound in found.items] == ["person_id", "title"]
    assert found.by_name["title"].column == "zw"
    assert found.withheld == ("secret",)
    assert (found.source, found.table) == ("rsj", ("public", "person"))
    assert list(offers([resource(lookup=True), resource(code="1/1")])) == [
        "101001/000001"
    ]


def test_nobody_else_makes_an_offer() -> None:
    """Not by hand, not by copying one with other values."""
    made = offer(resource(lookup=True))
    fields = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    for permit in (None, True, object()):
        with pytest.raises(GateClosed):
            Offer(**fields, permit=permit)
    with pytest.raises((GateClosed, ValueError)):
        dataclasses.replace(made, table=("hr", "salaries"))


def _mostly(good: object, *bad: object) -> Any:
    """The good value in most documents, so that the gate opens often enough."""
    return st.sampled_from([good] * (3 * len(bad)) + list(bad))


SHARES = ("unconditional", "conditional", "not_shared")
_items: Any = st.fixed_dictionaries(
    {
        "name": _mostly("a", "b", "A", "姓名") | st.sampled_from("bcdefgh"),
        "type": _mostly("I", "D", "C", "L", "N"),
        "length": _mostly(None, 0, 5),
        "key": _mostly(True, False),
        "share_type": _mostly(None, *SHARES),
        "share_condition": _mostly("须说明", ""),
        "legal_basis": _mostly(BASIS, None),
        "rules": _mostly([], ["uscc"], ["no such"]),
    }
)
_documents: Any = st.fixed_dictionaries(
    {
        "code": _mostly("101001/000001", "bad code"),
        "name": st.just("人员"),
        "version": st.integers(1, 9),
        "push": _mostly(True, False),
        "lookup": _mostly(True, False),
        "share_type": st.sampled_from(SHARES),
        "share_condition": _mostly("须说明", ""),
        "legal_basis": _mostly(BASIS, None),
        "secrecy_level": _mostly(
            "unclassified", "confidential", "secret", "top_secret"
        ),
        "network_zone": _mostly("outer", "inner"),
        "binding": _mostly({"source": "rsj", "table": "person"}, None),
        "items": st.lists(_items, max_size=4),
    }
)


@tries(300)
@given(_documents)
def test_for_any_document_nothing_forbidden_passes(document: dict[str, Any]) -> None:
    """Not shared (whole or item), classified, or without `push = true`: it stays."""
    made = Resource.model_validate(document)
    try:
        out = leave(made)
    except GateClosed:
        assert closed(made) is not None
        return
    assert document["push"] is True
    assert document["share_type"] != "not_shared"
    assert document["secrecy_level"] == "unclassified"
    assert document["network_zone"] == "outer"
    forbidden = {
        item["name"] for item in document["items"] if item["share_type"] == "not_shared"
    }
    names = [bound.item.name for bound in out.items]
    assert forbidden.isdisjoint(names)
    assert len(set(names)) == len(names)
    assert {bound.item.share for bound in out.items} <= {"1", "2"}
    if document["share_type"] == "conditional":
        assert {bound.item.share for bound in out.items} == {"2"}
    assert any(bound.item.key for bound in out.items)


@tries(300)
@given(_documents)
def test_for_any_document_nothing_forbidden_is_offered(
    document: dict[str, Any],
) -> None:
    """Not shared (whole or item), classified, or without `lookup = true`: no answer."""
    made = Resource.model_validate(document)
    try:
        out = offer(made)
    except GateClosed:
        assert refused(made) is not None
        return
    assert document["lookup"] is True
    assert document["share_type"] != "not_shared"
    assert document["secrecy_level"] == "unclassified"
    assert document["network_zone"] == "outer"
    names = {bound.item.name for bound in out.items}
    kept = {i["name"] for i in document["items"] if i["share_type"] == "not_shared"}
    assert kept.isdisjoint(names)
    assert kept == set(out.withheld)


def test_the_property_meets_open_gates() -> None:
    """The documents above are not all refused, so the property means something."""
    document = find(
        _documents, lambda tables: closed(Resource.model_validate(tables)) is None
    )
    assert leave(Resource.model_validate(document)).items
    document = find(
        _documents, lambda tables: refused(Resource.model_validate(tables)) is None
    )
    assert offer(Resource.model_validate(document)).items
