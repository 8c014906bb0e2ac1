# SPDX-License-Identifier: Apache-2.0
"""Drafts of resource documents from tables."""

from __future__ import annotations

import tomllib
from typing import Any

import hypothesis.strategies as st
from hypothesis import given

from agent.catalog.document import Resource
from agent.catalog.draft import draft
from agent.catalog.gate import closed
from agent.catalog.lint import errors
from connectors.contract import FoundColumn, FoundTable
from tests.support.tries import tries


def column(name: str, kind: str = "C", **more: Any) -> FoundColumn:
    base: dict[str, Any] = {"native": "text", "length": 20 if kind == "C" else None}
    base |= {"scale": None, "nullable": True, "key": False, "comment": None}
    return FoundColumn(name=name, type=kind, **{**base, **more})


def drafted(*columns: FoundColumn, comment: str | None = "人员") -> Resource:
    table = FoundTable(("public", "person"), comment, 5, columns)
    return Resource.model_validate(tomllib.loads(draft(table, source="rsj")))


def test_a_draft_is_a_document_that_does_not_leave() -> None:
    """A person has to give code, conditions and `push = true`."""
    made = drafted(
        column("person_id", "I", key=True, nullable=False),
        column("姓名", comment="姓名"),
        column("PAY", "N", length=12, scale=2),
    )
    assert made.push is False
    assert closed(made) == "push is not true"
    assert "share_condition" in {f.field for f in errors(made)}
    assert made.binding is not None
    assert (made.binding.source, made.binding.table) == ("rsj", ("public", "person"))


def test_every_column_keeps_its_source_name_in_the_binding() -> None:
    """Whatever the item is called as it travels."""
    made = drafted(column("id", "I", key=True), column("姓名"), column("PAY", "I"))
    assert [made.column(item) for item in made.items] == ["id", "姓名", "PAY"]
    assert {f.field for f in errors(made) if f.field.endswith(".name")} == set()


def test_a_database_cannot_write_into_the_draft() -> None:
    """Line ends in the name of a table or a type stay inside their comment."""
    evil = 'x\nnetwork_zone = "inner"\r\nlead_department = "x"'
    columns = (column("id", "I", key=True, native='int\nshare_type = "unconditional"'),)
    table = FoundTable(("public", evil), None, 5, columns)
    made = Resource.model_validate(tomllib.loads(draft(table, source="rsj")))
    assert (made.network_zone, made.lead_department) == ("outer", "")
    assert made.items[0].share_type is None
    assert made.binding is not None
    assert made.binding.table == ("public", evil)


_names = st.text(min_size=1, max_size=8).filter(lambda name: "\0" not in name)


@tries(60)
@given(st.lists(_names, min_size=1, max_size=5, unique=True), st.none() | st.text())
def test_any_names_make_a_document(names: list[str], comment: str | None) -> None:
    """Quotes, backslashes, blanks, capitals: TOML that means the same columns."""
    made = drafted(*(column(name, "D") for name in names), comment=comment)
    assert [made.column(item) for item in made.items] == names
    assert len({item.name.lower() for item in made.items}) == len(names)
