# SPDX-License-Identifier: Apache-2.0
"""The samples, the schema and the pages say what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agent.catalog.gate import offers
from agent.demo import consumers, documents
from agent.lookup.mask import KEEPS
from agent.lookup.policy.document import TREATMENTS, Grant
from agent.lookup.policy.judge import CHECKS, Active, Allowed, judge
from agent.lookup.policy.load import load
from agent.lookup.policy.schema import text as schema_text
from agent.lookup.policy.words import OPS, PURPOSES, STEPS
from agent.wire import lookup
from tests.support.grants import SUBJECT, TODAY, ask, reasons

ROOT = Path(__file__).resolve().parents[4]
SAMPLE = (ROOT / "config" / "policy.toml").read_text("utf-8")
PAGE = (ROOT / "docs" / "policy.md").read_text("utf-8")


def test_the_schema_for_editors_is_the_models() -> None:
    """`python -m agent.lookup.policy.schema > config/schema/policy.json` makes it."""
    assert (ROOT / "config/schema/policy.json").read_text("utf-8") == schema_text()


def test_the_sample_policy_refuses_everything() -> None:
    """Installed as it is, it gives nothing away."""
    assert load(SAMPLE, offers(documents.resources())).rules == ()


def test_the_sample_policy_works_once_its_marks_are_taken_away() -> None:
    """What stands behind # without a blank is a good grant with every key."""
    text = re.sub(r"^#(?=[a-z\[])", "", SAMPLE, flags=re.MULTILINE)
    (rule,) = load(text, offers(documents.resources())).rules
    assert rule.id == "ybj-person-get"
    for name in Grant.model_fields:
        assert re.search(rf"^#(\[grants\.)?{name}\b", SAMPLE, re.MULTILINE), name


@pytest.mark.parametrize("text", [SAMPLE, PAGE])
def test_every_treatment_and_purpose_is_explained(text: str) -> None:
    """In the sample and on the page."""
    words = [*(t.removeprefix("mask:") for t in TREATMENTS), *lookup.PURPOSES]
    assert [word for word in [*words, *lookup.OPS] if word not in text] == []


def test_the_page_names_every_key_of_a_grant_and_what_masks_keep() -> None:
    """docs/policy.md explains them in both languages."""
    assert [n for n in Grant.model_fields if f"`{n}`" not in PAGE] == []
    kept = {f"| `mask:{k}` | {t.en} · {t.zh} |" for k, t in KEEPS.items()}
    assert [row for row in sorted(kept) if row not in PAGE] == []


def test_everything_that_can_happen_has_words() -> None:
    """Steps, operations and purposes, in two languages."""
    assert set(STEPS) == set(CHECKS)
    assert set(OPS) == set(lookup.OPS)
    assert set(PURPOSES) == set(lookup.PURPOSES)


# --- the sample department --------------------------------------------------------


def demo(**changes: Any) -> Any:
    """What the sample department's policy says to a request."""
    offered = offers(documents.resources())
    policy = load(consumers.policy_text(), offered)
    return judge(Active(1, policy), ask(**changes), offered, today=TODAY)


def test_the_medical_bureau_gets_masked_values() -> None:
    """云溪市医疗保障局 for a case of its own."""
    found = demo(fields=("name", "citizen_id", "birth_date", "address", "status"))
    assert isinstance(found, Allowed)
    assert found.rule == "ybj-person-get"
    assert [t.mask for t in found.fields.values()][-2:] == ["address", None]


def test_the_medical_bureau_compares() -> None:
    """Name and status, item by item; nothing is given."""
    found = demo(op="verify", fields=("name",), claims={"name": "张三"})
    assert isinstance(found, Allowed)
    assert isinstance(demo(op="exists", fields=()), Allowed)


@pytest.mark.parametrize("op", ["get", "verify"])
def test_the_housing_fund_is_refused_for_its_purpose(op: str) -> None:
    """云溪市住房公积金中心 may check its data, and for nothing else."""
    asks: dict[str, Any] = {
        "iss": f"{consumers.HOUSING}/fep1",
        "op": op,
        "claims": {"name": "张三"} if op == "verify" else None,
    }
    assert reasons(demo(**asks, purpose="work_reference")) == ("purpose",)
    if op == "verify":
        good = {"purpose": "data_verification", "basis": "GJJ-JH-2026Q3"}
        assert isinstance(demo(**asks, **good), Allowed)


@pytest.mark.parametrize("name", ["mobile", "person_id"])
def test_the_demo_gives_nothing_else(name: str) -> None:
    """Not what is not shared, not what no grant names."""
    assert reasons(demo(fields=(name,))) == ("field",)
    assert reasons(demo(keys={name: SUBJECT})) == ("key",)
