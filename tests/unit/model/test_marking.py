# SPDX-License-Identifier: Apache-2.0
"""A text with a secrecy marking is known as one, wherever it is read."""

from __future__ import annotations

import pyarrow as pa
import pytest

from agent.model.marking import marked
from agent.pipeline.quality import rules

MARKED = ("机密★10年", "附件（绝密 ★长期）", "秘密\u3000★5年", "机密★")
FREE = (None, "", "机密", "★", "★机密", "密★", "机密\n★", "机密☆", "五星★★★★★")


@pytest.mark.parametrize("text", MARKED)
def test_a_marking_is_found(text: str) -> None:
    """With blanks before the star, inside other text, with any term."""
    assert marked(text)


@pytest.mark.parametrize("text", FREE)
def test_other_texts_are_free(text: str | None) -> None:
    """The word alone, the star alone, another star, NULL."""
    assert not marked(text)


def test_one_text_and_a_column_are_judged_alike() -> None:
    """Push and lookup find the same."""
    found = rules.marked(pa.array([*MARKED, *FREE], pa.string()))
    assert found is not None
    assert list(found) == [*[True] * len(MARKED), *[False] * len(FREE)]
