# SPDX-License-Identifier: Apache-2.0
"""``fep service``."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say

app = typer.Typer(add_completion=False)

DROP_IN = Path("/etc/systemd/system/fep.service.d/settings.conf")
RESOLV_CONF = Path("/etc/resolv.conf")


@app.command(
    help=say(
        "What systemd must know of the settings: the only addresses that the service"
        " may reach, and the credentials it is given. Shown, or with --write written.",
        "根据配置生成 systemd 附加设置：服务仅可访问的地址与所需凭据。默认只显示，"
        "加 --write 写入。",
    ),
    epilog=say(
        "Examples:  fep service  |  fep service --write  |"
        "  fep service --also 10.9.0.0/24 --write",
        "示例：  fep service  |  fep service --write  |"
        "  fep service --also 10.9.0.0/24 --write",
    ),
)
def service(
    ctx: typer.Context,
    write: Annotated[
        bool,
        typer.Option("--write", help=say(f"Write {DROP_IN}.", f"写入 {DROP_IN}。")),
    ] = False,
    also: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help=say(
                "An address or network that no setting names but that must be let"
                " through, such as that from which lookups come; may be repeated.",
                "配置未提及但须放行的地址或网段，如查询请求的来源；可重复。",
            ),
        ),
    ] = None,
    to: Annotated[
        Path,
        typer.Option(metavar="FILE", help=say("Another file.", "指定其他文件。")),
    ] = DROP_IN,
) -> None:
    """Make the drop-in of the unit."""
    from agent.control import ceiling
    from agent.settings import load
    from agent.settings import service as unit

    ask = asked(ctx)
    config = ask.config.absolute()
    bounds = ceiling.load(load(config, secrets=False).agent.ceiling)
    needed = unit.needs(config, endpoints=sorted(bounds.endpoints))
    allowed = unit.addresses(config, needed, _resolve)
    named = any(allowed[key] != [host] for key, host in needed.hosts.items())
    if also:
        allowed["--also"] = [_network(text) for text in also]
    servers = unit.name_servers(_text(RESOLV_CONF)) if named else []
    text = unit.lines(config, needed, allowed, servers)
    if write:
        _write(to, text)
    if ask.json:
        ask.print_json(
            {
                "path": str(to),
                "written": write,
                "addresses": allowed,
                "name_servers": servers,
                "credentials": needed.credentials,
                "text": text,
            }
        )
        return
    print(text, end="")
    if write:
        print(ask.say(f"# written to {to}; now:", f"# 已写入 {to}；接着执行："))
        print("systemctl daemon-reload && systemctl restart fep")


def _resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _network(text: str) -> str:
    from ipaddress import ip_network

    from agent.errors import UsageFault

    try:
        return str(ip_network(text))
    except ValueError as e:
        raise UsageFault(f"--also: {e}") from None


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError:
        return ""


def _write(to: Path, text: str) -> None:
    """All of it or nothing: systemd may read it at any moment."""
    from agent.errors import UsageFault

    growing = to.with_name(to.name + ".new")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        growing.write_text(text, "utf-8")
        growing.chmod(0o644)
        growing.replace(to)
    except OSError as e:
        raise UsageFault(f"--write: {to}: {e.strerror}") from e
