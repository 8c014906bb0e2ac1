# SPDX-License-Identifier: Apache-2.0
"""Rows that increments lose while twelve writers commit late, beside other readers.

    scripts/bench late-commits --json
    scripts/bench late-commits --peers --json

Twelve writers insert and update for ``--seconds`` in transactions of 0 to 3 s, with
savepoints, rollbacks and, in PostgreSQL, two-phase commits. All readers follow this one
workload: they have the first rows before it begins, take an increment every second, and
two more when it is over. Then each copy is compared with the table, row by row, by a
program that imports nothing of this project. ``lost`` rows are committed and not in the
copy, ``stale`` ones have old values there, ``duplicated`` ones are there and not, or
not so often, in the table. Ours is an agent that pushes signed batches to an exchange;
its copy is the table that the exchange has loaded.

``cursor`` is what everybody writes: all rows from the largest ``changed`` on. With
``--peers`` dlt (``sql_table`` with a cursor on ``changed``, merged by primary key) and
Debezium (the log, by ``pydbzengine``) read as well. A peer that cannot be had or breaks
down is named with the reason instead of figures.

With ``--numbered`` rows are only added, their one mark is a number that the database
gives out, and ``cursor`` goes by it.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import late_commits_peers as peers
from tests.support.late_commits import (
    CursorReader,
    Outcome,
    Reader,
    Source,
    department,
    race,
)
from tests.support.pushing import AgentReader, pushing
from tests.support.writers import add_on, write_on


def measure(wish: argparse.Namespace) -> dict[str, Any]:
    """Run the race."""
    with ExitStack() as stack:
        made = tempfile.TemporaryDirectory(prefix="fepb-", dir=wish.folder)
        folder = Path(stack.enter_context(made))
        source = stack.enter_context(
            department(wish.source, logged=wish.peers, numbered=wish.numbered)
        )
        binding, by = ('number = "id"', "id") if wish.numbered else ("", "changed")
        agent = stack.enter_context(pushing(source, binding=binding))
        readers: dict[str, Reader] = {
            "ours": AgentReader(agent),
            "cursor": CursorReader(source, folder / "cursor.db", by=by),
        }
        absent: dict[str, str] = {}
        if wish.peers:
            readers |= present(source, folder, stack, absent)
        write = add_on if wish.numbered else write_on
        outcome = race(
            source, readers, seconds=wish.seconds, seed=wish.seed, write=write
        )
    return figures(wish, outcome, absent)


def present(
    source: Source, folder: Path, stack: ExitStack, absent: dict[str, str]
) -> Mapping[str, Reader]:
    """The peers that can be had; of the others the reason is noted."""
    found: dict[str, Reader] = {}
    for name, start in peers.PEERS.items():
        own = folder / name
        own.mkdir()
        try:
            found[name] = stack.enter_context(start(source, own))
        except peers.Absent as e:
            absent[name] = str(e)
    return found


def figures(
    wish: argparse.Namespace, outcome: Outcome, absent: Mapping[str, str]
) -> dict[str, Any]:
    """The one object."""

    def of(name: str) -> dict[str, Any]:
        return {**asdict(outcome.found[name]), "increments": outcome.steps[name]}

    others: dict[str, Any] = {name: {"absent": why} for name, why in absent.items()}
    others |= {name: {"failed": why} for name, why in outcome.failed.items()}
    others |= {name: of(name) for name in outcome.found if name != "ours"}
    cursor = others.pop("cursor")
    result = {
        "benchmark": "late-commits",
        "source": wish.source,
        "numbered": wish.numbered,
        "seconds": wish.seconds,
        "seed": wish.seed,
        "rows": outcome.rows,
        "committed": sum(w.committed for w in outcome.written),
        "rolled_back": sum(w.undone for w in outcome.written),
        "two_phase": sum(w.prepared for w in outcome.written),
        **of("ours"),
        "cursor": cursor,
    }
    return result | ({"peers": others} if wish.peers else {})


def main() -> None:
    """Take the options, measure, print."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench late-commits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", choices=["postgres", "mariadb"], default="postgres")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    also = parser.add_mutually_exclusive_group()
    also.add_argument("--peers", action="store_true", help="dlt and Debezium too")
    also.add_argument(
        "--numbered", action="store_true", help="rows with nothing but a growing number"
    )
    parser.add_argument("--folder", default=None, help="where to work; default /tmp")
    parser.add_argument("--json", action="store_true")
    wish = parser.parse_args()
    result = measure(wish)
    if wish.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name:>12}  {value}")
    if result["lost"] or result["duplicated"] or result["stale"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
