# SPDX-License-Identifier: Apache-2.0
"""``scripts/native`` with a compiler that only takes notes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.native_rows import ROOT

COMPILER = """\
#!/bin/sh
case "$*" in --version) echo "${RELEASE:-1}"; exit ;; esac
echo "$*" >>"$0.calls"
while [ "$1" != -o ]; do shift; done
echo compiled >"$2"
exit "${CODE:-0}"
"""


class Checkout:
    """A checkout in which it is called.

    Args:
        folder: empty.
    """

    def __init__(self, folder: Path) -> None:
        for name in ("scripts/native", "connectors/native", "packaging/tools.lock"):
            to = folder / name
            to.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, to)
        self.folder = folder
        self.made = folder / "connectors/native/libfepcolumns.so"
        self.made.unlink()
        self._compiler = folder / "compiler"
        self._compiler.write_text(COMPILER)
        self._compiler.chmod(0o755)

    def run(self, *words: str, code: int = 0, **env: str) -> int:
        """How often the compiler was called for it."""
        before = len(self.calls)
        told = {**os.environ, "CC": str(self._compiler), "CODE": str(code), **env}
        done = subprocess.run(
            [self.folder / "scripts/native", *words], env=told, check=False
        )
        assert done.returncode == code
        return len(self.calls) - before

    @property
    def calls(self) -> list[str]:
        """Arguments of every call that was to compile."""
        path = self.folder / "compiler.calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """A fresh one."""
    return Checkout(tmp_path)


def test_what_has_not_changed_is_not_compiled_again(checkout: Checkout) -> None:
    """Everything that prepares a checkout calls it, and it costs milliseconds."""
    assert checkout.run() == 1
    assert checkout.run() == 0
    assert checkout.made.read_text() == "compiled\n"


def test_every_change_is_compiled(checkout: Checkout) -> None:
    """A header, a new source, other flags, a newer compiler; a library that is gone."""
    native = checkout.folder / "connectors/native"
    checkout.run()
    (native / "columns.h").write_text("/* changed */")
    assert checkout.run() == 1
    (native / "another.c").write_text("/* new */")
    assert checkout.run() == 1
    assert "another.c" in checkout.calls[-1]
    assert checkout.run(CFLAGS="-O0") == 1
    assert checkout.run(CFLAGS="-O0", RELEASE="2") == 1
    assert checkout.run() == 1
    checkout.made.unlink()
    assert checkout.run() == 1


def test_a_library_in_use_is_not_written_over(checkout: Checkout) -> None:
    """A process that has it loaded keeps the file that it has."""
    checkout.run()
    before = checkout.made.stat().st_ino
    with checkout.made.open():
        assert checkout.run(CFLAGS="-O0") == 1
        assert checkout.made.stat().st_ino != before


def test_what_does_not_compile_leaves_what_was(checkout: Checkout) -> None:
    """The library before it stays, nothing lies beside it, and the next call tries."""
    checkout.run()
    checkout.made.write_text("before\n")
    assert checkout.run(code=1, CFLAGS="-O0") == 1
    assert checkout.made.read_text() == "before\n"
    assert [p.name for p in checkout.made.parent.glob("*.so*")] == [checkout.made.name]
    assert checkout.run(CFLAGS="-O0") == 1


def test_another_file_can_be_asked_for(checkout: Checkout, tmp_path: Path) -> None:
    """With further sources, every time, and the library here stays as it is."""
    out = str(tmp_path / "out.so")
    assert checkout.run(out, "/more.c") == 1
    assert checkout.run(out, "/more.c") == 1
    assert checkout.calls[-1].endswith("/more.c")
    assert not checkout.made.exists()
