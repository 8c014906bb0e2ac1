# SPDX-License-Identifier: Apache-2.0
"""The readers' C library, compiled so that it ends the process where it goes astray.

Whatever the unit tests send to it, lies and cut bytes among it, is sent once more to a
build that watches every byte that it reads or writes and every sum.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.native_rows import ROOT, SANITIZED, build

pytestmark = pytest.mark.contract

TESTS = "tests/unit/connectors"
SENT = {
    "columns.c": "native/test_columns_hostile.py",
    "mysqltext.c": "test_mysql_wire.py",
    "pgcopy.c": "test_postgres_copy.py",
    "rules.c": "native/test_rules.py",
    "sqliterows.c": "test_sqlite_columns.py",
    "utf8.c": "test_native_text.py",
}
"""Each file of ``connectors/native``, and the unit tests that send it lies."""

SETTINGS = {
    "ASAN_OPTIONS": "detect_leaks=0:malloc_context_size=1:quarantine_size_mb=64",
    "FEP_TRIES": "few",
    # Each object of the interpreter is watched, too: what a test gives the library ends
    # where its bytes end.
    "PYTHONMALLOC": "malloc",
    "ARROW_DEFAULT_MEMORY_POOL": "system",
}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Connectors and their tests, with the watched library where theirs would be."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("connectors", "scripts", "tests/support", TESTS):
        dust = shutil.ignore_patterns("__pycache__", "*.so")
        shutil.copytree(ROOT / name, folder / name, ignore=dust)
    shutil.copy(ROOT / "setup.cfg", folder)
    build(folder / "connectors/native/libfepcolumns.so", compiler=SANITIZED)
    return folder


def run(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python there, with the library that watches loaded first."""
    watchers = ("libasan.so", "libstdc++.so")
    found = [_output("cc", f"-print-file-name={name}") for name in watchers]
    env = {**os.environ, **SETTINGS, "LD_PRELOAD": ":".join(found), "CC": SANITIZED}
    # What is measured elsewhere is not measured twice.
    env = {name: value for name, value in env.items() if "COV" not in name}
    return subprocess.run(
        [sys.executable, *words],
        cwd=checkout,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _output(*words: str) -> str:
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_nothing_hostile_leads_the_library_astray(checkout: Path) -> None:
    """Every file's hostile unit tests pass, and no byte beside a buffer was touched."""
    sources = sorted((ROOT / "connectors/native").glob("*.c"))
    tests = [f"{TESTS}/{SENT[source.name]}" for source in sources]
    done = run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def test_one_byte_beside_a_buffer_is_seen(checkout: Path) -> None:
    """The watch is awake: a value that is longer than its bytes ends the process."""
    code = (
        "import pyarrow as pa, pathlib, sys\n"
        "from connectors.native import loader\n"
        "from connectors.native.page import Page\n"
        "from tests.support.native_rows import Rows\n"
        "rows = Rows(pathlib.Path(sys.argv[1]))\n"
        "page = Page([pa.binary()], 1)\n"
        "put = rows._library.fep_put_bytes\n"
        "assert loader.PATH.is_relative_to(sys.argv[1])\n"
        "print(put(page.pointer, 0, b'four', 4), flush=True)\n"
        "put(page.pointer, 0, b'four', 64)\n"
    )
    done = run(checkout, "-c", code, str(checkout))
    assert (done.returncode, done.stdout) == (1, "0\n"), done.stderr
    assert "heap-buffer-overflow" in done.stderr
    assert "fep_bytes" in done.stderr
