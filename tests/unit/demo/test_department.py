# SPDX-License-Identifier: Apache-2.0
import hashlib
import re
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from agent.demo import defects, department, numbers

ROWS = 1_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("department") / "rsj.db"
    department.build(path, rows=ROWS)
    return path


@pytest.fixture
def db(built: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(built)
    yield connection
    connection.close()


def dump(path: Path) -> str:
    connection = sqlite3.connect(path)
    try:
        text = "\n".join(connection.iterdump())
    finally:
        connection.close()
    return hashlib.sha256(text.encode()).hexdigest()


def valid(text: str) -> bool:
    make = numbers.uscc if re.match("91", text) else numbers.citizen_id
    return make(text[:-1]) == text.upper()


def real_day(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def count(db: sqlite3.Connection, table: str, where: str) -> int:
    found = db.execute(f"select count(*) from {table} where {where}").fetchone()
    return int(found[0])


def test_same_seed_same_department(built: Path, tmp_path: Path) -> None:
    """The same rows and seed give the same values, another seed others."""
    department.build(tmp_path / "again.db", rows=ROWS)
    department.build(tmp_path / "other.db", rows=ROWS, seed=7)
    assert dump(tmp_path / "again.db") == dump(built)
    assert dump(tmp_path / "other.db") != dump(built)


def test_too_small_a_department_is_refused(tmp_path: Path) -> None:
    """Fewer persons than hold every defect are refused and leave no file."""
    with pytest.raises(ValueError, match="at least 500, got 499"):
        department.build(tmp_path / "rsj.db", rows=499)
    assert list(tmp_path.iterdir()) == []


def test_tables_have_their_sizes(db: sqlite3.Connection) -> None:
    """Every bound table has the rows that sizes() says."""
    for table, rows in department.sizes(ROWS).items():
        assert count(db, table, "true") == rows


def test_no_identity_number_is_real(db: sqlite3.Connection) -> None:
    """Every identity number and code carries the unassigned prefix 99."""
    ids = [r[0] for r in db.execute("select citizen_id from person")]
    ids += [r[0] for r in db.execute("select legal_rep_id from employer")]
    codes = [r[0] for r in db.execute("select uscc from employer") if r[0]]
    wide = {ord(d) + 0xFEE0: d for d in "0123456789X"}
    assert all(i.translate(wide).startswith("99") for i in ids)
    assert all(code[2:4] == "99" for code in codes)


SEEN = {
    "id-check-character": (
        "length(citizen_id) = 18 and citizen_id glob '[0-9]*' and not valid(citizen_id)"
    ),
    "id-15-digits": "length(citizen_id) = 15",
    "id-full-width": "citizen_id glob '[０-９]*'",
    "id-lower-x": "citizen_id glob '*x'",
    "birth-differs-from-id": (
        "length(citizen_id) = 18 and real_day(birth_date)"
        " and birth_date <> '1900-01-01' and citizen_id glob '[0-9]*'"
        " and substr(citizen_id, 7, 8) <> replace(birth_date, '-', '')"
    ),
    "birth-1900-01-01": "birth_date = '1900-01-01'",
    "name-rare-character": "name glob '[𠮷䶮]*'",
    "name-private-use-character": "name glob '\ue863*'",
    "name-dot-variant": "name glob '*[·•・‧]*'",
    "name-too-long": "length(name) > 50",
    "gender-code-unknown": "gender_code not in ('0', '1', '2', '9')",
    "birth-impossible": "not real_day(birth_date)",
    "updated-at-unreadable": "datetime(updated_at) is null",
    "uscc-check-character": "length(uscc) = 18 and not valid(uscc)",
    "established-1900-01-01": "established_on = '1900-01-01'",
    "established-impossible": "not real_day(established_on)",
    "uscc-missing": "uscc is null",
    "uscc-too-long": "length(uscc) > 18",
    "uscc-twice": (
        "exists (select 1 from employer e where e.uscc = employer.uscc"
        " and e.rowid < employer.rowid)"
    ),
    "reg-date-impossible": "not real_day(reg_date)",
    "secrecy-mark": "secrecy_mark glob '机密★*'",
}


@pytest.mark.parametrize(
    "defect", defects.seeded(ROWS), ids=lambda d: f"{d.table}-{d.name}"
)
def test_defect_stands_in_its_number_of_rows(
    db: sqlite3.Connection, defect: defects.Seeded
) -> None:
    """A defect is in exactly as many rows as seeded() says."""
    db.create_function("valid", 1, valid)
    db.create_function("real_day", 1, real_day)
    assert count(db, defect.table, SEEN[defect.name]) == defect.rows


def test_department_carries_a_valid_code() -> None:
    """The department's own code passes GB 32100."""
    code = department.USCC
    assert numbers.uscc(code[:-1]) == code


@pytest.mark.parametrize(
    ("make", "known"),
    [
        (numbers.citizen_id, "11010519491231002X"),
        (numbers.citizen_id, "440524188001010014"),
        (numbers.uscc, "91350100M000100Y43"),
    ],
)
def test_check_characters_are_the_standards(make: object, known: str) -> None:
    """The standards' worked examples come out."""
    assert callable(make)
    assert make(known[:-1]) == known
