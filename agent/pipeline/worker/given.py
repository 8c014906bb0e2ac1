# SPDX-License-Identifier: Apache-2.0
"""``python -m agent.pipeline.worker.given FD``: a rejected batch becomes quarantine.

The daemon never loads Arrow, so a child reads the sealed file. What it says of a
failure is the exception's name: a message may hold values.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from agent.child.inside import DaemonGone, Lines, settle
from agent.model.item import Item, ItemType
from agent.model.job import BoundItem
from agent.model.withheld import Cause, Withheld
from agent.pipeline.quarantine import Quarantine
from agent.wire.batch import read_line1


def main(argv: list[str]) -> int:
    """Answer the question that comes through descriptor ``argv[1]``."""
    settle()
    with socket.socket(fileno=int(argv[1])) as sock:
        lines = Lines(sock)
        try:
            lines.send(json.dumps(_answer(lines.receive())).encode() + b"\n")
        except DaemonGone:
            return 3
    return 0


def _answer(asked: bytes) -> dict[str, Any]:
    try:
        return {"rows": write(json.loads(asked))}
    except Exception as e:  # noqa: BLE001 - the edge: a message may hold values
        return {"fault": type(e).__name__}


def write(question: Mapping[str, Any]) -> int:
    """Copy the rows that the rejection is about; how many there were.

    Raises:
        OSError, MalformedMessage, pa.ArrowException: a file cannot be used.
    """
    items = tuple(Item(**{**i, "type": ItemType(i["type"])}) for i in question["items"])
    bound = tuple(BoundItem(item, item.name) for item in items)
    cause = Cause(f"rejected:{question['code']}", "")
    rows = 0
    with (
        Path(question["file"]).open("rb") as file,
        Quarantine(Path(question["out"]), bound) as quarantine,
    ):
        read_line1(file)
        with pa.ipc.open_stream(file) as stream:
            for batch in stream:
                wanted = pc.is_in(
                    batch.column("_op"), value_set=pa.array(question["ops"])
                )
                page = batch.filter(wanted).select([i.name for i in items])
                places = list(range(page.num_rows))
                quarantine.write(page, Withheld(places, [0] * len(places), (cause,)))
                rows += page.num_rows
    return rows


if __name__ == "__main__":
    sys.exit(main(sys.argv))
