# SPDX-License-Identifier: Apache-2.0
"""``fep verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.control.evidence import Verdict

app = typer.Typer(add_completion=False)

_CHECKS = {
    "form": "格式",
    "signature": "签名",
    "payload": "内容",
    "file": "文件",
    "before": "前一批",
    "after": "后一批",
}


@app.command(
    help=say(
        "Judge a batch file or a receipt offline: signature, payload, place in the"
        " chain. Exit 1 if it is not genuine.",
        "离线验证批次文件或回执：签名、内容、链中位置；不真实时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep verify 101001_000001.1.7.fepb  |"
        "  fep verify receipt.jws --directory directory.jws --json",
        "示例：  fep verify 101001_000001.1.7.fepb  |"
        "  fep verify receipt.jws --directory directory.jws --json",
    ),
)
def verify(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(help=say("Batch or receipt.", "批次或回执文件。"))
    ],
    directory: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "Directory to judge with; else the agent's own.",
                "用于验证的目录文件；默认使用本机目录。",
            ),
        ),
    ] = None,
) -> None:
    """Judge a file."""
    from agent import settings
    from agent.control.directory import check_directory
    from agent.control.evidence import examine
    from agent.control.identity import IdentityFiles
    from agent.errors import NotEnrolled, UsageFault

    if not Path(file).is_file():
        raise UsageFault(f"{file}: expected a batch file or a receipt, got no file")
    ask = asked(ctx)
    found = settings.load(ask.config, secrets=False)
    own = IdentityFiles(found.paths.state).directory
    path = Path(directory) if directory else own
    try:
        text = path.read_bytes()
    except OSError as e:
        raise NotEnrolled(f"{path}: {e.strerror}") from e
    known = check_directory(text, aud=found.exchange.aud, kid=found.exchange.kid)
    verdict = examine(Path(file), known)
    if ask.json:
        body = {"file": file, "genuine": verdict.genuine, **asdict(verdict)}
        ask.print_json(body)
    else:
        _show(ask, file, verdict)
    if not verdict.genuine:
        raise typer.Exit(1)


def _show(ask: Asked, file: str, verdict: Verdict) -> None:
    from rich.text import Text

    from agent.cli.common.render import console, pairs

    out = console()
    good = verdict.genuine
    said = ask.say("genuine", "真实") if good else ask.say("NOT genuine", "不真实")
    out.print(
        Text(f"{file}{ask.say(': ', '：')}{said}", "green" if good else "bold red")
    )
    out.print(pairs(verdict.facts))
    for c in verdict.checks:
        mark, style = ("-", "default")
        if c.ok is not None:
            mark, style = ("✓", "green") if c.ok else ("✗", "red")
        check = ask.say(f"{c.check}: ", f"{_CHECKS.get(c.check, c.check)}：")
        out.print(Text(f"{mark} {check}{c.detail}", style), soft_wrap=True)
