# SPDX-License-Identifier: Apache-2.0
"""The locked libraries for one machine, installed into a folder and trimmed.

pip runs in the interpreter that the packages get, so that it reads every marker of the
lock as that one would; only what is said about the machine may differ from here.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from maker import elf, runtime
from maker.place import CACHE, GLIBC, ROOT, Failed, Words, kept, key, run, say, tool

LOCK = ROOT / "requirements.lock"
NOT_INSTALLED = frozenset({"pip", "setuptools"})
"""In the lock for building and for a command of sqlite-utils that nobody calls."""

TAGS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014")

_UNUSED = (
    "bin",
    "*/tests",
    "numpy/**/tests",
    "numpy/_core/include",
    "numpy/_core/lib",
    "numpy/f2py",
    "numpy/random/lib",
    "numpy/**/*.pxd",
    "numpy/**/*.pyi",
    "pkcs11/*.pxd",
    "pkcs11/*.pyx",
    "pyarrow/include",
    "pyarrow/src",
    "pyarrow/**/*.pyx",
    "pyarrow/**/*.pxd",
    "pyarrow/**/*.pxi",
    "pyarrow/**/*.h",
    "pyarrow/_flight*",
    "pyarrow/flight.py",
    "pyarrow/libarrow_flight*",
    "pyarrow/libarrow_python_flight*",
    "**/*.a",
)
"""Tests, headers, stubs, and a network protocol of Arrow that no agent speaks."""


def wheels(arch: str) -> Path:
    """A ``site-packages`` of every library, from the cache if it is there."""
    here = key([LOCK, Path(__file__)], arch)
    made = runtime.runtime(arch)
    folder = CACHE / f"wheels-{arch}-{here}-{made.name.rpartition('-')[2]}"
    return kept(folder, lambda growing: _make(arch, growing))


def _make(arch: str, folder: Path) -> None:
    say(f"installing the locked wheels for {arch}")
    lock = folder / "lock.txt"
    lock.write_text(_wanted(LOCK.read_text("utf-8")), "utf-8")
    words: Words = [
        "-IB",
        tool("pip"),
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ]
    words += ["--target", folder, "--no-deps", "--no-compile", "--require-hashes"]
    words += ["--only-binary=:all:", "--implementation=cp", "--python-version=313"]
    words += [f"--abi={abi}" for abi in ("cp313", "abi3", "none")]
    words += [f"--platform={tag}_{arch}" for tag in TAGS]
    run([runtime.python(), *words, "-r", lock])
    lock.unlink()
    for pattern in _UNUSED:
        for path in sorted(folder.glob(pattern)):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in sorted(folder.glob("*.dist-info/*")):
        if path.name in {"direct_url.json", "REQUESTED"}:
            path.unlink()
    _judge(folder, arch)


def _wanted(lock: str) -> str:
    """The lock without what is not installed."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", lock)
    return "\n".join(e for e in entries if e.partition("==")[0] not in NOT_INSTALLED)


def _judge(folder: Path, arch: str) -> None:
    found = elf.needs(folder, machine=arch)
    newest, path = found.versions["GLIBC"]
    if newest > GLIBC:
        raise Failed(f"{path}: needs glibc {newest}, at most {GLIBC} may be")
    for path in sorted(folder.glob("*.dist-info/WHEEL")):
        for tag in re.findall(r"^Tag: (\S+)$", path.read_text("utf-8"), re.MULTILINE):
            if not re.search(rf"-(any|[a-z0-9_.]*_{arch}.*)$", tag):
                raise Failed(f"{path}: a wheel for {tag}")
