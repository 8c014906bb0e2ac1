# SPDX-License-Identifier: Apache-2.0
"""The schema of the lookup side's own database, as numbered steps.

``leaves`` is the log; ``tiles`` is derived from it and could be made anew. Times are in
the wire grammar, ``exp`` is a NumericDate. ``requests.leaf`` and ``evidence.leaf`` name
a record by its number; a request without one has been begun and not answered.
"""

from __future__ import annotations

from agent.errors import AuditDamaged, AuditWriteFailed
from agent.state.database import Schema

APPLICATION_ID = 0x4645504C
"""``FEPL``."""

STEP_1 = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE leaves (n INTEGER PRIMARY KEY, line TEXT NOT NULL)",
    """
    CREATE TABLE tiles (
        level INTEGER NOT NULL,
        number INTEGER NOT NULL,
        hashes BLOB NOT NULL,
        PRIMARY KEY (level, number)
    )
    """,
    """
    CREATE TABLE checkpoints (
        size INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        note TEXT NOT NULL,
        cosignatures TEXT NOT NULL DEFAULT ''
    )
    """,
    "CREATE INDEX checkpoints_cosigned ON checkpoints (size) WHERE cosignatures <> ''",
    """
    CREATE TABLE requests (
        iss TEXT NOT NULL,
        jti TEXT NOT NULL,
        digest TEXT NOT NULL,
        exp INTEGER NOT NULL,
        leaf INTEGER,
        PRIMARY KEY (iss, jti)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX requests_by_end ON requests (exp)",
    """
    CREATE TABLE evidence (
        leaf INTEGER PRIMARY KEY,
        day TEXT NOT NULL,
        box BLOB NOT NULL
    )
    """,
    "CREATE INDEX evidence_by_day ON evidence (day)",
    "CREATE TABLE erased (day TEXT PRIMARY KEY, leaf INTEGER NOT NULL) WITHOUT ROWID",
    """
    CREATE TABLE policies (
        rev INTEGER PRIMARY KEY,
        digest TEXT NOT NULL,
        text TEXT NOT NULL,
        activated_at TEXT NOT NULL,
        uid INTEGER NOT NULL,
        leaf INTEGER NOT NULL
    )
    """,
    """
    CREATE TABLE pushed (
        resource TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        leaf INTEGER NOT NULL,
        PRIMARY KEY (resource, epoch, seq)
    ) WITHOUT ROWID
    """,
)

LEDGER = Schema(
    application_id=APPLICATION_ID,
    steps=(STEP_1,),
    refused=AuditWriteFailed,
    damaged=AuditDamaged,
    alone=True,
    searched=False,  # the tree proves what quick_check only guesses
)
