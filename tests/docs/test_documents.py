# SPDX-License-Identifier: Apache-2.0
"""Documents that cannot drift: what they claim is looked up in the code."""

import configparser
import os
import re
from pathlib import Path

import pytest

from agent.crypto import jose
from agent.wire import problem

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not path.name.startswith(".")
)
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)]*)?\)")
BLOCK = re.compile(r"```\n(.*?)```", re.DOTALL)


def text(name: str) -> str:
    """A document of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """A link to a file of the repository names a file that is there."""
    targets = [m[1] for m in LINK.finditer(page.read_text(encoding="utf-8"))]
    local = [t for t in targets if "://" not in t]
    assert [t for t in local if not (page.parent / t).exists()] == []


def test_both_readmes_are_in_step() -> None:
    """The Chinese README has the links, and its block the commands, of the English."""
    pages = [text("README.md"), text("README.zh-CN.md")]
    links = [{m[1] for m in LINK.finditer(page)} for page in pages]
    assert links[0] - {"README.zh-CN.md"} == links[1] - {"README.md"}
    commands = [
        [
            line.split("#")[0].strip()
            for block in BLOCK.findall(page)
            for line in block.splitlines()
        ]
        for page in pages
    ]
    assert commands[0] == commands[1]


def test_a_readme_is_read_in_a_minute() -> None:
    """Problem, what, and the two commands stand within 30 lines."""
    lines = text("README.md").splitlines()
    assert len(lines) <= 30


def test_every_script_that_a_page_names_can_be_started() -> None:
    """Each scripts/NAME in a document is an executable file."""
    named = {
        m
        for page in PAGES
        for m in re.findall(r"scripts/[a-z]+", page.read_text(encoding="utf-8"))
    }
    assert named
    assert [n for n in sorted(named) if not os.access(ROOT / n, os.X_OK)] == []


def test_the_layer_line_is_the_contract() -> None:
    """docs/architecture.md lists the layers exactly as import-linter holds them."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = cfg["importlinter:contract:layers"]["layers"].split("\n")
    held = " > ".join(line.replace(" ", "") for line in layers if line.strip())
    drawn = re.search(r"^cli > .*$", text("docs/architecture.md"), re.MULTILINE)
    assert drawn is not None
    assert drawn[0] == held


def test_every_room_of_the_agent_stands_on_the_plan() -> None:
    """A top-level module of the agent is named in docs/architecture.md."""
    plan = text("docs/architecture.md")
    rooms = [
        path.name
        for path in (ROOT / "agent").iterdir()
        if not path.name.startswith("__")
    ]
    assert [room for room in sorted(rooms) if f"{room}" not in plan] == []


def test_the_wire_page_names_every_type_and_problem() -> None:
    """docs/wire.md has each typ that can be signed, and each problem code."""
    page = text("docs/wire.md")
    kinds = [typ.removeprefix("fep-").removesuffix("+jws") for typ in jose.PURPOSE]
    codes = [*problem.CODES, *problem.REJECTED]
    assert [word for word in [*kinds, *codes] if f"`{word}`" not in page] == []


def test_every_change_fragment_has_a_kind() -> None:
    """A fragment is called <number>.<kind>.md."""
    names = [p.name for p in (ROOT / "docs" / "changes").glob("*.md")]
    pattern = re.compile(r"\d+\.(added|changed|fixed|security)\.md|README\.md")
    assert [n for n in names if not pattern.fullmatch(n)] == []
