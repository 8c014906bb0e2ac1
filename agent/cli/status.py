# SPDX-License-Identifier: Apache-2.0
"""``fep status``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.resources import complete_resource

app = typer.Typer(add_completion=False)

EVERY_S = 2.0
"""Seconds between two looks of ``--watch``."""


@app.command(
    help=say(
        "What waits, last runs and receipts, and what needs you; exit 0 if healthy.",
        "显示等待、最近任务与回执、待处理事项；正常时退出码为 0。",
    ),
    epilog=say(
        "Examples:  fep status  |  fep status 101001/000001 --json  |"
        "  fep status --watch",
        "示例：  fep status  |  fep status 101001/000001 --json  |  fep status --watch",
    ),
)
def status(
    ctx: typer.Context,
    resource: Annotated[
        str | None,
        typer.Argument(
            autocompletion=complete_resource,
            help=say("Only this resource, in detail.", "仅显示该资源的详情。"),
        ),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch",
            help=say(
                "Look again every 2 seconds; JSON: one line each.",
                "每 2 秒刷新；JSON 则每次一行。",
            ),
        ),
    ] = False,
) -> None:
    """Show how everything stands."""
    ask = asked(ctx)
    client = ask.client()

    def look() -> dict[str, Any]:
        found: dict[str, Any] = client.get("/v1/status", {"resource": resource})
        return found

    if watch:
        _watch(ask, look)
        return
    body = look()
    if ask.json:
        ask.print_json(body)
    else:
        from agent.cli.common import render

        render.show_status(ask, body)
        if resource is not None:
            _show_one(ask, body["resources"][0])
    if not body["healthy"]:
        raise typer.Exit(1)


def _show_one(ask: Asked, body: dict[str, Any]) -> None:
    """The newest run of a resource, and every equation of its counts."""
    from agent.cli.common import accounts, render

    if body["run"] is not None:
        render.show_run(ask, body["run"])
    accounts.show(ask, body["resource"], body["accounts"])


def _watch(ask: Asked, look: Callable[[], dict[str, Any]]) -> None:
    if ask.json:
        while True:
            print(json.dumps(look(), ensure_ascii=False), flush=True)
            time.sleep(EVERY_S)
    from rich.live import Live

    from agent.cli.common import render

    out = render.console()
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(render.status(ask, look(), width=out.width), refresh=True)
            time.sleep(EVERY_S)
