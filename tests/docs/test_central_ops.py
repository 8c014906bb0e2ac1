# SPDX-License-Identifier: Apache-2.0
"""What the page for central ops tells people to type exists, and its examples fit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from agent.central.roles import PATHS, role_of
from agent.cli.common.central_bench import judge
from agent.wire import strict
from tests.docs.test_operating import COMMAND, page, unknown

FILE = re.compile(r"^city/(\S+) +(\{.*)$", re.M)


def text() -> str:
    """The page, with commands that go on in the next line put together."""
    return re.sub(r"(?<=city)\n(?=--)", " ", page("central-ops.md"))


def commands() -> list[str]:
    """What stands behind ``fep`` in the page."""
    return [words for words in COMMAND.findall(text()) if words.startswith("central")]


def test_every_command_of_the_page_exists() -> None:
    """Subcommand and options are those of the program."""
    found = commands()
    assert len(found) > 20
    assert {words: bad for words in found if (bad := unknown(words))} == {}


@pytest.mark.parametrize(
    "command",
    [
        "keygen",
        "init",
        "member",
        "draft",
        "diff",
        "sign",
        "publish",
        "refresh",
        "rotate",
        "revoke",
        "brake",
        "fleet",
    ],
)
def test_page_shows_every_command(command: str) -> None:
    """With an example."""
    assert any(words.split()[1:2] == [command] for words in commands())


def test_documents_of_the_page_can_be_published() -> None:
    """Each is what its path says, once it has its generation."""
    joined = re.sub(r",\n +", ", ", text())
    found = FILE.findall(joined)
    assert len(found) == 4
    for path, body in found:
        role_of(path)
        content = strict.dumps({"v": 1, "generation": 1} | json.loads(body))
        assert list(judge(path, content)) == []


@pytest.mark.parametrize("role", ["root", "snapshot", "timestamp", *PATHS])
def test_page_says_who_holds_every_role(role: str) -> None:
    """One row of its table."""
    assert re.search(rf"^\| [^|]*\b{role}\b[^|]* \|", text(), re.M)


def test_page_is_found_from_both_readmes() -> None:
    """A person who looks for it gets there."""
    root = Path(__file__).parents[2]
    for name in ("README.md", "README.zh-CN.md"):
        assert "(docs/central-ops.md)" in (root / name).read_text("utf-8")
