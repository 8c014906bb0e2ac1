# SPDX-License-Identifier: Apache-2.0
"""docs/lookup.md as its readers follow it: curl, openssl's files, a real department."""

from __future__ import annotations

import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from agent.demo import asking, department, documents, site, story
from agent.demo.site import Site
from agent.wire.lookup import REASONS
from agent.wire.problem import CODES
from tests.support import shell_examples
from tests.support.postgres import free_port

pytestmark = pytest.mark.contract

PAGE = Path(__file__).parents[3] / "docs" / "lookup.md"
LISTENER = "10.99.1.20:8444"
"""The address that the page names."""
PATIENCE_S = 120.0


@dataclass(frozen=True)
class World:
    """What ``fep demo --serve`` leaves running, with a listener besides."""

    place: Site
    port: int


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """Exchange and agent as processes, the sample department behind them."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fep"))
        place, _ = stack.enter_context(site.claimed(Path(folder) / "d", rows=500))
        department.build(place.source, rows=500)
        exchange = stack.enter_context(site.sandbox(place))
        documents.write(place, exchange)
        port = free_port()
        with place.config.open("a", encoding="utf-8") as settings:
            settings.write(f'[lookup]\nlisten = "127.0.0.1:{port}"\n')
        story._enrol(place)
        stack.enter_context(site.daemon(place))
        asking.activate(place)
        wait_open(port)
        yield World(place, port)


def wait_open(port: int) -> None:
    """Until the listener's process is there."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < until
            time.sleep(0.05)
        else:
            return


def test_the_page_does_what_it_says(world: World) -> None:
    """Every command ends well and prints what stands below it."""
    page = PAGE.read_text("utf-8")
    page = page.replace(LISTENER, f"127.0.0.1:{world.port}")
    found = shell_examples.examples(page)
    assert sum(bool(one.expected) for one in found) > 15
    folder = world.place.folder
    env = {
        "D": str(folder),
        "PATH": f"{Path(sys.executable).parent}:{_path()}",
        "LANG": "en",
    }
    printed = shell_examples.run(found, folder, env=env, timeout_s=PATIENCE_S)
    wrong = [
        (one.commands, lost, text)
        for one, text in zip(found, printed, strict=True)
        if (lost := shell_examples.missing(one.expected, text)) is not None
    ]
    assert wrong == []


def _path() -> str:
    """Where the programs of the page are."""
    found = {str(Path(p).parent) for p in map(shutil.which, ("curl", "sqlite3")) if p}
    return ":".join([*sorted(found), "/usr/bin", "/bin"])


def rows(heading: str) -> list[str]:
    """First cells of the table below a heading."""
    page = PAGE.read_text("utf-8")
    part = page.split(f"\n### {heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| ([^|]+) \|", part, re.MULTILINE)[1:]


def test_the_page_has_every_reason() -> None:
    """One row each."""
    named = [cell.strip("`") for cell in rows("Reasons · 原因")]
    assert sorted(named) == sorted(REASONS)


def test_the_page_has_every_problem_of_a_lookup() -> None:
    """Each code with the status that it really has."""
    named = {}
    for cell in rows("Statuses · 状态"):
        for status, code in re.findall(r"([0-9]{3})[^`0-9]*`([a-z-]+)`", cell):
            named[code] = int(status)
    wanted = {
        "malformed",
        "too-large",
        "unauthenticated",
        "forbidden",
        "not-found",
        "bad-signature",
        "key-revoked",
        "no-channel",
        "no-answer",
        "held",
    }
    assert {code: CODES[code] for code in wanted} == {
        code: status for code, status in named.items() if code != "busy"
    }
    assert named["busy"] in {429, CODES["busy"]}
