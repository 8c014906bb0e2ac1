# SPDX-License-Identifier: Apache-2.0
"""The shell examples of a page, and what they say they print.

A fenced block of ``sh`` holds commands; lines that begin with ``#>`` name what the
commands before them print: each stands there, in this order, ``…`` for anything. All
blocks of a page are one session of bash, as a reader would type them.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_EXPECTED = "#>"


@dataclass(frozen=True)
class Example:
    """Some commands.

    Args:
        commands: their lines.
        expected: what they print, piece by piece; empty if nothing is said about it.
    """

    commands: str
    expected: tuple[str, ...]


def examples(page: str) -> list[Example]:
    """The examples of a page, in order."""
    return [one for block in _BLOCK.findall(page) for one in _of_block(block)]


def _of_block(block: str) -> list[Example]:
    found: list[Example] = []
    commands: list[str] = []
    expected: list[str] = []
    for line in block.splitlines():
        if line.startswith(_EXPECTED):
            expected.append(line.removeprefix(_EXPECTED).strip())
            continue
        if expected:
            found.append(Example("\n".join(commands), tuple(expected)))
            commands, expected = [], []
        commands.append(line)
    return [*found, Example("\n".join(commands), tuple(expected))]


def run(
    given: list[Example], folder: Path, *, env: Mapping[str, str], timeout_s: float
) -> list[str]:
    """Type them in one session; what each has printed, stderr included.

    Args:
        given: see there.
        folder: for the session's files; it starts there.
        env: more of the environment.
        timeout_s: longest time for all.

    Raises:
        AssertionError: a command failed.
    """
    script = ["set -eu -o pipefail"]
    for n, one in enumerate(given):
        script.append(f"{{\n{one.commands}\n}} >'{folder}/out.{n}' 2>&1")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={**os.environ, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    files = [folder / f"out.{n}" for n in range(len(given))]
    said = [f.read_text("utf-8") for f in files if f.exists()]
    if done.returncode:
        last = given[len(said) - 1].commands if said else ""
        raise AssertionError(f"{last}\n{said[-1:]}\n{done.stderr}")
    return said


def missing(expected: tuple[str, ...], printed: str) -> str | None:
    """The first piece that is not there after those before it; None if all are."""
    at = 0
    for piece in expected:
        pattern = ".*?".join(re.escape(part) for part in piece.split("…"))
        found = re.compile(pattern, re.DOTALL).search(printed, at)
        if found is None:
            return piece
        at = found.end()
    return None
