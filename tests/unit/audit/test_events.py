# SPDX-License-Identifier: Apache-2.0
"""Events that are records: documented, plain, and quiet in the log line."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from agent.audit import events, verify_log
from agent.audit.events import AdminAction, Event, LookupDecided, Recorded

PAGE = (Path(__file__).parents[3] / "docs" / "audit.md").read_text("utf-8")
RECORDED = Recorded.__subclasses__()


@pytest.mark.parametrize("kind", RECORDED, ids=lambda kind: kind.name)
def test_every_record_is_documented_with_its_members(kind: type[Recorded]) -> None:
    """docs/audit.md has a row for the kind that names each member."""
    row = re.search(rf"^\| `{re.escape(kind.name)}` \|(.*)$", PAGE, re.MULTILINE)
    assert row is not None
    assert re.findall(r"`(\w+)`", row[1]) == [f.name for f in fields(kind)]


@pytest.mark.parametrize("code", verify_log.FINDINGS)
def test_every_finding_of_the_verifier_is_documented(code: str) -> None:
    """docs/audit.md names its code."""
    assert f"`{code}`" in PAGE


@pytest.mark.parametrize("kind", RECORDED, ids=lambda kind: kind.name)
def test_a_record_has_plain_members(kind: type[Recorded]) -> None:
    """Text, whole numbers, lists and maps of them: the same in every language."""
    plain = {str, int, type(None), tuple, "Mapping"}
    for name, hint in get_type_hints(kind).items():
        if name in ("name", "level", "quiet"):
            continue
        parts = get_args(hint) or (hint,)
        assert not {float, bytes, object} & set(parts), (name, plain)


def test_what_is_quiet_stands_in_the_record_only() -> None:
    """Pseudonyms and commitments are not in the journal."""
    values = dict.fromkeys((f.name for f in fields(LookupDecided)), "x")
    event = LookupDecided(**values)  # type: ignore[arg-type]
    assert set(event.members()) - set(event.told()) == LookupDecided.quiet
    assert {"subjects", "basis", "matter", "officer"} <= LookupDecided.quiet


def test_other_events_tell_all_that_they_have() -> None:
    """In the order of their fields."""
    assert AdminAction(1, "pause", None).told() == {
        "uid": 1,
        "action": "pause",
        "resource": None,
    }


def test_names_are_unique() -> None:
    """One name, one event."""
    found = [
        cls.name
        for cls in vars(events).values()
        if isinstance(cls, type) and issubclass(cls, Event) and cls.name != "event"
    ]
    assert len(found) == len(set(found))
