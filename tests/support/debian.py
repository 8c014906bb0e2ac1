# SPDX-License-Identifier: Apache-2.0
"""A whole Debian in a folder, made once by debootstrap and never written to."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".work" / "booted"
BOOTS = ("bookworm", "systemd", "systemd-sysv", "dbus", "iproute2")
"""A system that boots."""
OLDER = ("bullseye", "rpm", "libstdc++6")
"""One with an older C library and the other packager."""


def run(*words: str | Path, timeout: float = 120, check: bool = True) -> str:
    """A program to its end; what it printed, errors too."""
    try:
        done = subprocess.run(
            [str(word) for word in words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as e:
        said = (e.output or b"").decode("utf-8", "replace")
        raise AssertionError(f"{words}: not done in {timeout} s\n{said}") from None
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
    """A system of one's own: what is written to it lies beside the base."""
    for name in ("written", "work", "root"):
        (folder / name).mkdir(parents=True)
    layers = f"lowerdir={base},upperdir={folder}/written,workdir={folder}/work"
    root = folder / "root"
    run("mount", "-t", "overlay", "-o", layers, "fep-test", root)
    try:
        yield root
    finally:
        run("umount", "--lazy", root)
        shutil.rmtree(folder, ignore_errors=True)


def _archive() -> str:
    """Where this machine has its own packages from."""
    told = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian")
    places = sorted({line for line in told.split() if "security" not in line})
    assert places, "apt knows no archive of Debian"
    return places[0]


if __name__ == "__main__":
    for wanted in (BOOTS, OLDER):
        tree(*wanted)
