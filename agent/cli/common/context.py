# SPDX-License-Identifier: Apache-2.0
"""What a call asked for: settings file, form and language of the answer."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.common.language import (
    CONFIG,
    Language,
    language,
    peek,
    pick,
    say,
)
from agent.errors import FepError, Text
from agent.local.client import LocalClient

SOCKET = "fep.sock"
"""Name of the daemon's socket in ``paths.run``."""


@dataclass(frozen=True)
class Asked:
    """The options that every command has.

    Args:
        config: the settings file.
        json: the answer is one JSON document on stdout (docs/cli-json.md).
        lang: language for people.
    """

    config: Path
    json: bool
    lang: Language

    def say(self, en: str, zh: str) -> str:
        """One of two texts."""
        return pick(Text(en, zh), self.lang)

    def client(self, *, timeout_s: float = 30.0) -> LocalClient:
        """The way to the daemon that uses the same settings file."""
        return LocalClient(peek(self.config).run / SOCKET, timeout_s=timeout_s)

    def print_json(self, body: object) -> None:
        """Write the documented answer."""
        print(json.dumps(body, ensure_ascii=False, indent=2, default=str))

    def print_error(self, error: FepError) -> None:
        """Title, detail and next step: for people on stderr, else JSON on stdout."""
        if self.json:
            self.print_json({"error": error.as_dict()})
            return
        bold, plain = ("\033[1;31m", "\033[0m") if sys.stderr.isatty() else ("", "")
        mark = self.say("error: ", "错误：")
        lines = [f"{bold}{mark}{plain}{pick(error.title, self.lang)} [{error.code}]"]
        lines += [f"  {line}" for line in error.detail.splitlines()]
        lines += [f"  → {pick(error.remedy, self.lang)}"]
        print("\n".join(lines), file=sys.stderr)


def asked(ctx: typer.Context) -> Asked:
    """What was asked, from wherever the options stood."""
    meta: dict[str, Any] = ctx.meta
    config = meta.get("config") or os.environ.get("FEP_CONFIG") or CONFIG
    argv = ["--config", str(config)]
    if meta.get("lang"):
        argv += ["--lang", meta["lang"]]
    return Asked(
        config=Path(config),
        json=bool(meta.get("json")),
        lang=language(argv, os.environ),
    )


def _remember(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value:
        ctx.meta[str(param.name)] = value
    return value


def _language(ctx: typer.Context, param: typer.CallbackParam, value: Any) -> Any:
    if value not in (None, "zh", "en"):
        raise typer.BadParameter(f"expected zh or en, got {value!r}")
    return _remember(ctx, param, value)


def shared(
    config: Annotated[
        str | None,
        typer.Option(
            callback=_remember,
            metavar="FILE",
            help=say(
                f"Settings file (else $FEP_CONFIG, else {CONFIG}).",
                f"配置文件（否则取 $FEP_CONFIG，再否则为 {CONFIG}）。",
            ),
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option(
            "--json",
            callback=_remember,
            help=say("Answer as JSON (docs/cli-json.md).", "以 JSON 输出。"),
        ),
    ] = False,
    lang: Annotated[
        str | None,
        typer.Option(
            callback=_language, metavar="zh|en", help=say("Language.", "语言。")
        ),
    ] = None,
) -> None:
    """The options that every command takes, before or after its name."""
