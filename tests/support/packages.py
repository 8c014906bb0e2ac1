# SPDX-License-Identifier: Apache-2.0
"""Packages for the tests: made by ``scripts/package``, hardly compressed.

``FEP_DIST`` names a folder with finished ones, such as those of a release.
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
def made(kinds: str, arch: str = "x86_64") -> dict[str, Path]:
    """Package -> its file, of these kinds."""
    folder = Path(os.environ.get("FEP_DIST", DIST / arch))
    if "FEP_DIST" not in os.environ:
        shutil.rmtree(folder, ignore_errors=True)
        words = ["--fast", "--kinds", kinds, "--arch", arch, "--out", folder]
        run(ROOT / "scripts/package", *words, timeout=1800)
    return {
        re.split(r"[_-][0-9]", path.name)[0]: path
        for path in sorted(folder.iterdir())
        if path.suffix.lstrip(".") in kinds.split(",")
    }


def debs() -> dict[str, Path]:
    """The ``.deb`` files."""
    return made("deb")


def next_version(package: Path, folder: Path) -> Path:
    """The same package as a later version, whose program says so."""
    root = folder / "next"
    run("dpkg-deb", "--raw-extract", package, root)
    for control in (root / "DEBIAN/control",):
        text = control.read_text("utf-8")
        text, count = re.subn(r"^Version: (.+)$", r"Version: \1+next", text, flags=re.M)
        assert count == 1
        control.write_text(text, "utf-8")
    [module] = root.glob("opt/fep/python/lib/python3*/site-packages/agent/__init__.py")
    text = module.read_text("utf-8")
    text, count = re.subn(
        r'^VERSION = "(.+)"$', r'VERSION = "\1+next"', text, flags=re.M
    )
    assert count == 1
    module.write_text(text, "utf-8")
    for stale in module.parent.glob("__pycache__/__init__.*"):
        stale.unlink()
    out = folder / "next.deb"
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
        assert len(programs) > 100
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
