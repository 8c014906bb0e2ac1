# SPDX-License-Identifier: Apache-2.0
"""``fep spool``."""

from __future__ import annotations

from typing import Annotated

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.cli.common.resources import OneOrAll, complete_resource

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say("Batches that wait or are kept.", "查看待发与保留的批次。"),
)


@app.command(
    help=say("List batches, oldest first.", "列出批次，旧者在前。"),
    epilog=say(
        "Examples:  fep spool ls  |  fep spool ls 101001/000001 --json",
        "示例：  fep spool ls  |  fep spool ls 101001/000001 --json",
    ),
)
def ls(
    ctx: typer.Context,
    resource: OneOrAll = None,
) -> None:
    """List batches."""
    ask = asked(ctx)
    body = ask.client().get("/v1/spool", {"resource": resource})
    if ask.json:
        ask.print_json(body)
        return
    from agent.cli.common import render

    render.console().print(render.batches(ask, body["batches"]))


@app.command(
    help=say("Show one batch with its receipts.", "显示一个批次及其回执。"),
    epilog=say(
        "Examples:  fep spool show 101001/000001 1 7",
        "示例：  fep spool show 101001/000001 1 7",
    ),
)
def show(
    ctx: typer.Context,
    resource: Annotated[
        str,
        typer.Argument(
            autocompletion=complete_resource,
            help=say("Code of the resource.", "资源代码。"),
        ),
    ],
    epoch: Annotated[int, typer.Argument(min=1, help=say("Epoch.", "纪元。"))],
    seq: Annotated[int, typer.Argument(min=1, help=say("Number.", "序号。"))],
) -> None:
    """Show one batch."""
    ask = asked(ctx)
    query = {"resource": resource, "epoch": epoch, "seq": seq}
    body = ask.client().get("/v1/batch", query)
    if ask.json:
        ask.print_json(body)
        return
    from agent.cli.common import render

    render.console().print(render.pairs(body))
