# SPDX-License-Identifier: Apache-2.0
"""Documents from a folder: every fault of every file at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.catalog.folder import load_file, load_folder
from agent.catalog.schema import text as schema_text
from agent.errors import CatalogInvalid, Fault
from tests.support.catalog_text import COMPLETE

ROOT = Path(__file__).resolve().parents[3]


def put(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


def faults(folder: Path, sources: tuple[str, ...] = ("rsj",)) -> list[Fault]:
    with pytest.raises(CatalogInvalid) as caught:
        load_folder(folder, sources=sources)
    assert caught.value.exit_code == 78
    return list(caught.value.faults)


def test_documents_come_by_code(tmp_path: Path) -> None:
    """Whatever the files are called; other files are not read."""
    put(tmp_path, "b.toml", COMPLETE)
    put(tmp_path, "a.toml", COMPLETE.replace("101001/000001", "307013/000001"))
    put(tmp_path, "notes.txt", "not a document")
    found = load_folder(tmp_path, sources={"rsj"})
    assert [r.code for r in found] == ["101001/000001", "307013/000001"]


def test_an_empty_folder_has_no_documents(tmp_path: Path) -> None:
    """A fresh department."""
    assert load_folder(tmp_path, sources=()) == ()


def test_every_fault_of_every_file_is_listed(tmp_path: Path) -> None:
    """Syntax, keys, values, lint, source and doubles: one error."""
    broken = put(tmp_path, "a.toml", "code = ")
    spoilt = put(
        tmp_path,
        "b.toml",
        COMPLETE.replace("abstract =", "abstrct =")
        .replace('share_type = "conditional"', 'share_type = "sometimes"')
        .replace("length = 20", 'length = "20"\nlenght = 20')
        .replace("secrecy_level =", "secrecy_lvl =")
        .replace('source = "rsj"', 'source = "rsj"\nschema = "public"'),
    )
    linted = put(
        tmp_path, "c.toml", COMPLETE.replace('share_condition = "须说明事项"', "")
    )
    first = put(tmp_path, "d.toml", COMPLETE.replace("101001/000001", "307013/1"))
    second = put(
        tmp_path,
        "e.toml",
        COMPLETE.replace("101001/000001", "307013/1").replace('"rsj"', '"rjs"'),
    )
    found = faults(tmp_path)
    by_file: dict[str, list[Fault]] = {}
    for fault in found:
        by_file.setdefault(fault.file, []).append(fault)
    assert [f.expected for f in by_file[str(broken)]] == ["TOML"]
    assert {(f.key, f.expected, f.got) for f in by_file[str(spoilt)]} == {
        ("abstrct", "`abstract` (did you mean that?)", "an unknown key"),
        (
            "share_type",
            "'unconditional', 'conditional' or 'not_shared'",
            "'sometimes'",
        ),
        ("items.title.length", "a valid integer", "'20'"),
        ("items.title.lenght", "`length` (did you mean that?)", "an unknown key"),
        ("secrecy_lvl", "`secrecy_level` (did you mean that?)", "an unknown key"),
        ("secrecy_level", "a value (it has no default)", "nothing"),
        ("binding.schema", "a known key", "an unknown key"),
    }
    assert {(f.key, f.article) for f in by_file[str(linted)]} == {
        ("share_condition", "辽9"),
        ("items.person_id.share_condition", "辽9"),
        ("items.title.share_condition", "辽9"),
    }
    assert str(first) not in by_file
    assert {(f.key, f.got) for f in by_file[str(second)]} == {
        ("code", "that of d.toml"),
        ("binding.source", "'rjs'"),
    }


def test_a_lint_fault_reads_as_a_sentence(tmp_path: Path) -> None:
    """File, field, both languages, article."""
    file = put(tmp_path, "a.toml", COMPLETE.replace("daily", "dayly"))
    assert str(faults(tmp_path)[0]).startswith(f"{file}: update_cycle: expected 're")
    put(tmp_path, "a.toml", COMPLETE.replace("length = 20", "length = 0"))
    line = str(faults(tmp_path)[0])
    assert line.startswith(f"{file}: items.title.length: 字符型须给出长度")
    assert line.endswith("[指南]")


def test_a_value_in_place_of_a_table_is_a_fault(tmp_path: Path) -> None:
    """Also an item that is not a table."""
    text = COMPLETE.partition("[secrecy_review]")[0]
    put(tmp_path, "a.toml", text + "binding = 5\nitems = [5]\n")
    assert [(f.key, f.expected) for f in faults(tmp_path)] == [
        ("binding", "a table"),
        ("items.1", "a table"),
    ]


def test_a_missing_folder_and_unreadable_files_are_named(tmp_path: Path) -> None:
    """One fault each, never a traceback."""
    [fault] = faults(tmp_path / "none")
    assert fault.expected == "a folder of resource documents"
    (tmp_path / "a.toml").mkdir()
    (tmp_path / "b.toml").write_bytes('code = "云溪市"'.encode("gb18030"))
    (tmp_path / "c.toml").write_bytes(b"#" * (4 * 1024 * 1024 + 1))
    assert [f.expected for f in faults(tmp_path)] == [
        "a readable file",
        "UTF-8 text",
        "at most 4194304 bytes",
    ]


def test_a_table_may_be_named_in_one_text_or_in_parts(tmp_path: Path) -> None:
    """Parts serve names that hold a dot."""
    file = put(tmp_path, "a.toml", COMPLETE)
    binding = load_file(file).binding
    assert binding is not None
    assert binding.table == ("public", "person")
    put(tmp_path, "a.toml", COMPLETE.replace('"public.person"', '["public", "a.b"]'))
    binding = load_file(file).binding
    assert binding is not None
    assert binding.table == ("public", "a.b")


def test_the_schema_for_editors_is_the_models() -> None:
    """`python -m agent.catalog.schema > config/schema/resource.json` makes it."""
    assert (ROOT / "config/schema/resource.json").read_text("utf-8") == schema_text()
