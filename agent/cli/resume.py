# SPDX-License-Identifier: Apache-2.0
"""``fep resume``."""

from __future__ import annotations

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.cli.common.resources import OneOrAll

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Go on with one resource, or all: what was paused, and what waits because its"
        " worker died three times.",
        "恢复一个或全部资源：已暂停的，以及因抽取进程连续三次异常而等待的。",
    ),
    epilog=say(
        "Examples:  fep resume 101001/000001  |  fep resume",
        "示例：  fep resume 101001/000001  |  fep resume",
    ),
)
def resume(
    ctx: typer.Context,
    resource: OneOrAll = None,
) -> None:
    """Go on with one resource, or all."""
    ask = asked(ctx)
    body = ask.client().post("/v1/resume", {"resource": resource})
    if ask.json:
        ask.print_json(body)
        return
    print(
        ask.say(
            f"Resumed: {resource or 'all resources'}.",
            f"已恢复：{resource or '全部资源'}。",
        )
    )
