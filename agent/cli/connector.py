# SPDX-License-Identifier: Apache-2.0
"""``fep connector``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.cli.common.trial import Result
    from agent.registry import Installed

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say("Look at connectors, and try your own.", "查看连接器，测试自编连接器。"),
)

RULE_S = 300.0
"""Longest time of one rule, seconds."""


@app.command(
    help=say(
        "Installed connectors: version, and what each can do. Exit 1 if one is broken.",
        "列出已安装的连接器、版本与能力；有不可用者时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep connector ls  |  fep connector ls --json",
        "示例：  fep connector ls  |  fep connector ls --json",
    ),
)
def ls(ctx: typer.Context) -> None:
    """List connectors."""
    from agent import registry

    ask = asked(ctx)
    found = [_described(one) for one in registry.installed()]
    if ask.json:
        ask.print_json({"connectors": found})
    else:
        _list(ask, found)
    if any(one["trouble"] for one in found):
        raise typer.Exit(1)


@app.command(
    help=say(
        "Run the conformance suite on a connector. MODULE, a name or a .py file, has"
        " subject(config): the connector and a test database. With --config FILE, its"
        " TOML is that config. Exit 1 if a rule is broken. See docs/connectors.md.",
        "对连接器运行一致性测试。MODULE 为模块名或 .py 文件，其 subject(config) 给出"
        "连接器与测试库；--config FILE 的 TOML 内容即 config。有规则不符时退出码为 1。"
        "参见 docs/connectors.md。",
    ),
    epilog=say(
        "Examples:  fep connector test my_trial  |"
        "  fep connector test my_trial.py --config trial.toml --json",
        "示例：  fep connector test my_trial  |"
        "  fep connector test my_trial.py --config trial.toml --json",
    ),
)
def test(
    ctx: typer.Context,
    module: Annotated[
        str,
        typer.Argument(
            help=say("Module or file with subject(config).", "含 subject(config)。")
        ),
    ],
) -> None:
    """Try a connector."""
    import asyncio

    from agent.cli.common.trial import trial

    ask = asked(ctx)
    given = ctx.meta.get("config")
    result = asyncio.run(trial(module, _config(given), rule_s=RULE_S))
    if ask.json:
        ask.print_json(
            {
                "ok": result.good,
                "connector": result.connector,
                "rules": result.rules,
                "left_out": dict(result.left_out),
            }
        )
    else:
        _show(ask, result)
    if not result.good:
        raise typer.Exit(1)


def _config(given: str | None) -> dict[str, Any]:
    """The tables of the file that was named, if one was.

    Raises:
        ConfigInvalid: it cannot be read.
    """
    from agent.settings.load import read

    return {} if given is None else read(Path(given))


def _described(one: Installed) -> dict[str, Any]:
    from connectors.contract import offers_health, offers_lookup

    connector = one.connector
    return {
        "name": one.name,
        "package": one.package,
        "version": one.version,
        "contract": None if connector is None else connector.api,
        "lookups": connector is not None and offers_lookup(connector),
        "health": connector is not None and offers_health(connector),
        "settings": []
        if connector is None
        else sorted(connector.spec().get("properties", {})),
        "trouble": one.trouble,
    }


def _list(ask: Asked, found: list[dict[str, Any]]) -> None:
    from rich.text import Text

    from agent.cli.common.render import console

    out = console()
    for one in found:
        skills = [ask.say("reads", "读取")]
        if one["lookups"]:
            skills.append(ask.say("answers lookups", "联机查询"))
        if one["health"]:
            skills.append(ask.say("slows down for its source", "随数据源状况放慢"))
        words = ask.say(", ", "、").join(skills) if not one["trouble"] else ""
        package = f"{one['package']} {one['version']}" if one["package"] else "-"
        out.print(f"{one['name']}  ({package})  {one['trouble'] or words}")
        if one["settings"]:
            keys = ", ".join(one["settings"])
            out.print(Text(f"    {ask.say('settings: ', '配置项：')}{keys}"))


def _show(ask: Asked, result: Result) -> None:
    from rich.text import Text

    from agent.cli.common.render import console

    out = console()
    for rule in result.rules:
        mark, style = ("✓", "green") if rule["ok"] else ("✗", "red")
        out.print(Text(f"{mark} {rule['rule']}: {rule['says']}", style))
        if rule["detail"] is not None:
            out.print(Text(f"    {rule['detail']}"), soft_wrap=True)
    for suite, why in result.left_out.items():
        out.print(Text(ask.say(f"- {suite}: {why}", f"- 未测 {suite}：{why}")))
    bad, count = sum(not rule["ok"] for rule in result.rules), len(result.rules)
    good = ask.say(
        f"{result.connector}: all {count} rules hold.",
        f"{result.connector}：{count} 条规则全部符合。",
    )
    broken = ask.say(
        f"{result.connector}: {bad} of {count} rules are broken.",
        f"{result.connector}：{count} 条规则中有 {bad} 条不符。",
    )
    out.print(Text(broken if bad else good, "red" if bad else "green"))
