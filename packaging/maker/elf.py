# SPDX-License-Identifier: Apache-2.0
"""What a program or library needs of the system that runs it, read from its file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MAGIC = b"\x7fELF"
MACHINES = {
    "Advanced Micro Devices X86-64": "x86_64",
    "AArch64": "aarch64",
}
_NEEDED = re.compile(r"\(NEEDED\).*\[(.+)\]")
_OFFERED = re.compile(r" (FUNC|OBJECT) +(GLOBAL|WEAK) +(DEFAULT|PROTECTED) +[0-9]+ ")
_VERSION = re.compile(r"Name: (GLIBC|GLIBCXX|CXXABI|GCC)_([0-9.]+)")


@dataclass(frozen=True)
class Elf:
    """One file.

    Args:
        path: where it is.
        machine: as in ``uname -m``.
        needed: libraries that the loader must find.
        versions: family -> newest symbol version wanted of it.
    """

    path: Path
    machine: str
    needed: frozenset[str]
    versions: dict[str, tuple[int, ...]]


def files(folder: Path) -> Iterator[Path]:
    """Every ELF file below a folder."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4) == MAGIC:
                    yield path


def read(path: Path) -> Elf:
    """What ``readelf`` says of it."""
    text = subprocess.run(
        ["readelf", "--wide", "-h", "-d", "-V", str(path)],
        capture_output=True,
        text=True,
        errors="replace",
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=True,
    ).stdout
    machine = re.search(r"Machine:\s+(.+)", text)
    versions: dict[str, tuple[int, ...]] = {}
    for family, number in _VERSION.findall(text.partition("Version needs")[2]):
        found = tuple(int(part) for part in number.split("."))
        versions[family] = max(found, versions.get(family, ()))
    return Elf(
        path=path,
        machine=MACHINES.get(machine[1].strip() if machine else "", "unknown"),
        needed=frozenset(_NEEDED.findall(text)),
        versions=versions,
    )


def offered(path: Path) -> frozenset[str]:
    """Names of the functions and values that a file lets others find in it."""
    text = subprocess.run(
        ["readelf", "--wide", "--dyn-syms", str(path)],
        capture_output=True,
        text=True,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        check=True,
    ).stdout
    found = (line.split() for line in text.splitlines() if _OFFERED.search(line))
    return frozenset(words[7].partition("@")[0] for words in found)


@dataclass(frozen=True)
class Needs:
    """What a whole folder needs.

    Args:
        count: of ELF files.
        versions: family -> the newest version wanted, and by whom.
        libraries: wanted of the system: in no file of the folder.
    """

    count: int
    versions: dict[str, tuple[tuple[int, ...], Path]]
    libraries: frozenset[str]


def needs(folder: Path, *, machine: str, beside: Path | None = None) -> Needs:
    """Read every file below a folder.

    Args:
        folder: where to look.
        machine: what each file must be for.
        beside: another folder whose libraries will be there too.

    Raises:
        ValueError: a file is for another machine.
    """
    found = [read(path) for path in files(folder)]
    if strange := [str(e.path) for e in found if e.machine != machine]:
        raise ValueError(f"not for {machine}: {strange[:5]}")
    versions: dict[str, tuple[tuple[int, ...], Path]] = {}
    for elf in found:
        for family, number in elf.versions.items():
            versions[family] = max(
                (number, elf.path), versions.get(family, ((), elf.path))
            )
    own = {path.name for path in files(folder)}
    if beside is not None:
        own |= {path.name for path in files(beside)}
    wanted = {name for elf in found for name in elf.needed}
    return Needs(len(found), versions, frozenset(wanted - own))
