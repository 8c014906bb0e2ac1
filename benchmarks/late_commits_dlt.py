# SPDX-License-Identifier: Apache-2.0
"""dlt as a peer: run by the Python that has it, imports nothing of ours.

    python late_commits_dlt.py URL FOLDER

For each line ``step`` on stdin it runs its pipeline once, as its documentation sets up
increments: ``sql_table`` with a cursor on ``changed``, merged by the primary key. It
answers ``ok`` or ``failed <class>``. After ``end`` the copy is in ``copy.db``, and the
answer is ``kept``.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ |= {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}


def pipeline_in(folder: Path) -> Any:
    """A pipeline that loads into SQLite files of this folder."""
    dlt = import_module("dlt")
    return dlt.pipeline(
        "late",
        pipelines_dir=str(folder / "state"),
        destination=dlt.destinations.sqlalchemy(f"sqlite:///{folder}/theirs.db"),
        dataset_name="centre",
    )


def step(pipeline: Any, url: str) -> str:
    """One increment; what became of it."""
    dlt = import_module("dlt")
    table = import_module("dlt.sources.sql_database").sql_table(
        credentials=url,
        table="work",
        incremental=dlt.sources.incremental("changed"),
        primary_key="id",
        write_disposition="merge",
    )
    try:
        pipeline.run(table)
    except Exception as e:  # noqa: BLE001 - who asked is told
        return f"failed {type(e).__name__}"
    return "ok"


def keep(folder: Path) -> None:
    """Make ``copy.db`` of what dlt loaded."""
    (theirs,) = folder.glob("theirs__centre.db")
    with closing(sqlite3.connect(folder / "copy.db")) as db:
        db.execute("create table work (id integer, note text)")
        db.execute("attach ? as theirs", [str(theirs)])
        db.execute("insert into work select id, note from theirs.work")
        db.commit()


def answer(line: str) -> None:
    """Tell who asked."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    """Obey stdin."""
    url, folder = sys.argv[1], Path(sys.argv[2])
    pipeline = pipeline_in(folder)
    for line in sys.stdin:
        if line.strip() == "end":
            break
        answer(step(pipeline, url))
    keep(folder)
    answer("kept")


if __name__ == "__main__":
    main()
