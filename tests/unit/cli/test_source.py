# SPDX-License-Identifier: Apache-2.0
"""``fep source check`` looks at lookups, too."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.catalog.folder import load_folder
from agent.catalog.gate import offers
from agent.demo import consumers, documents
from tests.support.settings_text import write

Fep = Callable[..., Any]
CODE = "101001/000001"


@pytest.fixture
def department(fep: Fep, tmp_path: Path) -> Path:
    """The sample department over an empty SQLite file without any index."""
    database = tmp_path / "rsj.db"
    source = f'\n[sources.rsj]\nconnector = "sqlite"\npath = "{database}"\n'
    write(tmp_path, f'\n[paths]\nrun = "{tmp_path}"\nstate = "{tmp_path}"\n{source}')
    for document in documents.FOLDER.glob("*.toml"):
        (tmp_path / "catalog" / document.name).write_text(document.read_text("utf-8"))
    offered = offers(load_folder(tmp_path / "catalog", sources={"rsj": None}))[CODE]
    columns = ", ".join(f'"{bound.column}"' for bound in offered.items)
    with closing(sqlite3.connect(database)) as db:
        db.execute(f'create table "{offered.table[-1]}" ({columns})')
        db.commit()
    (tmp_path / "policy.toml").write_text(consumers.policy_text(), "utf-8")
    return database


def found(fep: Fep) -> dict[str, Any]:
    """Findings that are not ok, by code."""
    said = fep("source", "check", CODE, "--json")
    findings = json.loads(said.out)["findings"]
    return {f["code"]: f for f in findings if f["severity"] != "ok"}


def test_a_lookup_without_index_is_told_until_it_is_there(
    fep: Fep, department: Path
) -> None:
    """The remedy is the statement that ends the warning."""
    warning = found(fep)["lookup-no-index"]
    assert warning["resource"] == CODE
    assert warning["remedy"].startswith("CREATE INDEX")

    with closing(sqlite3.connect(department)) as db:
        db.execute(warning["remedy"])
        db.commit()
    assert "lookup-no-index" not in found(fep)


def test_each_column_is_listed_with_its_path(fep: Fep, department: Path) -> None:
    """Of one resource every column, of all only those that come as text."""
    listed = json.loads(fep("source", "check", CODE, "--json").out)["findings"]
    paths = {f["column"]: f["path"] for f in listed if f["code"] == "column-path"}
    assert set(paths.values()) == {"native", "text"}

    named, every = (fep("source", "check", *code).out for code in ((CODE,), ()))
    for column, path in paths.items():
        assert f"  {CODE} {column} (" in named
        assert (f"  {CODE} {column} (" in every) == (path == "text")


def test_a_policy_that_cannot_be_used_is_no_concern_of_the_source(
    fep: Fep, department: Path, tmp_path: Path
) -> None:
    """Faults of the policy are told by ``fep policy check``."""
    (tmp_path / "policy.toml").write_text("[[grants]]\n")
    assert "lookup-no-index" not in found(fep)
