# SPDX-License-Identifier: Apache-2.0
"""Man pages and completions from the commands themselves (``pages.py OUT``).

Run by the interpreter of the packages, so that what is written is what that program
does. Its texts are in one language at a time: main() is called once for each, in a
process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WORDS = {
    "en": (
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "COMMANDS",
        "EXAMPLES",
        "SEE ALSO",
    ),
    "zh": ("名称", "概要", "描述", "选项", "命令", "示例", "参见"),
}
MANUAL = {"en": "FEP agent", "zh": "FEP 前置机代理"}
FOLDERS = {"en": "man1", "zh": "zh_CN/man1"}
COMPLETIONS = {"bash": "bash/fep", "zsh": "zsh/_fep", "fish": "fish/fep.fish"}


def main(out: Path, language: str) -> None:
    """Write the pages of one language."""
    import typer

    from agent import VERSION
    from agent.cli.main import app

    folder = out / FOLDERS[language]
    folder.mkdir(parents=True)
    root: Any = typer.main.get_command(app)
    names = [name for name, _ in _walk(root, "fep")]
    for name, command in _walk(root, "fep"):
        text = "\n".join(_page(name, command, names, language, VERSION))
        (folder / f"{name}.1").write_text(text + "\n", "utf-8")


def _walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    yield name, command
    below = getattr(command, "commands", {})
    for word in sorted(below):
        yield from _walk(below[word], f"{name}-{word}")


def _page(
    name: str, command: Any, names: list[str], language: str, version: str
) -> Iterator[str]:
    head, synopsis, description, options, commands, examples, also = WORDS[language]
    calls = name.replace("-", " ")
    said = " ".join((command.help or "").split())
    yield f'.TH "{name.upper()}" "1" "" "fep {version}" "{MANUAL[language]}"'
    yield f'.SH "{head}"'
    yield f"{_roff(name)} \\- {_roff(said.partition('. ')[0].rstrip('.'))}"
    yield f'.SH "{synopsis}"'
    yield f".B {_roff(calls)}"
    yield _roff(" ".join(_form(p) for p in command.params if p.name != "help"))
    yield f'.SH "{description}"'
    yield _roff(said)
    yield f'.SH "{options}"'
    for param in command.params:
        if param.param_type_name == "option" and getattr(param, "help", None):
            yield ".TP"
            yield f".B {_roff(_form(param).strip('[]'))}"
            yield _roff(" ".join(param.help.split()))
    below = getattr(command, "commands", {})
    if below:
        yield f'.SH "{commands}"'
    for word in sorted(below):
        yield ".TP"
        yield f".B {_roff(f'{calls} {word}')}"
        yield _roff(" ".join((below[word].help or "").split()))
    if command.epilog:
        yield f'.SH "{examples}"'
        yield ".nf"
        for call in command.epilog.partition("  ")[2].split("  |  "):
            yield _roff(call.strip())
        yield ".fi"
    yield f'.SH "{also}"'
    yield ", ".join(f"{_roff(other)}(1)" for other in names if other != name)


def _form(param: Any) -> str:
    """An argument or option as it is typed."""
    if param.param_type_name == "argument":
        word = param.name.upper()
    else:
        metavar = "" if param.is_flag else f" {param.metavar or param.name.upper()}"
        word = ", ".join(param.opts) + metavar
    return word if param.required else f"[{word}]"


def _roff(text: str) -> str:
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{safe}" if safe.startswith((".", "'")) else safe


def completions(out: Path) -> None:
    """Write what each shell reads."""
    from typer.completion import (  # type: ignore[attr-defined]
        get_completion_script,
    )

    for shell, name in COMPLETIONS.items():
        path = out / "completion" / name
        path.parent.mkdir(parents=True)
        text = get_completion_script(
            prog_name="fep", complete_var="_FEP_COMPLETE", shell=shell
        )
        path.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    target = Path(sys.argv[1])
    if len(sys.argv) == 3:
        main(target, sys.argv[2])
    else:
        completions(target)
        for spoken in WORDS:
            env = {
                **os.environ,
                "LC_ALL": f"{spoken}_{'CN' if spoken == 'zh' else 'US'}.UTF-8",
            }
            subprocess.run(
                [sys.executable, __file__, target, spoken], check=True, env=env
            )
