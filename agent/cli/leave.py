# SPDX-License-Identifier: Apache-2.0
"""``fep leave``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import UsageFault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.control.identity import IdentityFiles
    from agent.settings import Settings

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Leave for good: tell the exchange, then destroy this machine's private keys."
        " Receipts and the audit log stay. What waits in the spool is never sent. Stop"
        " the service first. Writing over is no promise on an SSD.",
        "永久退出：通知交换中心，然后销毁本机私钥。回执与审计日志保留，待发数据不再发送。"
        "请先停止服务。固态盘上的覆写不能保证不可恢复。",
    ),
    epilog=say(
        "Examples:  fep leave  |  fep leave --yes  |  fep leave --here",
        "示例：  fep leave  |  fep leave --yes  |  fep leave --here",
    ),
)
def leave(
    ctx: typer.Context,
    yes: Annotated[
        bool,
        typer.Option("--yes", help=say("Do not ask.", "不再询问。")),
    ] = False,
    here: Annotated[
        bool,
        typer.Option(
            "--here",
            help=say(
                "Destroy the keys without telling the exchange, for a node that it has"
                " revoked or reset; `fep enrol` then begins anew.",
                "不通知交换中心，仅销毁本机密钥；用于已被吊销或重置的节点，随后可重新注册。",
            ),
        ),
    ] = False,
) -> None:
    """Say goodbye and destroy the keys."""
    import os

    from agent import settings
    from agent.cli.common.owner import act_as_owner
    from agent.control.identity import IdentityFiles
    from agent.control.leave import wipe
    from agent.control.outside import outside
    from agent.daemon.life import locked

    ask = asked(ctx)
    os.umask(0o077)
    found = settings.load(ask.config, secrets=False)
    node = found.agent.node
    act_as_owner(found.paths.state)
    with locked(found.paths.state):
        _confirm(ask, node, yes=yes)
        files = IdentityFiles(found.paths.state)
        remain = outside(files)
        if not here and not files.wiping.exists():
            _tell(found, files)
        gone = wipe(files)
    if ask.json:
        body = {"node": node, "told": not here, "destroyed": len(gone)}
        ask.print_json({**body, "remain": dict(remain)})
        return
    print(
        ask.say(
            f"{node}: {len(gone)} private keys are destroyed. Destroy backups of them,"
            " too; on an SSD, the disc.",
            f"{node}：已销毁 {len(gone)} 个私钥。请一并销毁其备份；固态盘须销毁磁盘。",
        )
    )
    _name(ask, remain)


def _name(ask: Asked, remain: Mapping[str, str]) -> None:
    """Say which keys a person has to destroy."""
    for purpose, place in remain.items():
        words = {
            "credential": ask.say("systemd's credential", "systemd 凭据"),
            "token": ask.say("the token", "密码设备"),
        }
        print(
            ask.say(
                f"NOT destroyed: {purpose}, in {words[place]}. Destroy it there"
                " yourself.",
                f"未销毁：{purpose}，位于{words[place]}，请自行在该处销毁。",
            )
        )


def _confirm(ask: Asked, node: str, *, yes: bool) -> None:
    """Have a person type the node.

    Raises:
        UsageFault: something else was typed.
    """
    if yes:
        return
    prompt = ask.say(
        f"Type {node} to destroy its keys on this machine: ",
        f"请输入 {node} 以确认销毁本机密钥：",
    )
    try:
        typed = input(prompt)
    except EOFError:
        typed = ""
    if typed.strip() != node:
        raise UsageFault(f"expected {node}; nothing was done")


def _tell(found: Settings, files: IdentityFiles) -> None:
    """Tell the exchange; nothing is destroyed before it has answered."""
    import asyncio
    from datetime import UTC, datetime

    from agent.control.leave import say_goodbye
    from agent.pipeline.uplink.endpoint import Endpoint
    from agent.pipeline.uplink.exchange import Exchange

    exchange = found.exchange
    proxy = exchange.proxy
    endpoint = Endpoint(
        url=exchange.url,
        more_urls=exchange.more_urls,
        proxy=lambda: None if proxy is None else proxy.now(),
        ca_file=files.ca,
        cert_file=files.tls_certificate,
        key_file=files.tls_key,
        connect_timeout_s=exchange.connect_timeout_s,
        read_timeout_s=exchange.read_timeout_s,
    )

    async def told() -> None:
        async with Exchange(endpoint, now=lambda: datetime.now(UTC)) as uplink:
            await say_goodbye(
                files,
                node=found.agent.node,
                aud=exchange.aud,
                now=datetime.now(UTC),
                post=uplink.leave,
            )

    asyncio.run(told())
