# SPDX-License-Identifier: Apache-2.0
"""Where a stream was read up to, and where a run that was cut can go on; SQL only.

A run can go on if its parts are all there, none is rejected or dropped, and nothing was
sealed on the stream after them: only then does the exchange still have them staged.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlite_utils import Database

from agent.model.batch import ANY_NUMBER, Quality, Rows
from agent.model.job import Resume
from agent.state.records import KeptFrontier, NewBatch

_CUT = """
SELECT r.token, r.last, r.base, r.base_as_of, r.basis, r.reasons,
  count(b.seq), coalesce(max(b.part), 0), coalesce(max(b.seq), 0), s.seq,
  sum(b.n_upsert), sum(b.n_delete), sum(b.n_keep),
  sum(b.n_read), sum(b.n_quarantined), sum(b.n_skipped),
  sum(b.epoch <> s.epoch OR b.state NOT IN ('waiting', 'stored') OR b.final)
FROM runs r JOIN streams s ON s.id = r.stream JOIN batches b ON b.run = r.id
WHERE r.id = ? AND r.kind = 'full' AND s.halt_code IS NULL
GROUP BY r.id
"""


def frontier(db: Database, stream: int) -> KeptFrontier | None:
    """Up to where a stream was read, or None."""
    found = db.execute(
        "SELECT run, value, as_of, basis, method, assumes FROM frontiers"
        " WHERE stream = ?",
        [stream],
    ).fetchone()
    if found is None:
        return None
    run, value, as_of, basis, method, assumes = found
    return KeptFrontier(run, value, as_of, basis, method, tuple(json.loads(assumes)))


def forget(db: Database, stream: int) -> None:
    """The next read is a full one."""
    db.execute("DELETE FROM frontiers WHERE stream = ?", [stream])


def advance(db: Database, new: NewBatch) -> None:
    """A run has one part more, or its last.

    A part of a diff that is not the last is loaded at the exchange by itself, but only
    with the last one the state of what was sent follows: until then there is none that
    a further diff could be compared with.
    """
    found = db.execute("SELECT reasons FROM runs WHERE id = ?", [new.run]).fetchone()
    reasons, warnings = _counted(found[0] if found else None)
    reasons.update(new.reasons)
    warnings.update(new.warnings)
    db.execute(
        "UPDATE runs SET token = ?, last = ?, reasons = ?, base = coalesce(base, ?),"
        " base_as_of = coalesce(base_as_of, ?) WHERE id = ?",
        [
            new.token,
            new.last,
            json.dumps([reasons, warnings]),
            new.base,
            new.as_of,
            new.run,
        ],
    )
    if new.final:
        db.execute("UPDATE runs SET as_of = ? WHERE id = ?", [new.as_of, new.run])
    else:
        db.execute(
            "UPDATE frontiers SET method = NULL WHERE stream = ?"
            " AND (SELECT kind FROM runs WHERE id = ?) = 'diff'",
            [new.stream, new.run],
        )
    if new.frontier is not None:
        db.execute(
            "INSERT OR REPLACE INTO frontiers"
            " (stream, run, value, as_of, basis, method, assumes)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                *(new.stream, new.run, new.frontier, new.as_of),
                *(new.basis, new.method, json.dumps(new.assumes)),
            ],
        )


def counted(db: Database, run: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Reasons and warnings of the parts of a run."""
    found = db.execute("SELECT reasons FROM runs WHERE id = ?", [run]).fetchone()
    reasons, warnings = _counted(found[0] if found else None)
    return dict(reasons), dict(warnings)


def resume_point(db: Database, run: str) -> Resume | None:
    """Where a full read that was cut can go on, or None: from its first row."""
    found = db.execute(_CUT, [run]).fetchone()
    if found is None:
        return None
    token, last, base, as_of, basis, reasons, count, part, seq, head, *sums = found
    whole = count == part and seq == head and not sums.pop()
    if not whole or token is None or base is None:
        return None
    upsert, delete, keep, read, quarantined, skipped = sums
    counts = _counted(reasons)
    return Resume(
        token=token,
        last=last,
        parts=part,
        rows=Rows(upsert, delete, keep),
        quality=Quality(read, quarantined, skipped),
        reasons=dict(counts[0]),
        warnings=dict(counts[1]),
        frontier=base,
        as_of=as_of,
        basis=basis or "",
    )


def suspend(db: Database, run: str, code: str, detail: str) -> bool:
    """Queue a run again that can go on; False if it cannot.

    A confirmation without a number was for the first try alone.
    """
    if resume_point(db, run) is None:
        return False
    db.execute(
        "UPDATE runs SET state = 'queued', code = ?, detail = ?,"
        " deletes_confirmed = nullif(deletes_confirmed, ?) WHERE id = ?",
        [code, detail, ANY_NUMBER, run],
    )
    return True


def _counted(text: str | None) -> tuple[Counter[str], Counter[str]]:
    body: list[Any] = [{}, {}] if text is None else json.loads(text)
    return Counter(body[0]), Counter(body[1])
