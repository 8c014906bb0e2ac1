# SPDX-License-Identifier: Apache-2.0
"""A whole Debian in a folder, made once by debootstrap and never written to."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".work" / "booted"
BOOTS = ("bookworm", "systemd", "systemd-sysv", "dbus", "iproute2")
"""A system that boots."""
OLDER = ("bullseye", "rpm", "libstdc++6", "systemd", "systemd-sysv", "dbus")
"""One with an older C library, the other packager, and systemd 247."""
ROOM_MB = 3000
"""What a system of one's own is written at most."""


class NotDone(AssertionError):
    """A program that should have ended long ago."""


def run(*words: str | Path, timeout: float = 120, check: bool = True) -> str:
    """A program to its end; what it printed, errors too."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        said = (e.output or b"").decode("utf-8", "replace")
        raise NotDone(f"{words}: not done in {timeout} s\n{said}") from None
    if check and done.returncode != 0:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout[-4000:]}")
    return done.stdout


def checksum(path: Path) -> str:
    """SHA-256 of a file in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(suite: str, *packages: str) -> Path:
    """A minimal system with these packages besides; not to be written to."""
    made_of = "\n".join((suite, *packages))
    name = f"{suite}-{hashlib.sha256(made_of.encode()).hexdigest()[:8]}"
    folder = CACHE / name
    if not folder.is_dir():
        growing = CACHE / f"{name}.part"
        shutil.rmtree(growing, ignore_errors=True)
        growing.parent.mkdir(parents=True, exist_ok=True)
        run(
            "debootstrap",
            "--variant=minbase",
            f"--include={','.join(packages)}",
            suite,
            growing,
            _archive(),
            timeout=600,
        )
        shutil.rmtree(growing / "var/cache/apt", ignore_errors=True)
        growing.rename(folder)
    return folder


@contextmanager
def own(base: Path, folder: Path) -> Iterator[Path]:
    """A system of one's own: what is written to it lies beside the base.

    It lies in memory where there is plenty. An installation deletes thousands of files,
    and on a disk that is told of each freed block that can take a minute.
    """
    folder.mkdir(parents=True)
    in_memory = _free_mb() > 3 * ROOM_MB
    if in_memory:
        run("mount", "-t", "tmpfs", "-o", f"size={ROOM_MB}m", "fep-test", folder)
    try:
        with _layered(base, folder) as root:
            yield root
    finally:
        if in_memory:
            run("umount", "--lazy", folder)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _layered(base: Path, folder: Path) -> Iterator[Path]:
    for name in ("written", "work", "root"):
        (folder / name).mkdir()
    layers = f"lowerdir={base},upperdir={folder}/written,workdir={folder}/work"
    root = folder / "root"
    run("mount", "-t", "overlay", "-o", layers, "fep-test", root)
    try:
        yield root
    finally:
        run("umount", "--lazy", root)


def _free_mb() -> int:
    """Memory that this machine can give."""
    text = Path("/proc/meminfo").read_text("ascii")
    found = re.search(r"^MemAvailable: +(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) // 1000 if found else 0


def _archive() -> str:
    """Where this machine has its own packages from."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian")
    places = sorted({line for line in told.split() if "security" not in line})
    assert places, "apt knows no archive of Debian"
    return places[0]


if __name__ == "__main__":
    for wanted in (BOOTS, OLDER):
        tree(*wanted)
