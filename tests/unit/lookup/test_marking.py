# SPDX-License-Identifier: Apache-2.0
"""What is marked secret leaves neither as a value nor as a verdict (辽26)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import LookupFailed
from agent.wire.lookup import Reply
from tests.support.lookup import World
from tests.support.requester import item


@pytest.mark.parametrize(
    "asked",
    [
        {"fields": ("name",)},
        {"fields": ("address",)},
        {
            "op": "verify",
            "fields": ("name",),
            "items": (item("110101199003070011", name="张三"),),
        },
    ],
)
async def test_a_value_with_a_secrecy_marking_is_not_answered(
    tmp_path: Path, asked: dict[str, Any]
) -> None:
    """Signed error, reason source; masked or compared makes no difference."""
    world = World(tmp_path)
    (name,) = asked["fields"]
    world.sources.rows[0][name] = "张三 机密★10年"
    async with world.serving():
        found = await world.ask(**asked)
    assert isinstance(found, Reply)
    assert (found.status, found.reasons, found.results) == ("error", ("source",), ())
    told = world.told(LookupFailed)
    assert [e.code for e in told if isinstance(e, LookupFailed)] == ["secrecy-marker"]
    assert "机密" not in repr(told)
