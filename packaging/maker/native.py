# SPDX-License-Identifier: Apache-2.0
"""The library of ``connectors/native``, compiled for the machine of a package.

``scripts/native`` knows the sources and flags; here zig links it against the oldest
glibc that the packages serve, and the result is judged: a machine that cannot load it
would read nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

from maker import elf
from maker.place import CACHE, GLIBC, ROOT, Failed, run, tool

NAME = "connectors/native/libfepcolumns.so"
NOT_SHIPPED = frozenset({".c", ".h", ".map", ".so"})
"""Of ``connectors/native``: the sources, and what was compiled for this machine."""

_GLIBC = re.compile(r"(libc|libm|ld-linux.*)\.so\.")


def build(arch: str, path: Path) -> None:
    """Compile it for ``arch``, without what only a debugger reads.

    Raises:
        Failed: it does not compile, or would not be loaded there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    env = {
        "CC": "",
        "CFLAGS": "-Werror -g0 -s",
        "ZIG": str(tool("zig")),
        "ARCH": arch,
        "ZIG_GLOBAL_CACHE_DIR": str(CACHE / "zig"),
        "LC_ALL": "C",
    }
    run([ROOT / "scripts" / "native", path], env=env)
    judge(path, arch)


def judge(path: Path, arch: str) -> None:
    """Refuse a library that is for another machine, needs too much, or offers too much.

    Raises:
        Failed: with what it is.
    """
    found = elf.read(path)
    if found.machine != arch:
        raise Failed(f"{path}: for {found.machine}, expected {arch}")
    if found.versions.get("GLIBC", ()) > GLIBC:
        raise Failed(f"{path}: needs glibc {found.versions['GLIBC']}")
    if strange := [name for name in found.needed if not _GLIBC.match(name)]:
        raise Failed(f"{path}: needs {sorted(strange)}")
    offered = elf.offered(path)
    if not offered or any(not name.startswith("fep_") for name in offered):
        raise Failed(f"{path}: offers {sorted(offered)}")
