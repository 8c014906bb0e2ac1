# SPDX-License-Identifier: Apache-2.0
"""The interpreter of the packages: compiled once, trimmed, and judged.

``build`` beside ``sources.toml`` compiles it; here it loses what nobody runs and every
path of the machine that built it. A runtime that lacks a module or needs a newer glibc
is not kept: configure leaves out silently what it could not link.
"""

from __future__ import annotations

import platform
import re
import shutil
from pathlib import Path

from maker import elf, sources
from maker.place import (
    CACHE,
    GLIBC,
    PACKAGING,
    PYTHON,
    Failed,
    checksum,
    kept,
    key,
    run,
    say,
    tool,
)

BUILD = PACKAGING / "runtime" / "build"
MODULES = (
    *("ssl", "_hashlib", "hashlib", "sqlite3", "ctypes", "lzma", "bz2", "zlib"),
    *("asyncio", "_asyncio", "socket", "_socket", "select", "mmap", "fcntl", "array"),
    *("multiprocessing", "_multiprocessing", "_posixshmem", "resource", "termios"),
    *("grp", "syslog", "unicodedata", "pyexpat", "_decimal", "_zoneinfo", "_bisect"),
    *("_heapq", "_json", "_struct", "_blake2", "_sha2", "binascii", "math", "cmath"),
    *("_datetime", "_pickle", "_random"),
)
"""What configure drops without a word if a library is not found."""

SQLITE = frozenset({"sqlite3_open_v2", "sqlite3_step", "sqlite3_column_blob"})
"""What the module ``_sqlite3`` must offer: all of SQLite's header comes with it."""

_UNUSED = (
    "include",
    "share",
    "lib/pkgconfig",
    f"lib/python{PYTHON}/idlelib",
    f"lib/python{PYTHON}/tkinter",
    f"lib/python{PYTHON}/turtledemo",
    f"lib/python{PYTHON}/turtle.py",
    f"lib/python{PYTHON}/ensurepip",
    f"lib/python{PYTHON}/pydoc_data",
    f"lib/python{PYTHON}/__phello__",
)
_EXTENSION = re.compile(r"\.cpython-\d+-[a-z0-9_]+-linux-gnu\.so$")


def runtime(arch: str) -> Path:
    """The folder that becomes ``/opt/fep/python``, from the cache if it is there."""
    folder = CACHE / f"runtime-{arch}-{_key(arch)}"
    return kept(folder, lambda growing: _make(arch, growing))


def python(arch: str | None = None) -> Path:
    """The interpreter itself; the one that runs here if nothing is said."""
    return runtime(arch or host()) / "bin" / f"python{PYTHON}"


def host() -> str:
    """What this machine is."""
    return platform.machine()


def _key(arch: str) -> str:
    files = [sources.LOCK, BUILD, PACKAGING / "tools.lock", Path(__file__)]
    return key(files, arch)


def _make(arch: str, folder: Path) -> None:
    if host() != "x86_64":
        raise Failed("the runtime is compiled on x86_64, for both machines")
    say(f"compiling the runtime for {arch}: about five minutes, once")
    work = CACHE / f"compile-{arch}"
    shutil.rmtree(work, ignore_errors=True)
    chosen = sources.fetched()
    for source in chosen:
        sources.unpack(source, work / "sources" / source.name)
    env = {
        "ZIG": str(tool("zig")),
        "ZIG_CACHE": str(CACHE / "zig"),
        "SOURCE_DATE_EPOCH": str(sources.lock()[0]),
        "LC_ALL": "C",
    }
    if arch != host():
        env["BUILD_PYTHON"] = str(python())
    run([BUILD, arch, work / "sources", work / "out"], env=env)
    made = work / "out" / "made"
    _trim(made)
    _forget(made)
    _judge(made, arch)
    for item in made.iterdir():
        item.rename(folder / item.name)
    lines = [f"{s.name} {s.upstream} {s.package} {s.version}" for s in chosen]
    (folder / "sources.txt").write_text("\n".join(lines) + "\n", "utf-8")
    shutil.rmtree(work)


def _trim(made: Path) -> None:
    for name in _UNUSED:
        path = made / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    library = made / "lib" / f"python{PYTHON}"
    for path in library.glob("config-*"):
        shutil.rmtree(path)
    for path in (made / "bin").iterdir():
        if path.name != f"python{PYTHON}":
            path.unlink()
    for path in sorted(made.rglob("__pycache__")):
        shutil.rmtree(path)


def _forget(made: Path) -> None:
    """Take this machine's folders out of the texts that remember them."""
    for path in (made / "lib" / f"python{PYTHON}").glob("_sysconfig*"):
        text = path.read_text("utf-8")
        path.write_text(re.sub(re.escape(str(CACHE)) + r"[^\s'\"]*", "/build", text))


def _judge(made: Path, arch: str) -> None:
    """Refuse a runtime that would fail elsewhere.

    Raises:
        Failed: a module is missing, a symbol is too new, a path of ours stayed.
    """
    library = made / "lib" / f"python{PYTHON}"
    if arch == host():
        code = f"import {', '.join(MODULES)}; print(ssl.OPENSSL_VERSION)"
        say(run([made / "bin" / f"python{PYTHON}", "-IB", "-c", code]).strip())
    else:
        _same_modules(library, python().parents[1] / "lib" / f"python{PYTHON}")
    found = elf.needs(made, machine=arch)
    newest, path = found.versions["GLIBC"]
    if newest > GLIBC:
        raise Failed(f"{path}: needs glibc {newest}, at most {GLIBC} may be")
    ours = str(CACHE).encode()
    for path in sorted(made.rglob("*")):
        if path.is_file() and ours in path.read_bytes():
            raise Failed(f"{path}: still holds a folder of the build")
    _judge_offers(library / "lib-dynload")


def _judge_offers(modules: Path) -> None:
    """SQLite can be called in its module; OpenSSL's C is nobody's but its modules'."""
    for path in modules.glob("*.so"):
        names = elf.offered(path)
        if path.name.startswith("_sqlite3.") and not names >= SQLITE:
            raise Failed(f"{path}: does not offer {sorted(SQLITE - names)}")
        if hidden := [n for n in names if n.startswith(("SSL_", "EVP_"))]:
            raise Failed(f"{path}: offers {sorted(hidden)[:5]}")


def _same_modules(library: Path, reference: Path) -> None:
    """A cross-compiled runtime cannot be run here: it must hold the same modules."""
    names = [
        {_EXTENSION.sub("", path.name) for path in folder.glob("lib-dynload/*.so")}
        for folder in (library, reference)
    ]
    if names[0] != names[1]:
        raise Failed(f"modules differ from {host()}'s: {names[0] ^ names[1]}")


def digest(folder: Path) -> str:
    """One checksum of all files, links and modes below a folder."""
    lines = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.is_symlink():
            lines.append(f"{name} -> {path.readlink()}")
        elif path.is_file():
            mode = path.stat().st_mode & 0o777
            lines.append(f"{name} {mode:o} {checksum(path)}")
    return key([], *lines)
