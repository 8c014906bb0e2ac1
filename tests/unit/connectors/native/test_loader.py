# SPDX-License-Identifier: Apache-2.0
"""The readers' library: what is said where it cannot be used."""

from __future__ import annotations

import platform
import subprocess
from functools import partial
from pathlib import Path

import pyarrow as pa
import pytest

from connectors import findings
from connectors.contract import SourceError
from connectors.native.loader import PATH, load
from connectors.native.page import Page, layout_of
from tests.support.native_rows import Rows

REMEDY = f"for {platform.machine()}: install the package.*scripts/native"


def test_a_machine_without_the_library_is_told_what_to_do(tmp_path: Path) -> None:
    """No traceback of a loader: which file, what is expected, what to run."""
    with pytest.raises(SourceError, match=rf"libfep\.so.*No such file.*{REMEDY}") as e:
        load(tmp_path / "libfep.so")
    assert e.value.kind == "failed"


def test_a_library_of_another_machine_is_not_loaded(tmp_path: Path) -> None:
    """The same file with another machine in its header: the loader refuses it."""
    raw = bytearray(PATH.read_bytes())
    loongarch = 258
    raw[18:20] = loongarch.to_bytes(2, "little")
    other = tmp_path / "libother.so"
    other.write_bytes(raw)
    with pytest.raises(SourceError, match=REMEDY):
        load(other)


@pytest.mark.parametrize("kept", [0, 40])
def test_a_library_that_was_cut_is_not_loaded(tmp_path: Path, kept: int) -> None:
    """A disk was full when it was copied: not even its header is whole."""
    cut = tmp_path / "libcut.so"
    cut.write_bytes(PATH.read_bytes()[:kept])
    with pytest.raises(SourceError, match=REMEDY):
        load(cut)


def test_a_library_that_is_another_one_is_not_used() -> None:
    """It can be loaded, but what is called is not in it."""
    with pytest.raises(SourceError, match=f"fep_page_new.*{REMEDY}"):
        load(Path("libc.so.6"))


def test_the_check_of_a_source_tells_it_in_both_languages(tmp_path: Path) -> None:
    """One finding with what to do; none where the library is."""
    (found,) = findings.reader(partial(load, tmp_path / "libfep.so"))
    assert (found.code, found.severity) == ("reader-missing", "error")
    assert "libfep.so" in found.en
    assert "libfep.so" in found.zh
    assert found.remedy is not None
    assert "scripts/native" in found.remedy
    assert findings.reader() == []


@pytest.mark.parametrize("kind", [pa.int16(), pa.null(), pa.list_(pa.int8())])
def test_a_type_without_a_layout_is_a_fault_of_the_program(kind: pa.DataType) -> None:
    """Columns are not written by guess."""
    with pytest.raises(ValueError, match=r"int16|width"):
        layout_of(kind)


def test_pages_give_back_their_memory(tmp_path: Path) -> None:
    """Hundreds of them, kept by nobody: the process does not grow by their size."""
    rows, value = Rows(tmp_path), "x" * 1_000_000
    before = _resident()
    for _ in range(300):
        page = Page([pa.string()], 4)
        rows.row(page, [value])
        page.batch(["a"])
    assert _resident() - before < 100_000_000


def _resident() -> int:
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_library_of_an_older_version_is_not_used(tmp_path: Path) -> None:
    """One that lacks what a connector calls; it stays in a checkout after a pull."""
    old = tmp_path / PATH.name
    columns = PATH.with_name("columns.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", old, columns], check=True)
    with pytest.raises(SourceError, match=REMEDY):
        load(old)
