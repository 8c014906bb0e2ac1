# SPDX-License-Identifier: Apache-2.0
"""How ``--help`` looks: in one language, folded by the width of its characters.

Typer's own panels crop a Chinese sentence, which has no blanks, and keep English heads.
Imported only when help is shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.common.language import say

_TYPERS = {
    "help": say("Show this help.", "显示本帮助。"),
    "install_completion": say(
        "Install completion for this shell.", "为当前 shell 安装命令补全。"
    ),
    "show_completion": say(
        "Print completion for this shell.", "显示当前 shell 的补全脚本。"
    ),
}
"""Texts of the options that typer adds."""


def show(command: Any, ctx: Any) -> None:
    """Print the help of a command or a group."""
    console = Console(highlight=False, markup=False, emoji=False)
    params = command.get_params(ctx)
    words = [p for p in params if p.param_type_name == "argument"]
    options = [p for p in params if p.param_type_name == "option"]
    below = getattr(command, "commands", {})
    usage = [ctx.command_path, say("[OPTIONS]", "[选项]"), *map(_word, words)]
    if below:
        usage.append(say("COMMAND ...", "命令 ..."))
    console.print(Text(say("Usage: ", "用法：") + " ".join(usage), "bold"))
    console.print()
    console.print(Text(command.help or "", overflow="fold"))
    _block(console, say("Arguments", "参数"), ((_word(p), _help(p)) for p in words))
    commands = ((name, below[name].help or "") for name in below)
    _block(console, say("Commands", "命令"), commands)
    _block(console, say("Options", "选项"), ((_option(p), _help(p)) for p in options))
    if command.epilog:
        _examples(console, command.epilog)


def _block(console: Console, title: str, rows: Iterable[tuple[str, str]]) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="cyan")
    table.add_column(overflow="fold")
    for left, right in rows:
        table.add_row(f"  {left}", right)
    if table.row_count:
        console.print()
        console.print(Text(title, "bold"))
        console.print(table)


def _examples(console: Console, epilog: str) -> None:
    title, _, calls = epilog.partition("  ")
    console.print()
    console.print(Text(title.rstrip(":："), "bold"))
    for call in calls.split("  |  "):
        console.print(Text(f"  {call.strip()}"), soft_wrap=True)


def _word(param: Any) -> str:
    name = str(param.name).upper()
    return name if param.required else f"[{name}]"


def _option(param: Any) -> str:
    names = ", ".join(param.opts)
    value = "" if param.is_flag else f" {param.metavar or str(param.name).upper()}"
    return names + value


def _help(param: Any) -> str:
    text = _TYPERS.get(param.name, param.help or "")
    if param.param_type_name == "option" and param.required:
        return text + say(" Required.", "必填。")
    if isinstance(param.default, int) and not isinstance(param.default, bool):
        return text + say(f" Default {param.default}.", f"默认 {param.default}。")
    return text
