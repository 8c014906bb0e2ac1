# SPDX-License-Identifier: Apache-2.0
"""``fep demo``."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import UsageFault

app = typer.Typer(add_completion=False)

ROWS = 20_000


@app.command(
    help=say(
        "The whole main job on a sample department, on one screen: read, check, seal,"
        " send, receipts, a batch altered on its way, both sides counted, lookups of"
        " another department, and the audit log checked offline.",
        "用样例部门演示全部主流程：读取、检查、封装、发送、回执、途中篡改、两端对账、"
        "其他部门联机查询、离线验证审计日志。",
    ),
    epilog=say(
        "Examples:  fep demo  |  fep demo --rows 200000 --json  |  fep demo --serve",
        "示例：  fep demo  |  fep demo --rows 200000 --json  |  fep demo --serve",
    ),
)
def demo(
    ctx: typer.Context,
    rows: Annotated[
        int,
        typer.Option(
            metavar="N", help=say("Persons of the department.", "样例人员数。")
        ),
    ] = ROWS,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            metavar="FOLDER",
            help=say(
                "Work folder, used again on the next start.", "工作目录，可重复使用。"
            ),
        ),
    ] = None,
    serve: Annotated[
        bool,
        typer.Option(
            "--serve",
            help=say(
                "Keep exchange and agent running until Ctrl-C.",
                "保持交换中心与代理运行，直到 Ctrl-C。",
            ),
        ),
    ] = False,
) -> None:
    """Tell the story; exit 1 if the books do not balance."""
    from agent.demo.department import LEAST_ROWS
    from agent.demo.screen import Silent, bars, screen
    from agent.demo.story import told
    from agent.pipeline.quality.reasons import TITLES

    if rows < LEAST_ROWS:
        raise UsageFault(f"--rows: expected at least {LEAST_ROWS}, got {rows}")
    ask = asked(ctx)
    console = Console(stderr=ask.json)
    with contextlib.ExitStack() as stack:
        stack.enter_context(_ended_by_signals())
        shown = (
            contextlib.nullcontext(Silent()) if ask.json else bars(console, ask.lang)
        )
        with shown as watch:
            place = folder or default_folder()
            report, site = stack.enter_context(told(place, rows=rows, watch=watch))
        if ask.json:
            ask.print_json(report.as_dict())
        else:
            console.print(screen(report, ask.lang, codes=TITLES))
        if serve:
            _serve(ask, console, site.config)
    if not report.healthy:
        raise typer.Exit(1)


def default_folder() -> Path:
    """``fep/demo`` in the user's cache folder, or a temporary folder without one."""
    cache = os.environ.get("XDG_CACHE_HOME")
    home = Path(cache) if cache else Path("~/.cache").expanduser()
    try:
        (home / "fep").mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir()) / f"fep-demo-{os.getuid()}"
    return home / "fep" / "demo"


@contextlib.contextmanager
def _ended_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end this process like Ctrl-C: what was started is ended."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {n: signal.signal(n, end) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve(ask: Asked, console: Console, config: Path) -> None:
    tries = (
        ("status --watch", "what goes on", "运行状态"),
        ("status 101001/000001", "one resource", "单个资源"),
        ("pull 307013/000001 --wait", "read and send again", "再次读取并发送"),
        ("spool ls", "batches on this machine", "本机批次"),
        ("source check", "rights and columns of the source", "数据源权限与字段"),
        ("config check", "settings and documents", "配置与目录检查"),
        ("policy show", "who may look up what", "查询授权策略"),
        ("audit search --kind lookup.decided", "who looked up what", "查询审计记录"),
        ("pause", "stop reading and sending", "暂停读取与发送"),
        ("resume", "go on", "恢复"),
    )
    lines = [ask.say("Everything keeps running. Try:", "系统保持运行，可以试试：")]
    lines.append(f"  export FEP_CONFIG={config}")
    lines += [f"  fep {words:<36} # {ask.say(en, zh)}" for words, en, zh in tries]
    lines.append(ask.say("Ctrl-C ends it.", "按 Ctrl-C 结束。"))
    console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()
