# SPDX-License-Identifier: Apache-2.0
"""What the city's TUF repository said last, in a line for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.text import Text

from agent.cli.common.context import Asked

Body = Mapping[str, Any]


def lines(
    ask: Asked, body: Body, *, moment: Callable[[str | None], str]
) -> Iterator[Text]:
    """Versions, when they were confirmed, and how long they hold; nothing if unused."""
    if not body["enabled"]:
        return
    text = Text(ask.say("city's repository: ", "市级仓库："))
    if body["verified_at"] is None:
        yield text.append(ask.say("nothing verified yet", "尚未验证"), "yellow")
        return
    versions = ", ".join(f"{role} {n}" for role, n in sorted(body["versions"].items()))
    at, ends = moment(body["verified_at"]), moment(body["expires"])
    yield text.append(
        ask.say(
            f"{versions}; confirmed {at}, holds until {ends}",
            f"{versions}；{at} 确认，有效至 {ends}",
        )
    )
