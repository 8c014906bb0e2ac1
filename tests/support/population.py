# SPDX-License-Identifier: Apache-2.0
"""The population register as a source: load it, bind it, compare it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.support.mariadb import Mariadb
    from tests.support.postgres import Server

HERE = Path(__file__).parent
GENERATOR = HERE / "gen_population.py"
COMPARE = HERE / "compare.py"

COLUMNS = (
    "id:I:key",
    "id_no:C",
    "name:C",
    "gender:C",
    "birth_date:D",
    "ethnicity:C",
    "address:C",
    "phone:C",
    "region_code:C",
    "household_no:C",
    "status:I",
    "income:N",
    "created_at:T",
    "updated_at:T",
)
"""Columns as ``compare.py`` takes them."""

FULL_ROWS = 1_000_000

SETTLE_S = 30.0
"""So long a loaded server may write before it is read, seconds."""

FEW_PAGES = 100

_ITEMS = (
    'name = "id", title = "序号", type = "I", key = true',
    'name = "id_no", title = "公民身份号码", type = "C", length = 18,'
    ' required = true, rules = ["citizen_id"]',
    'name = "name", title = "姓名", type = "C", length = 30, required = true',
    'name = "gender", title = "性别", type = "C", length = 2',
    'name = "birth_date", title = "出生日期", type = "D"',
    'name = "ethnicity", title = "民族", type = "C", length = 20',
    'name = "address", title = "住址", type = "C", length = 200',
    'name = "phone", title = "电话", type = "C", length = 20',
    'name = "region_code", title = "区划", type = "C", length = 6,'
    ' rules = ["code:region"]',
    'name = "household_no", title = "户号", type = "C", length = 20',
    'name = "status", title = "状态", type = "I"',
    'name = "income", title = "收入", type = "N", length = 12, scale = 2',
    'name = "created_at", title = "登记时间", type = "T"',
    'name = "updated_at", title = "更新时间", type = "T"',
)
_DOCUMENT = """\
code = "{code}"
name = "人口登记"
version = 1
push = true
abstract = "试验用人口登记数据。"
share_type = "conditional"
share_condition = "仅供试验"
share_method = "database"
format_category = "database"
secrecy_level = "unclassified"
items = [
{items}
]
[secrecy_review]
reviewer = "办公室"
on = 2026-05-20
[binding]
source = "{source}"
table = [{table}]
"""


def document(code: str, *, source: str, table: tuple[str, ...]) -> str:
    """A resource document for ``population`` in one of the sources."""
    items = "\n".join(f"  {{ {item} }}," for item in _ITEMS)
    names = ", ".join(f'"{part}"' for part in table)
    return _DOCUMENT.format(code=code, items=items, source=source, table=names)


def rows_wanted() -> int:
    """A tenth of the full size, or all with ``FEP_FULL=1``."""
    return FULL_ROWS if os.environ.get("FEP_FULL") == "1" else FULL_ROWS // 10


def _generate(*words: str) -> list[str]:
    return [sys.executable, str(GENERATOR), *words]


def _ddl(dialect: str) -> str:
    made = subprocess.run(
        _generate("ddl", "--dialect", dialect),
        capture_output=True,
        text=True,
        check=True,
    )
    return made.stdout


def load_sqlite(path: Path, rows: int) -> None:
    """Make ``population`` in a SQLite file."""
    db = sqlite3.connect(path)
    db.execute("pragma journal_mode=off")
    db.execute("pragma synchronous=off")
    db.executescript(_ddl("sqlite"))
    command = _generate("population", "--rows", str(rows), "--rare", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as made:
        assert made.stdout is not None
        lines = (line.rstrip("\n").split("\t") for line in made.stdout)
        values = ([None if v == "\\N" else v for v in line] for line in lines)
        marks = ",".join("?" * len(COLUMNS))
        db.executemany(f"insert into population values ({marks})", values)
    assert made.returncode == 0
    db.commit()
    db.close()


def load_mariadb(server: Mariadb, rows: int) -> None:
    """Make ``population`` in the database ``town`` of a MariaDB server."""
    for statement in _ddl("mysql").split(";"):
        if statement.strip():
            server.sql(statement)
    made_of = ("population", "--rows", str(rows), "--rare", "1", "--format", "mysql")
    with subprocess.Popen(_generate(*made_of), stdout=subprocess.PIPE) as made:
        load = (
            "load data local infile '/dev/stdin' into table population"
            " character set utf8mb4"
        )
        client = ["mariadb", "--no-defaults", "-S", str(server.socket), "-u", "root"]
        client += ["--local-infile=1", "town", "-e", load]
        subprocess.run(client, stdin=made.stdout, check=True)
    assert made.returncode == 0
    server.sql("analyze table population", "set global innodb_max_dirty_pages_pct = 0")
    end = time.monotonic() + SETTLE_S
    while time.monotonic() < end and _dirty(server):
        time.sleep(0.2)


def _dirty(server: Mariadb) -> bool:
    """Whether much of what was loaded is still to be written."""
    ((_, pages),) = server.sql("show status like 'innodb_buffer_pool_pages_dirty'")
    return int(pages) > FEW_PAGES


def load_postgres(server: Server, rows: int, *, database: str = "postgres") -> None:
    """Make ``population`` in a PostgreSQL database."""
    server.sql(_ddl("postgresql"), database=database)
    command = _generate("population", "--rows", str(rows), "--rare", "1")
    with subprocess.Popen(command, stdout=subprocess.PIPE) as made:
        copy = [*server.psql_command(database), "-c", "copy population from stdin"]
        subprocess.run(copy, stdin=made.stdout, check=True)
    assert made.returncode == 0
    server.sql(
        "alter table population add primary key (id); analyze population;",
        database=database,
    )


def load_versions(server: Server, rows: int) -> None:
    """Versions 1 and 2 in a PostgreSQL database: ``population``, ``population_2``."""
    load_postgres(server, rows)
    server.sql("create table population_2 (like population including all)")
    words = ("population", "--rows", str(rows), "--rare", "1", "--version", "2")
    with subprocess.Popen(_generate(*words), stdout=subprocess.PIPE) as made:
        copy = [*server.psql_command(), "-c", "copy population_2 from stdin"]
        subprocess.run(copy, stdin=made.stdout, check=True)
    assert made.returncode == 0
    server.sql("analyze population_2")


def compare_sqlite(
    source: Path, table: str, *, centre: Path, kept: str, columns: tuple[str, ...]
) -> dict[str, Any]:
    """What the foreign comparison found between a SQLite source and the centre."""
    return _compare(centre, kept, columns, "sqlite", str(source), table)


def compare_postgres(
    server: Server, table: str, *, centre: Path, kept: str, columns: tuple[str, ...]
) -> dict[str, Any]:
    """The same for a PostgreSQL source."""
    psql = server.psql_command()
    return _compare(centre, kept, columns, "postgres", table, "--", *psql)


def _compare(
    centre: Path, kept: str, columns: tuple[str, ...], *source: str
) -> dict[str, Any]:
    named = [word for column in columns for word in ("--column", column)]
    command = [sys.executable, "-I", str(COMPARE), "--centre", str(centre), kept]
    done = subprocess.run(
        [*command, *named, *source], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.stdout, "the comparison failed; its complaint stands above"
    found: dict[str, Any] = json.loads(done.stdout)
    return found
