# SPDX-License-Identifier: Apache-2.0
"""``fep pause``."""

from __future__ import annotations

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.cli.common.resources import OneOrAll

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Stop reading and sending one resource, or all; kept over restarts.",
        "暂停一个或全部资源的读取与发送；重启后仍有效。",
    ),
    epilog=say(
        "Examples:  fep pause 101001/000001  |  fep pause",
        "示例：  fep pause 101001/000001  |  fep pause",
    ),
)
def pause(
    ctx: typer.Context,
    resource: OneOrAll = None,
) -> None:
    """Pause one resource, or all."""
    ask = asked(ctx)
    body = ask.client().post("/v1/pause", {"resource": resource})
    if ask.json:
        ask.print_json(body)
        return
    print(
        ask.say(
            f"Paused: {resource or 'all resources'}.",
            f"已暂停：{resource or '全部资源'}。",
        )
    )
