# SPDX-License-Identifier: Apache-2.0
"""What a lookup promises when everything goes well."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.wire.lookup import Reply
from tests.support.lookup import AS_OF, World


@pytest.fixture
def world(tmp_path: Path) -> World:
    """The sample department and one that may ask."""
    return World(tmp_path)


async def test_get_gives_the_fields_masked_as_the_grant_says(world: World):
    """Exactly the fields asked for; what is masked is named."""
    async with world.serving():
        found = await world.ask(fields=("name", "address"))
    assert isinstance(found, Reply)
    assert found.status == "ok"
    (result,) = found.results
    assert result.data == {"name": "张三", "address": "云溪市东城区***"}
    assert (result.status, result.as_of, found.masked) == ("ok", AS_OF, ("address",))
    assert (found.policy.rev, found.policy.rule) == (1, "get")
