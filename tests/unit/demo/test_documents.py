# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agent import settings
from agent.catalog.lint import lint
from agent.demo import department, documents
from agent.demo.acts import TAMPERED
from agent.demo.site import Exchange, Site

EXCHANGE = Exchange(
    url="https://127.0.0.1:8443",
    aud="yunxi.exchange",
    ca_sha256="ab" * 32,
    kid="K" * 43,
    admin=Path("/tmp/admin.sock"),
)


@pytest.fixture
def place(tmp_path: Path) -> Site:
    folder = tmp_path / '云溪 "演示"'
    folder.mkdir()
    return Site(folder)


def test_documents_have_no_gap() -> None:
    """Lint finds nothing in any document: neither error nor warning."""
    found = {r.code: lint(r) for r in documents.resources()}
    assert found == {
        "101001/000001": (),
        "307013/000001": (),
        "307013/000002": (),
        "307013/000005": (),
        "307013/000006": (),
    }


def test_arbitration_is_the_one_that_stays() -> None:
    """What is not shared may not leave; all others may."""
    assert [r.code for r in documents.kept()] == ["307013/000006"]
    assert len(documents.pushed()) == 4
    assert TAMPERED in {r.code for r in documents.pushed()}


def test_items_are_bound_to_columns_that_exist(tmp_path: Path) -> None:
    """Every item of every document is read from a column of the built database."""
    department.build(tmp_path / "rsj.db", rows=department.LEAST_ROWS)
    with closing(sqlite3.connect(tmp_path / "rsj.db")) as db:
        for resource in documents.resources():
            table = documents.table(resource)
            there = {row[1] for row in db.execute(f"pragma table_info({table})")}
            assert there
            assert {resource.column(item) for item in resource.items} <= there


def test_settings_load_whatever_the_folder_is_called(place: Site) -> None:
    """Quotes, blanks and Chinese in the folder's name do not break the settings."""
    documents.write(place, EXCHANGE)
    loaded = settings.load(place.config)
    assert loaded.agent.node == f"{department.USCC}/{department.NODE}"
    assert loaded.source_config("rsj")["path"] == str(place.source)
    assert loaded.paths.socket == place.run / "fep.sock"


def test_digest_jobs_read_what_leaves_and_nothing_else(place: Site) -> None:
    """One job for each resource that may leave, without the items that may not."""
    documents.write(place, EXCHANGE)
    jobs = {job.resource: job for job in documents.digest_jobs(place, run="r")}
    assert set(jobs) == {r.code for r in documents.pushed()}
    assert {job.kind for job in jobs.values()} == {"digest"}
    named = {b.column for b in jobs["101001/000001"].items}
    assert "mobile" not in named
    assert "legal_rep_id" not in {b.column for b in jobs["307013/000001"].items}
