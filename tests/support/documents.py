# SPDX-License-Identifier: Apache-2.0
"""Documents that are drawn from the code.

``python -m tests.support.documents`` writes them; a test keeps them equal.
"""

from __future__ import annotations

from pathlib import Path

from agent.errors import (
    FepError,
    OperatorFault,
    OwnFault,
    PeerFault,
    SourceFault,
    all_errors,
)

ROOT = Path(__file__).parents[2]
ERRORS = ROOT / "docs" / "errors.md"

_PARTS: tuple[tuple[type[FepError], str, str], ...] = (
    (OwnFault, "Ours: state, disk, worker", "本机：状态、磁盘、工作进程"),
    (PeerFault, "The peer's: exchange and line", "对方：交换中心与线路"),
    (SourceFault, "The source's: the department's database", "数据源：部门数据库"),
    (
        OperatorFault,
        "The operator's: settings, catalog, command",
        "运维：配置、目录、命令",
    ),
)

_HEAD = """# Errors · 错误目录

Drawn from `agent/errors.py` by `python -m tests.support.documents`. A code never
changes its meaning. `exit` is the exit code of a command that ends with it: 1 not
healthy, 2 called wrongly, 74 the disk, 75 try again, 78 settings. With `--json` an
error is `{"error": {"code", "detail", "title": {"en", "zh"}, "remedy": {"en", "zh"}}}`.

由 `agent/errors.py` 生成。代码含义永不改变；`exit` 为命令退出码：1 不正常，2 用法错误，
74 磁盘，75 请重试，78 配置。
"""


def errors_document() -> str:
    """The text of ``docs/errors.md``."""
    lines = [_HEAD]
    for base, en, zh in _PARTS:
        lines.append(f"## {en} · {zh}\n")
        lines += [_entry(cls) for cls in all_errors() if issubclass(cls, base)]
    return "\n".join(lines)


def _entry(cls: type[FepError]) -> str:
    return (
        f"### `{cls.code}` (exit {cls.exit_code})\n\n"
        f"{cls.title.en} · {cls.title.zh}\n\n"
        f"- {cls.remedy.en}\n- {cls.remedy.zh}\n"
    )


if __name__ == "__main__":
    ERRORS.write_text(errors_document(), "utf-8")
