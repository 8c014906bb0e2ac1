# SPDX-License-Identifier: Apache-2.0
"""Documents say what the code does."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from agent.audit.events import Event, Recorded
from agent.errors import all_errors
from tests.support.documents import ERRORS, errors_document

DOCS = Path(__file__).parents[2] / "docs"
EVENTS = [
    *(cls for cls in Event.__subclasses__() if cls is not Recorded),
    *Recorded.__subclasses__(),
]


def test_the_error_catalogue_is_the_code() -> None:
    """docs/errors.md is what the generator writes."""
    assert ERRORS.read_text("utf-8") == errors_document()


def test_error_codes_are_unique() -> None:
    """No two classes share a code."""
    codes = [cls.code for cls in all_errors()]
    assert len(codes) == len(set(codes))


@pytest.mark.parametrize("cls", all_errors(), ids=lambda c: c.code)
def test_every_error_speaks_both_languages(cls: type) -> None:
    """Title and remedy hold Chinese characters in `zh` and none in `en`."""
    for text in (cls.title, cls.remedy):  # type: ignore[attr-defined]
        assert text.en.isascii()
        assert any("\u4e00" <= c <= "\u9fff" for c in text.zh)


@pytest.mark.parametrize("cls", EVENTS, ids=lambda c: c.name)
def test_every_event_is_documented(cls: type[Event]) -> None:
    """docs/events.md has a row with its name, level and the fields of its log line.

    Audit records are marked; they may have further members (docs/audit.md).
    """
    told = [f"`{f.name}`" for f in fields(cls) if f.name not in cls.quiet]
    mark = " ◆" if issubclass(cls, Recorded) else ""
    row = " ".join(("|", f"`{cls.name}`{mark}", "|", cls.level, "|", *told, "|"))
    assert row in (DOCS / "events.md").read_text("utf-8")
