# SPDX-License-Identifier: Apache-2.0
"""``fep enrol``."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.owner import act_as_owner

app = typer.Typer(add_completion=False)

_STEPS = {
    "ca": ("comparing the exchange's CA with the slip", "核对交换中心 CA 与凭条"),
    "keys": ("keys of this machine", "本机密钥"),
    "certificate": ("certificate", "申请证书"),
    "pending": ("waiting for approval at the centre", "等待中心审批"),
    "statement": ("key statement", "提交密钥声明"),
    "directory": ("directory", "获取目录"),
}


@app.command(
    help=say(
        "Make keys, get a certificate, become known to the exchange. Running it again"
        " goes on where it stopped.",
        "生成密钥、申请证书并登记到交换中心；中断后可重新执行。",
    ),
    epilog=say(
        "Examples:  fep enrol  |  sudo fep enrol --config /etc/fep/agent.toml --json",
        "示例：  fep enrol  |  sudo fep enrol --config /etc/fep/agent.toml --json",
    ),
)
def enrol(ctx: typer.Context) -> None:
    """Become known to the exchange."""
    import asyncio
    from datetime import UTC, datetime

    from agent import settings
    from agent.control.enrol import Target
    from agent.control.enrol import enrol as do
    from agent.control.identity import IdentityFiles
    from agent.wire.grammar import format_time

    ask = asked(ctx)
    os.umask(0o077)  # the state folder may be made here, and it is nobody else's
    found = settings.load(ask.config, secrets=False)
    act_as_owner(found.paths.state)
    exchange = found.exchange
    target = Target(
        node=found.agent.node,
        url=exchange.url,
        aud=exchange.aud,
        ca_sha256=exchange.ca_sha256,
        kid=exchange.kid,
        clock_tolerance_s=exchange.clock_tolerance_s,
        connect_timeout_s=exchange.connect_timeout_s,
        read_timeout_s=exchange.read_timeout_s,
        proxy=None if exchange.proxy is None else exchange.proxy.now(),
    )
    done = asyncio.run(
        do(
            target,
            IdentityFiles(found.paths.state),
            now=lambda: datetime.now(UTC),
            report=lambda step: _told(ask, step),
        )
    )
    if ask.json:
        body = asdict(done)
        ask.print_json({**body, "not_after": format_time(done.not_after)})
        return
    print(ask.say(f"Enrolled as {done.node}.", f"已注册：{done.node}。"))
    print(ask.say(f"Key statement: {done.statement}", f"密钥声明：{done.statement}"))
    print(
        ask.say(
            "Compare it with the one that central ops see, then `systemctl start fep`.",
            "请与中心所见核对一致后执行 `systemctl start fep`。",
        )
    )


def _told(ask: Asked, step: str) -> None:
    if not ask.json:
        en, zh = _STEPS[step]
        print(f"… {ask.say(en, zh)}", file=sys.stderr)
