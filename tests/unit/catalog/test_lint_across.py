# SPDX-License-Identifier: Apache-2.0
"""Two documents agree on whether a column leaves, or lint says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.catalog.document import Resource
from agent.catalog.folder import load_folder
from agent.catalog.lint import errors
from agent.catalog.lint_across import lint_across
from tests.support.catalog_text import raw, resource

ROOT = Path(__file__).resolve().parents[3]
BASIS = {"level": "law", "title": "某法", "article": "第一条"}
OTHER = "101001/000002"


def document(table: Any, column: str, source: str = "rsj", **item: Any) -> Resource:
    """A second document: one key of its own, and one item of this column."""
    key = {"name": "own_id", "title": "编号", "type": "I", "key": True}
    base = {"name": "post", "title": "岗位", "type": "C", "length": 20}
    binding = {"source": source, "table": table, "columns": {"post": column}}
    made = raw(code=OTHER, binding=binding, items=[key, {**base, **item}])
    return Resource.model_validate(made)


KEPT: dict[str, Any] = {"share_type": "not_shared", "legal_basis": BASIS}


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("public.person", "zw"),
        ("PUBLIC.Person", "ZW"),
        ("person", "Zw"),
        (["db", "public", "person"], "zw"),
    ],
)
def test_a_column_that_another_document_withholds_is_named(
    table: Any, column: str
) -> None:
    """Both documents, the column and the article; however the names are written."""
    keeper = document(table, column, **KEPT)
    assert errors(keeper) == ()
    for documents in ([resource(), keeper], [keeper, resource()]):
        ((giver, finding),) = lint_across(documents)
        assert giver.code == "101001/000001"
        assert (finding.field, finding.article) == ("binding.columns.title", "辽9")
        assert finding.severity == "warning"
        for text in finding.text:
            assert all(word in text for word in ("101001/000001", OTHER, "zw"))


def test_a_document_that_is_not_shared_withholds_all_its_columns() -> None:
    """Its items need not say so one by one."""
    changes = {"share_type": "not_shared", "legal_basis": BASIS, "push": False}
    keeper = resource(code=OTHER, **changes)
    found = [(r.code, f.field) for r, f in lint_across([keeper, resource()])]
    assert found == [
        ("101001/000001", "binding.columns.person_id"),
        ("101001/000001", "binding.columns.title"),
    ]


@pytest.mark.parametrize(
    "other",
    [
        document("public.person", "zw"),
        document("public.person", "other", **KEPT),
        document("public.firm", "zw", **KEPT),
        document("archive.person", "zw", **KEPT),
        document("public.person", "zw", source="archive", **KEPT),
        resource(code=OTHER, binding=None, push=False),
    ],
)
def test_documents_that_agree_have_no_finding(other: Resource) -> None:
    """Shared by both, another column, another table, another source, no table."""
    assert lint_across([resource(), other]) == ()


@pytest.mark.parametrize("folder", ["config/catalog", "agent/demo/catalog"])
def test_the_documents_that_ship_agree(folder: str) -> None:
    """They are an example to others."""
    found = load_folder(ROOT / folder, sources=["rsj"])
    assert found
    assert lint_across(found) == ()
