# SPDX-License-Identifier: Apache-2.0
"""Packages for the tests: made by ``scripts/package``, hardly compressed.

``FEP_DIST`` names a folder with finished ones, ``x86_64/`` and ``aarch64/`` in it, such
as those of a release.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from functools import cache
from pathlib import Path

from tests.support.debian import CACHE, ROOT, run

DIST = CACHE / "dist"


@cache
def made(arch: str = "x86_64") -> Path:
    """Folder with every package for a machine."""
    if told := os.environ.get("FEP_DIST"):
        return Path(told).absolute() / arch
    return make(arch, DIST / arch)


def make(arch: str, folder: Path) -> Path:
    """Make them anew into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    words: list[str | Path] = ["--fast", "--arch", arch, "--out", folder]
    run(ROOT / "scripts/package", *words, timeout=1800)
    return folder


def package(name: str, kind: str, arch: str = "x86_64") -> Path:
    """One file: deb, rpm or run."""
    found = [p for p in made(arch).glob(f"*.{kind}") if _name(p) == name]
    assert len(found) == 1, (name, kind, found)
    return found[0]


def _name(path: Path) -> str:
    return re.split(r"[_-][0-9]", path.name)[0]


def next_version(package: Path, folder: Path) -> Path:
    """The same package as a later version; the agent's program says so too."""
    root = folder / "next"
    run("dpkg-deb", "--raw-extract", package, root)
    control = root / "DEBIAN/control"
    text = control.read_text("utf-8")
    text, count = re.subn(r"^Version: (.+)$", r"Version: \1+next", text, flags=re.M)
    assert count == 1
    text = re.sub(r"^(Depends: fep \(= [^)]+)\)", r"\1+next)", text, flags=re.M)
    control.write_text(text, "utf-8")
    for module in root.glob(
        "opt/fep/python/lib/python3*/site-packages/agent/__init__.py"
    ):
        text = module.read_text("utf-8")
        text, count = re.subn(
            r'^VERSION = "(.+)"$', r'VERSION = "\1+next"', text, flags=re.M
        )
        assert count == 1
        module.write_text(text, "utf-8")
        for stale in module.parent.glob("__pycache__/__init__.*"):
            stale.unlink()
    out = folder / f"next-{package.name}"
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", root, out)
    shutil.rmtree(root)
    return out


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def needed_glibc(package: Path, *, machine: str = "x86_64") -> tuple[int, ...]:
    """Newest glibc that an ELF file of a package asks for, read without the packager.

    Every such file must be for the machine.
    """
    machines = {"x86_64": "X86-64", "aarch64": "AArch64"}
    with tempfile.TemporaryDirectory(dir=CACHE) as place:
        root = Path(place)
        if package.suffix == ".deb":
            run("dpkg-deb", "--extract", package, root)
        else:
            run(
                "sh",
                "-c",
                'rpm2cpio "$1" | cpio -idm --quiet -D "$2"',
                "-",
                package,
                root,
            )
        programs = [p for p in root.rglob("*") if p.is_file() and _is_elf(p)]
        assert programs
        newest: tuple[int, ...] = ()
        for path in programs:
            said = run("readelf", "-hV", "--wide", path)
            kind = re.search(r"Machine:\s+(.+)", said)
            assert kind is not None
            assert machines[machine] in kind[1], path
            needs = said.partition("Version needs")[2]
            for number in re.findall(r"Name: GLIBC_([0-9.]+)", needs):
                newest = max(newest, tuple(map(int, number.split("."))))
    return newest
