# SPDX-License-Identifier: Apache-2.0
"""The command ``fep``.

A command is a module of this package that holds ``app``, a :class:`typer.Typer`. It is
imported only when it is called, so that ``fep status`` does not pay for ``fep run``.
"""

from __future__ import annotations

import os
import pkgutil
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

import agent.cli
from agent.cli.common.context import Asked, asked, shared
from agent.cli.common.language import language, say
from agent.errors import FepError, UsageFault

EPILOG = say(
    "Examples:  fep config check  |  fep run  |  fep status --watch  |"
    "  fep pull 101001/000001 --wait",
    "示例：  fep config check  |  fep run  |  fep status --watch  |"
    "  fep pull 101001/000001 --wait",
)


class _Found(MutableMapping[str, Any]):
    """Commands by name; a module is imported when its command is taken out."""

    def __init__(self) -> None:
        self._names = [
            m.name
            for m in pkgutil.iter_modules(agent.cli.__path__)
            if not m.ispkg and m.name != "main"
        ]
        self._taken: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._taken:
            module = import_module(f"agent.cli.{name}")
            command = typer.main.get_command(module.app)
            command.name = name
            _add_shared(command)
            self._taken[name] = command
        return self._taken[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._taken[name] = command

    def __delitem__(self, name: str) -> None:
        self._names.remove(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._names))

    def __len__(self) -> int:
        return len(self._names)


class _Commands(TyperGroup):
    """The group of all commands; errors of the tree end here."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.commands = _Found()
        _add_shared(self)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - typer's form
        """Names, without importing anything."""
        return list(self.commands)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; print an error with its next step and use its exit code."""
        try:
            return super().invoke(ctx)
        except FepError as e:
            asked(ctx).print_error(e)
            raise typer.Exit(e.exit_code) from None


class _Light:
    """Takes text as it is; asks typer, and with it pydantic, only for other types.

    Typer builds a pydantic adapter for every parameter, which costs a third of a
    second. Where a typer has no such seam, this is set in vain and does no harm.
    """

    def coerce(self, value: Any, *, param: Any, ctx: Any) -> Any:
        """The value of a parameter in the type of its annotation."""
        if value is None or (
            isinstance(value, str) and param.type_descriptor.annotation is str
        ):
            return value
        param._runtime_param = None  # noqa: SLF001 - see the class
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _help(command: Any, ctx: Any, _formatter: Any) -> None:
    from agent.cli.common.help import show

    show(command, ctx)


def _lighten(command: Any) -> None:
    """Let no parameter of a command load pydantic, and its help be ours."""
    command.format_help = partial(_help, command)
    for param in command.params:
        param._runtime_param = _Light()  # noqa: SLF001 - see _Light
    made = command.get_help_option

    def light(ctx: Any) -> Any:
        option = made(ctx)
        if option is not None and option._runtime_param is None:  # noqa: SLF001
            option._runtime_param = _Light()  # noqa: SLF001
        return option

    command.get_help_option = light


def _add_shared(command: Any) -> None:
    """Give a command, and the commands below it, the shared options."""
    holder = typer.Typer(add_completion=False)
    holder.command()(shared)
    for param in typer.main.get_command(holder).params:
        param.expose_value = False
        command.params.append(param)
    _lighten(command)
    if isinstance(command, TyperGroup) and not isinstance(command, _Commands):
        for below in command.commands.values():
            _add_shared(below)


app = typer.Typer(
    name="fep",
    cls=_Commands,
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help=say(
        "FEP, the front-end processor agent for government data sharing.",
        "FEP：政务数据共享前置机代理。",
    ),
)


@app.callback()
def _fep() -> None:
    pass


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code."""
    args = list(sys.argv[1:] if argv is None else argv)
    command = typer.main.get_command(app)
    _lighten(command)
    try:
        code = command.main(args=args, prog_name="fep", standalone_mode=False)
    except typer.Abort:
        code = 1
    except TyperException as e:
        if e.__class__.__name__ != "NoArgsIsHelpError":  # its help has been shown
            _wrong_words(e, args)
        code = e.exit_code
    sys.exit(code)


def _wrong_words(e: TyperException, args: Sequence[str]) -> None:
    """Say on stderr what is wrong in a call; JSON or not is not known yet."""
    ctx = getattr(e, "ctx", None)
    fault = UsageFault(f"{ctx.command_path if ctx else 'fep'}: {e.format_message()}")
    lang = language(args, os.environ)
    Asked(config=Path(), json=False, lang=lang).print_error(fault)
