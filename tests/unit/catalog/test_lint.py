# SPDX-License-Identifier: Apache-2.0
"""Lint names field, article and severity."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.catalog.document import Resource
from agent.catalog.folder import load_folder
from agent.catalog.lint import errors, lint
from tests.support.catalog_text import raw, resource, with_item

ROOT = Path(__file__).resolve().parents[3]
BASIS = {"level": "law", "title": "某法", "article": "第一条"}


def found(document: Resource) -> set[tuple[str, str, str]]:
    return {(f.field, f.article, f.severity) for f in lint(document)}


def test_a_complete_document_has_no_findings() -> None:
    """Neither errors nor warnings."""
    assert lint(resource()) == ()


@pytest.mark.parametrize(
    ("field", "article"),
    [
        ("resource_class_path", "辽8"),
        ("format_category", "辽8"),
        ("abstract", "指南"),
        ("provider_name", "辽8"),
        ("provider_code", "指南"),
        ("responsible_party", "皖(三)"),
        ("share_scope", "辽8"),
        ("share_method", "辽8"),
        ("open_to_public", "辽8"),
        ("update_cycle", "辽8"),
        ("update_deadline", "辽8"),
        ("published_on", "指南"),
        ("authoritative_source", "辽4"),
        ("secrecy_review", "辽25"),
    ],
)
def test_each_missing_attribute_is_named_with_its_article(
    field: str, article: str
) -> None:
    """Removed one by one, lint names exactly the one that is gone."""
    assert found(resource(**{field: None})) == {(field, article, "warning")}


@pytest.mark.parametrize("item", ["person_id", "nobody"])
def test_only_texts_that_are_no_keys_are_repaired(item: str) -> None:
    """An encoding of a key, or of no item, is named."""
    binding = raw()["binding"]
    assert (
        found(resource(binding={**binding, "encodings": {"title": "gb18030"}})) == set()
    )
    wrong = resource(binding={**binding, "encodings": {item: "gb18030"}})
    assert found(wrong) == {(f"binding.encodings.{item}", "辽10", "error")}


@pytest.mark.parametrize(
    ("changes", "finding"),
    [
        ({"share_condition": None}, ("share_condition", "辽9", "error")),
        ({"share_condition": "  "}, ("share_condition", "辽9", "error")),
        ({"share_type": "not_shared"}, ("legal_basis", "辽9", "error")),
        ({"share_type": "not_shared"}, ("push", "辽9", "error")),
        (
            {"share_type": "not_shared", "push": None, "lookup": True},
            ("lookup", "辽9", "error"),
        ),
        (
            {"secrecy_level": "secret", "push": None, "lookup": True},
            ("secrecy_level", "辽26", "error"),
        ),
        (
            {"binding": None, "push": None, "lookup": True},
            ("binding", "辽10", "error"),
        ),
        ({"share_type": "unconditional"}, ("share_basis_kind", "辽9", "warning")),
        ({"secrecy_level": "secret"}, ("secrecy_level", "辽26", "error")),
        ({"network_zone": "inner"}, ("network_zone", "辽12", "error")),
        ({"binding": None}, ("binding", "辽10", "error")),
        ({"open_to_public": True}, ("open_condition", "辽8", "warning")),
        (
            {"share_type": "not_shared", "open_to_public": True},
            ("open_to_public", "辽8", "error"),
        ),
        ({"share_method": "file"}, ("share_method", "指南", "warning")),
        ({"code": "307013-000001"}, ("code", "指南", "error")),
        ({"code": "407013/1"}, ("code", "指南", "warning")),
        ({"code": "30701/1"}, ("code", "指南", "warning")),
        ({"provider_code": "11990100MB00000181"}, ("provider_code", "指南", "warning")),
        ({"name": " "}, ("name", "指南", "error")),
        ({"items": []}, ("items", "指南", "error")),
        (
            {"binding": {"source": "a", "table": "t", "columns": {"no": "x"}}},
            ("binding.columns.no", "辽10", "error"),
        ),
        (
            {"binding": {"source": "a", "table": [""]}},
            ("binding.table", "辽10", "error"),
        ),
        (
            {"binding": {"source": "a", "table": []}},
            ("binding.table", "辽10", "error"),
        ),
        (
            {"binding": {"source": "a", "table": "t", "number": "title"}},
            ("binding.number", "辽10", "error"),
        ),
    ],
)
def test_each_fault_of_a_document_is_found(
    changes: dict[str, Any], finding: tuple[str, str, str]
) -> None:
    """One change, one named fault."""
    assert finding in found(resource(**changes))


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("人员基本信息", False),
        ("人员基本信息（试行）", False),
        ("2024年人员信息", False),
        ("人员基本信息1", True),
        ("人员基本信息２", True),
        ("人员基本信息 ", True),
        (" 人员基本信息", True),
        ("人员基本信息。", True),
        ("人员基本信息-", True),
        ("人员基本信息：", True),
    ],
)
def test_typical_filing_errors_of_names(name: str, bad: bool) -> None:
    """A number, a blank or punctuation at the end; of resource and item alike."""
    expected = {("name", "指南", "warning")} if bad else set()
    assert found(resource(name=name)) == expected
    expected = {("items.extra.title", "指南", "warning")} if bad else set()
    assert found(with_item(title=name)) == expected


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"name": "Name"}, "items.Name.name"),
        ({"name": "姓名"}, "items.姓名.name"),
        ({"name": "a" * 64}, f"items.{'a' * 64}.name"),
        ({"name": "PERSON_ID"}, "items.person_id"),
        ({"length": None}, "items.extra.length"),
        ({"length": 0}, "items.extra.length"),
        ({"length": 4001}, "items.extra.length"),
        ({"scale": 2}, "items.extra.length"),
        ({"type": "I"}, "items.extra.length"),
        ({"type": "M", "length": 5}, "items.extra.length"),
        ({"type": "N", "length": None}, "items.extra.length"),
        ({"type": "N", "length": 39, "scale": 0}, "items.extra.length"),
        ({"type": "N", "length": 5}, "items.extra.scale"),
        ({"type": "N", "length": 5, "scale": 6}, "items.extra.scale"),
        ({"type": "L", "length": None, "key": True}, "items.extra.key"),
        ({"type": "M", "length": None, "key": True}, "items.extra.key"),
        ({"rules": ["code:planet"]}, "items.extra.rules"),
        ({"rules": ["uscc"], "type": "I", "length": None}, "items.extra.rules"),
        ({"share_type": "unconditional"}, "items.extra.share_type"),
        ({"share_type": "not_shared"}, "items.extra.legal_basis"),
        (
            {"share_type": "not_shared", "legal_basis": BASIS, "open_to_public": True},
            "items.extra.open_to_public",
        ),
        (
            {"share_type": "not_shared", "legal_basis": BASIS, "key": True},
            "items.extra.share_type",
        ),
    ],
)
def test_each_fault_of_an_item_is_an_error(item: dict[str, Any], field: str) -> None:
    """Named by the item, not by its number."""
    assert field in {f.field for f in errors(with_item(**item))}


def test_an_item_without_a_chinese_name_is_a_warning() -> None:
    """The catalog is for people."""
    assert found(with_item(title="")) == {("items.extra.title", "指南", "warning")}


def test_an_item_may_be_stricter_than_its_resource() -> None:
    """With its own condition or basis."""
    document = raw(
        share_type="unconditional", share_basis_kind="basic", share_condition=None
    )
    items = document["items"]
    for stricter in (
        {"share_type": "conditional", "share_condition": "须说明事项"},
        {"share_type": "not_shared", "legal_basis": BASIS},
    ):
        item = {"name": "x", "title": "附加", "type": "D", **stricter}
        made = Resource.model_validate({**document, "items": [*items, item]})
        assert errors(made) == ()
    item = {"name": "x", "type": "D", "share_type": "conditional"}
    made = Resource.model_validate({**document, "items": [*items, item]})
    assert [f.field for f in errors(made)] == ["items.x.share_condition"]


def test_a_resource_to_push_has_one_to_eight_keys() -> None:
    """None, or nine, is an error."""
    items = [{"name": f"k{'abcdefghi'[i]}", "type": "I", "key": True} for i in range(9)]
    assert "items" in {f.field for f in errors(resource(items=items))}
    assert errors(resource(items=items[:8], binding=_bare())) == ()
    unkeyed = [{**i, "key": False} for i in items]
    assert "items" in {f.field for f in errors(resource(items=unkeyed))}
    assert "items" not in {
        f.field for f in errors(resource(items=unkeyed, push=False, binding=_bare()))
    }


def _bare() -> dict[str, Any]:
    return {"source": "rsj", "table": "person"}


def test_errors_come_first() -> None:
    """What stops the document stands above what only an inspection would find."""
    severities = [
        f.severity for f in lint(resource(abstract=None, share_condition=None))
    ]
    assert severities == sorted(severities)
    assert set(severities) == {"error", "warning"}


def test_every_finding_speaks_both_languages() -> None:
    """English and Chinese."""
    document = resource(
        share_type="not_shared", items=[], abstract=None, code="x", binding=None
    )
    for finding in lint(document):
        assert finding.text.en.isascii()
        assert not finding.text.zh.isascii()


def test_the_samples_have_no_findings() -> None:
    """config/catalog, which is what the demonstration runs on, is complete."""
    samples = load_folder(ROOT / "config/catalog", sources=["rsj"])
    assert len(samples) == 5
    assert [(r.code, lint(r)) for r in samples if lint(r)] == []
