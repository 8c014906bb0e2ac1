# SPDX-License-Identifier: Apache-2.0
"""A rejection in words: what the exchange has found, and what a person does now."""

from __future__ import annotations

import pytest

from agent.errors import BatchRejected
from agent.local.rejections import REJECTIONS, explained
from agent.wire.problem import REJECTED


def test_every_code_that_may_be_signed_is_explained() -> None:
    """In both languages, and with a command."""
    assert set(REJECTIONS) == REJECTED
    for found in REJECTIONS.values():
        assert "fep " in found.remedy.en
        assert "fep " in found.remedy.zh
        assert found.title.en != found.title.zh


def test_a_rejection_is_known_by_the_begin_of_its_detail() -> None:
    """As the stream's status has it."""
    found = explained(BatchRejected.code, "mass-delete: batch 3/14")
    assert found is REJECTIONS["mass-delete"]


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        ("batch-rejected", "something-new: batch 1/1"),
        ("batch-rejected", ""),
        ("mass-delete", "mass-delete: 5 keys"),
    ],
)
def test_what_is_not_known_keeps_the_words_of_its_class(code: str, detail: str) -> None:
    """A code of tomorrow's exchange, or a trouble that is no rejection."""
    assert explained(code, detail) is None
