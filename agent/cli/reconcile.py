# SPDX-License-Identifier: Apache-2.0
"""``fep reconcile``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.cli.common.resources import One
from agent.cli.common.waiting import confirmed, ended, shown
from agent.errors import UsageFault

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Compare every row with the centre's, and send again what differs there.",
        "与中心逐行对账，并重新发送有差异的行。",
    ),
    epilog=say(
        "Examples:  fep reconcile 101001/000001 --wait  |"
        "  fep reconcile 101001/000001 --report-only --report keys.jsonl --wait",
        "示例：  fep reconcile 101001/000001 --wait  |"
        "  fep reconcile 101001/000001 --report-only --report keys.jsonl --wait",
    ),
)
def reconcile(
    ctx: typer.Context,
    resource: One,
    wait: Annotated[
        bool,
        typer.Option(
            "--wait",
            help=say(
                "Wait for the result; exit 1 if rows differ and are not repaired.",
                "等待结果；存在差异且未修复时退出码为 1。",
            ),
        ),
    ] = False,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair/--report-only",
            help=say(
                "Send again what differs (default), or only count it.",
                "重新发送有差异的行（默认），或仅统计。",
            ),
        ),
    ] = True,
    report: Annotated[
        str | None,
        typer.Option(
            "--report",
            metavar="NAME",
            help=say(
                "Write the keys that differ to this file in the folder reconcile of"
                " the state folder; only the agent's account may read it.",
                "将有差异的主键写入状态目录 reconcile 下的该文件，仅代理账户可读。",
            ),
        ),
    ] = None,
    confirm_deletes: Annotated[
        bool,
        typer.Option(
            "--confirm-deletes",
            help=say(
                "Let the repair delete as many rows that only the centre has as the"
                " held run said, no more.",
                "允许修复删除仅中心存在的行，数量以暂停任务所示为限。",
            ),
        ),
    ] = False,
) -> None:
    """Ask for a comparison."""
    if confirm_deletes and not repair:
        raise UsageFault("--report-only deletes nothing: leave --confirm-deletes out")
    ask = asked(ctx)
    client = ask.client()
    kind = "reconcile" if repair else "compare"
    asks = {
        "resource": resource,
        "kind": kind,
        "report": report,
        "confirm_deletes": confirm_deletes,
    }
    body: dict[str, Any] = client.post("/v1/pull", asks)
    if not ask.json and body["deletes_confirmed"] is not None:
        print(confirmed(ask, body["deletes_confirmed"]))
    if wait:
        body = ended(ask, client, body["run"], resource)
    shown(ask, body)
    if wait and not _good(body):
        raise typer.Exit(1)


def _good(run: dict[str, Any]) -> bool:
    """Whether nothing differed, or all of it is repaired."""
    found = run["found"]
    if found is None or not run["delivered"] or found["left"]:
        return False
    differs = found["missing"] + found["stale"] + found["extra"]
    return run["kind"] == "reconcile" or not differs
