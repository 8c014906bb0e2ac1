# SPDX-License-Identifier: Apache-2.0
"""``fep run``."""

from __future__ import annotations

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Run the agent in the foreground, as systemd does; SIGTERM drains it, a"
        " second one hurries.",
        "在前台运行代理（systemd 亦如此）；SIGTERM 平稳停止，再次发送则加速停止。",
    ),
    epilog=say(
        "Examples:  fep run  |  fep --config /etc/fep/agent.toml run",
        "示例：  fep run  |  fep --config /etc/fep/agent.toml run",
    ),
)
def run(ctx: typer.Context) -> None:
    """Run the daemon until a signal ends it."""
    from agent.daemon import life

    raise typer.Exit(life.main(asked(ctx).config))
