# SPDX-License-Identifier: Apache-2.0
"""``fep version``."""

from __future__ import annotations

import platform
from typing import Annotated

import typer

from agent import VERSION
from agent.cli.common.context import asked
from agent.cli.common.language import say

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Versions of this program and, with --daemon, of the one that runs.",
        "显示本程序版本；加 --daemon 显示正在运行的版本。",
    ),
    epilog=say(
        "Examples:  fep version  |  fep version --daemon --json",
        "示例：  fep version  |  fep version --daemon --json",
    ),
)
def version(
    ctx: typer.Context,
    daemon: Annotated[
        bool,
        typer.Option("--daemon", help=say("Ask the daemon too.", "同时询问服务。")),
    ] = False,
) -> None:
    """Print versions."""
    ask = asked(ctx)
    body: dict[str, object] = {"agent": VERSION, "python": platform.python_version()}
    if daemon:
        body["daemon"] = ask.client().get("/v1/version")["version"]
    if ask.json:
        ask.print_json(body)
        return
    print(" ".join(f"{name} {value}" for name, value in body.items()))
