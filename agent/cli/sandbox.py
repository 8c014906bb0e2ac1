# SPDX-License-Identifier: Apache-2.0
"""``fep sandbox``."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from agent.cli.common.language import say
from agent.errors import UsageFault

app = typer.Typer(add_completion=False)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    help=say(
        "Run the small reference exchange; what stands after --dir goes to it.",
        "运行小型参考交换中心；--dir 之后的参数原样传入。",
    ),
    epilog=say(
        "Examples:  fep sandbox --dir /tmp/exchange --listen 127.0.0.1:8443",
        "示例：  fep sandbox --dir /tmp/exchange --listen 127.0.0.1:8443",
    ),
)
def sandbox(
    ctx: typer.Context,
    folder: Annotated[
        Path,
        typer.Option("--dir", metavar="FOLDER", help=say("Its folder.", "数据目录。")),
    ],
) -> None:
    """Become ``python -m sandbox``."""
    if find_spec("sandbox") is None:
        raise UsageFault("the sandbox is not part of this installation")
    words = [sys.executable, "-m", "sandbox", "--dir", str(folder), *ctx.args]
    sys.stdout.flush()
    os.execv(sys.executable, words)  # noqa: S606 - our own program, no shell
