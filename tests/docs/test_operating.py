# SPDX-License-Identifier: Apache-2.0
"""What the manual tells people to type and to look up exists."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from agent.cli.main import app
from agent.errors import all_errors

DOCS = Path(__file__).resolve().parents[2] / "docs"
CODES = [cls.code for cls in all_errors()]
COMMAND = re.compile(r"(?:^|`|sudo -u fep )fep ([a-z][^`\n#|]*)", re.MULTILINE)


def page(name: str) -> str:
    """A page of the documentation."""
    return (DOCS / name).read_text("utf-8")


def unknown(words: str) -> list[str]:
    """Words of ``fep WORDS`` that are no command and no option of it."""
    ctx = typer.Context(typer.main.get_command(app))
    command: Any = ctx.command
    for word in words.split():
        below = getattr(command, "get_command", lambda *_: None)(ctx, word)
        if below is not None:
            command = below
        elif hasattr(command, "list_commands"):
            return [word]
    options = {o for p in command.params for o in p.opts} | {"--help"}
    return [w for w in words.split() if w.startswith("--") and w not in options]


def test_the_manual_has_every_code_and_no_other() -> None:
    """Each error of the tree has one row that says what to do."""
    rows = re.findall(r"^\| `([a-z-]+)` \| .+ \| .+ \|$", page("operating.md"), re.M)
    assert sorted(rows) == sorted(CODES)


@pytest.mark.parametrize("code", CODES)
def test_every_code_stands_in_the_catalogue(code: str) -> None:
    """docs/errors.md has a heading for it, and the manual leads there."""
    assert f"### `{code}` (exit " in page("errors.md")
    assert "](errors.md)" in page("operating.md")


def test_every_command_of_the_manual_exists() -> None:
    """Command, subcommand and options are those of the program."""
    found = COMMAND.findall(page("operating.md"))
    assert len(found) > 20
    assert {words: bad for words in found if (bad := unknown(words))} == {}


@pytest.mark.parametrize("cls", all_errors(), ids=lambda cls: cls.code)
def test_every_next_step_names_a_command_that_exists(cls: Any) -> None:
    """A remedy never sends a person to a command that is not there."""
    found = COMMAND.findall(f"{cls.remedy.en}\n{cls.remedy.zh}")
    assert [bad for words in found if (bad := unknown(words))] == []
