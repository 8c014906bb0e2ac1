# SPDX-License-Identifier: Apache-2.0
"""``fep pull``."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.resources import One
from agent.cli.common.waiting import confirmed, ended, shown
from agent.local.client import LocalClient

app = typer.Typer(add_completion=False)

PROOF_S = 60.0
"""Longest wait for the exchange's word after a recall, seconds."""
LOOK_S = 0.2
"""Seconds between two looks for it."""


@app.command(
    help=say(
        "Read a resource from its source now and send it.",
        "立即读取一个资源并发送。",
    ),
    epilog=say(
        "Examples:  fep pull 101001/000001  |  fep pull 101001/000001 --wait",
        "示例：  fep pull 101001/000001  |  fep pull 101001/000001 --wait",
    ),
)
def pull(
    ctx: typer.Context,
    resource: One,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help=say(
                "Wait until the exchange has loaded everything; exit 1 if it cannot.",
                "等待交换中心全部入库；无法完成时退出码为 1。",
            ),
        ),
    ] = False,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help=say(
                "full; incremental: only what changed; or deletes: rows that are gone.",
                "full 全量；incremental 仅变更；deletes 仅查找已删除的行。",
            ),
        ),
    ] = "full",
    confirm_deletes: Annotated[
        bool,
        typer.Option(
            "--confirm-deletes",
            help=say(
                "The rows are really gone: let the run delete as many at the centre as"
                " the held run said, no more.",
                "确认源数据已删除，允许中心同步删除，数量以暂停任务所示为限。",
            ),
        ),
    ] = False,
    recall: Annotated[
        bool,
        typer.Option(
            "--recall",
            help=say(
                "Take all rows of the resource back from the centre. The first call"
                " says how many; with --confirm-deletes they go, and nothing is read"
                " until `fep resume RESOURCE`.",
                "撤回中心该资源的全部数据。首次执行给出数量；加 --confirm-deletes"
                " 后删除，此后不再读取，直至 `fep resume 资源代码`。",
            ),
        ),
    ] = False,
) -> None:
    """Ask for a run."""
    kind = "recall" if recall else kind
    ask = asked(ctx)
    client = ask.client()
    asks = {"resource": resource, "confirm_deletes": confirm_deletes, "kind": kind}
    body: dict[str, Any] = client.post("/v1/pull", asks)
    if not ask.json and body["deletes_confirmed"] is not None:
        print(confirmed(ask, body["deletes_confirmed"]))
    if wait:
        body = ended(ask, client, body["run"], resource)
    shown(ask, body)
    if wait and not body["delivered"]:
        raise typer.Exit(1)
    if wait and recall:
        _prove(ask, client, resource)


def _prove(ask: Asked, client: LocalClient, resource: str) -> None:
    """Wait for the exchange's word that it has no rows; exit 1 if it does not come."""
    end = time.monotonic() + PROOF_S
    while True:
        (found,) = client.get("/v1/status", {"resource": resource})["resources"]
        recalled = found["recalled"]
        proven = recalled is not None and recalled["proven_at"] is not None
        if proven and found["state"] == "recalled":
            break
        if time.monotonic() > end:
            raise typer.Exit(1)
        time.sleep(LOOK_S)
    if not ask.json:
        print(
            ask.say(
                "The exchange signed that it has no rows of it.",
                "中心已签名证明该资源无数据。",
            )
        )
