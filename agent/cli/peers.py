# SPDX-License-Identifier: Apache-2.0
"""``fep peers``."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import FepError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "Other nodes: who is known, and who has begun anew with other keys.",
        "其他节点：查看已知节点，以及更换了全部密钥而等待核实的节点。",
    ),
)


def _complete(ctx: typer.Context, incomplete: str) -> list[str]:
    """Nodes that wait, as the running daemon knows them; nothing without one."""
    try:
        body = asked(ctx).client(timeout_s=1.0).get("/v1/peers")
    except FepError:
        return []
    waiting = [str(p["node"]) for p in body["peers"] if p["waits"]]
    return [node for node in waiting if node.startswith(incomplete)]


@app.command(
    help=say(
        "List the nodes that this machine knows; those that wait stand first.",
        "列出本机已知的节点，等待核实者在前。",
    ),
    epilog=say(
        "Examples:  fep peers ls  |  fep peers ls --json",
        "示例：  fep peers ls  |  fep peers ls --json",
    ),
)
def ls(ctx: typer.Context) -> None:
    """List the other nodes."""
    ask = asked(ctx)
    body = ask.client().get("/v1/peers")
    if ask.json:
        ask.print_json(body)
    else:
        _show(ask, body)


@app.command(
    help=say(
        "Take the new keys of a node that began anew, once its own people have said,"
        " not by way of the exchange, that they replaced the machine. Its lookups go"
        " on.",
        "经其他渠道向对方核实确已更换机器后，接受该节点的新密钥，恢复其查询。",
    ),
    epilog=say(
        "Examples:  fep peers accept 11990100MB0000027F/ybj-fep1",
        "示例：  fep peers accept 11990100MB0000027F/ybj-fep1",
    ),
)
def accept(
    ctx: typer.Context,
    node: Annotated[
        str,
        typer.Argument(autocompletion=_complete, help=say("The node.", "节点。")),
    ],
) -> None:
    """Accept a node's new keys."""
    ask = asked(ctx)
    body = ask.client().post("/v1/peers/accept", {"node": node})
    if ask.json:
        ask.print_json(body)
        return
    print(ask.say(f"Accepted: {node}.", f"已接受：{node}。"))


def _show(ask: Asked, body: dict[str, Any]) -> None:
    for peer in sorted(body["peers"], key=lambda p: (not p["waits"], p["node"])):
        print(f"{peer['node']}  {peer['since']}  {peer['first']}")
        waits, reset = peer["waits"], peer["reset"]
        if reset is not None:
            print(
                ask.say(
                    f"  was reset at {reset['at']} ({reset['reason']})",
                    f"  曾于 {reset['at']} 重置（{reset['reason']}）",
                )
            )
        if waits is None:
            continue
        why = waits["reason"] or ask.say("no reset is entered", "目录中无重置记录")
        print(
            ask.say(
                f"  WAITS: began anew with {waits['found']} ({why})",
                f"  等待核实：新密钥 {waits['found']}（{why}）",
            )
        )
    if not body["peers"]:
        print(ask.say("No other node is known yet.", "尚无已知节点。"))
