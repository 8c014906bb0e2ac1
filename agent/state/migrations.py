# SPDX-License-Identifier: Apache-2.0
"""The schema as numbered steps; a step, once released, never changes.

``PRAGMA user_version`` holds the number of the last step that was applied.
"""

from __future__ import annotations

STEP_1 = (
    """
    CREATE TABLE meta (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE streams (
        id INTEGER PRIMARY KEY,
        producer TEXT NOT NULL,
        aud TEXT NOT NULL,
        resource TEXT NOT NULL,
        epoch INTEGER NOT NULL DEFAULT 0,
        seq INTEGER NOT NULL DEFAULT 0,
        prev TEXT,
        incarnation TEXT NOT NULL,
        reason TEXT,
        halt_code TEXT,
        halt_detail TEXT,
        halt_at TEXT,
        UNIQUE (producer, aud, resource)
    )
    """,
    """
    CREATE TABLE epochs (
        stream INTEGER NOT NULL REFERENCES streams (id),
        epoch INTEGER NOT NULL,
        reason TEXT NOT NULL,
        prev TEXT,
        incarnation TEXT NOT NULL,
        position TEXT NOT NULL,
        opened_at TEXT NOT NULL,
        PRIMARY KEY (stream, epoch)
    )
    """,
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY,
        stream INTEGER NOT NULL REFERENCES streams (id),
        state TEXT NOT NULL CHECK (state IN
            ('queued', 'reading', 'read', 'held', 'failed', 'interrupted')),
        confirm_deletes INTEGER NOT NULL,
        asked_at TEXT NOT NULL,
        started_at TEXT,
        ended_at TEXT,
        token TEXT,
        totals TEXT,
        code TEXT,
        detail TEXT,
        successor TEXT
    )
    """,
    "CREATE INDEX runs_of_stream ON runs (stream, id)",
    """
    CREATE TABLE batches (
        stream INTEGER NOT NULL REFERENCES streams (id),
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        run TEXT NOT NULL REFERENCES runs (id),
        digest TEXT NOT NULL,
        file TEXT NOT NULL,
        size INTEGER NOT NULL,
        content_size INTEGER NOT NULL,
        content_digest TEXT NOT NULL,
        mode TEXT NOT NULL,
        part INTEGER NOT NULL,
        final INTEGER NOT NULL,
        distinct_rows INTEGER,
        n_upsert INTEGER NOT NULL,
        n_delete INTEGER NOT NULL,
        n_keep INTEGER NOT NULL,
        n_read INTEGER NOT NULL,
        n_quarantined INTEGER NOT NULL,
        n_skipped INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN
            ('waiting', 'stored', 'loaded', 'rejected', 'dropped')),
        gone INTEGER NOT NULL DEFAULT 0,
        sealed_at TEXT NOT NULL,
        settled_at TEXT,
        PRIMARY KEY (stream, epoch, seq)
    )
    """,
    "CREATE INDEX batches_of_run ON batches (run)",
    "CREATE INDEX batches_open ON batches (stream, epoch, seq)"
    " WHERE state IN ('waiting', 'stored')",
    "CREATE INDEX batches_here ON batches (state, settled_at) WHERE gone = 0",
    """
    CREATE TABLE receipts (
        stream INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('stored', 'loaded', 'rejected')),
        code TEXT,
        n_upsert INTEGER,
        n_delete INTEGER,
        n_keep INTEGER,
        at TEXT NOT NULL,
        jws TEXT NOT NULL,
        kept_at TEXT NOT NULL,
        PRIMARY KEY (stream, epoch, seq, state),
        FOREIGN KEY (stream, epoch, seq) REFERENCES batches (stream, epoch, seq)
    )
    """,
    """
    CREATE TABLE frontiers (
        stream INTEGER PRIMARY KEY REFERENCES streams (id),
        run TEXT NOT NULL REFERENCES runs (id),
        value TEXT NOT NULL,
        as_of TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE catalogs (
        stream INTEGER NOT NULL REFERENCES streams (id),
        version INTEGER NOT NULL,
        digest TEXT NOT NULL,
        jws TEXT NOT NULL,
        sent_at TEXT,
        PRIMARY KEY (stream, version)
    )
    """,
    """
    CREATE TABLE pauses (
        resource TEXT PRIMARY KEY,
        since TEXT NOT NULL
    )
    """,
)

STEP_2 = (
    "ALTER TABLE runs DROP COLUMN confirm_deletes",
    "ALTER TABLE runs ADD COLUMN deletes_confirmed INTEGER",
    "ALTER TABLE runs ADD COLUMN keys_gone INTEGER",
)
"""A confirmation has a number; what had none does not count any more."""

STEP_3 = (
    "ALTER TABLE runs ADD COLUMN kind TEXT NOT NULL DEFAULT 'full'",
    "ALTER TABLE runs ADD COLUMN as_of TEXT",
    """
    UPDATE runs SET as_of =
        (SELECT f.as_of FROM frontiers f WHERE f.run = runs.id)
    """,
    """
    CREATE TABLE schedules (
        stream INTEGER NOT NULL REFERENCES streams (id),
        kind TEXT NOT NULL,
        plan TEXT NOT NULL,
        at TEXT NOT NULL,
        begun TEXT,
        PRIMARY KEY (stream, kind)
    ) WITHOUT ROWID
    """,
)
"""What a run reads, the instant for which its rows hold, and when the next is due."""

STEP_4 = (
    """
    CREATE TABLE columns (
        stream INTEGER PRIMARY KEY REFERENCES streams (id),
        version INTEGER NOT NULL,
        place TEXT NOT NULL,
        seen TEXT NOT NULL
    )
    """,
)
"""The columns of a stream's table as its last run saw them."""

STEP_5 = (
    "ALTER TABLE frontiers ADD COLUMN basis TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE frontiers ADD COLUMN method TEXT",
    "ALTER TABLE frontiers ADD COLUMN assumes TEXT NOT NULL DEFAULT '[]'",
    "ALTER TABLE runs ADD COLUMN basis TEXT",
    "ALTER TABLE runs ADD COLUMN base TEXT",
    "ALTER TABLE runs ADD COLUMN base_as_of TEXT",
    "ALTER TABLE runs ADD COLUMN last TEXT",
    "ALTER TABLE runs ADD COLUMN reasons TEXT",
)
"""What a frontier is of and how changes are found; where a run that was cut goes on."""

STEP_6 = (
    """
    CREATE TABLE manifests (
        stream INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        line TEXT NOT NULL,
        PRIMARY KEY (stream, epoch, seq),
        FOREIGN KEY (stream, epoch, seq) REFERENCES batches (stream, epoch, seq)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE receipts_2 (
        stream INTEGER NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('stored', 'loaded', 'rejected')),
        code TEXT,
        n_upsert INTEGER,
        n_delete INTEGER,
        n_keep INTEGER,
        at TEXT NOT NULL,
        jws TEXT NOT NULL,
        kept_at TEXT NOT NULL,
        voucher TEXT,
        PRIMARY KEY (stream, epoch, seq, state, at),
        FOREIGN KEY (stream, epoch, seq) REFERENCES batches (stream, epoch, seq)
    )
    """,
    "INSERT INTO receipts_2 SELECT *, NULL FROM receipts ORDER BY rowid",
    "DROP TABLE receipts",
    "ALTER TABLE receipts_2 RENAME TO receipts",
    """
    CREATE TABLE counts (
        stream INTEGER PRIMARY KEY REFERENCES streams (id),
        run TEXT NOT NULL REFERENCES runs (id),
        rows INTEGER NOT NULL,
        at TEXT NOT NULL
    )
    """,
)
"""Receipts as evidence: with line 1 of their batch, and the directory that vouched for
their key; of a batch that was sent again, every one. What the centre counted."""

STEP_7 = (
    """
    CREATE TABLE reconciles (
        run TEXT PRIMARY KEY,
        stream INTEGER NOT NULL REFERENCES streams (id),
        report TEXT,
        at TEXT,
        found TEXT,
        reply TEXT
    )
    """,
    "CREATE INDEX reconciles_of_stream ON reconciles (stream)",
    """
    CREATE TABLE recalls (
        stream INTEGER PRIMARY KEY REFERENCES streams (id),
        run TEXT NOT NULL,
        rows INTEGER NOT NULL,
        at TEXT NOT NULL,
        proven_at TEXT
    )
    """,
)
"""What comparisons with the centre found, and which resources are recalled."""

STEP_8 = (
    "ALTER TABLE epochs ADD COLUMN cause TEXT",
    """
    CREATE TABLE disk (
        at TEXT PRIMARY KEY,
        free INTEGER NOT NULL,
        used INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)
"""What made an epoch needed, and how full the disk was from time to time."""

STEP_9 = (
    """
    CREATE TABLE deaths (
        stream INTEGER PRIMARY KEY REFERENCES streams (id),
        times INTEGER NOT NULL,
        detail TEXT NOT NULL,
        at TEXT NOT NULL
    )
    """,
)
"""How often the worker of a stream died in a row."""

STEP_10 = (
    """
    CREATE TABLE uploads (
        producer TEXT NOT NULL,
        aud TEXT NOT NULL,
        resource TEXT NOT NULL,
        epoch INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        location TEXT NOT NULL,
        PRIMARY KEY (producer, aud, resource)
    ) WITHOUT ROWID
    """,
)
"""Where an unfinished upload goes on."""

STEP_11 = (
    """
    CREATE TABLE peers (
        node TEXT PRIMARY KEY,
        first TEXT NOT NULL,
        n INTEGER NOT NULL,
        last TEXT NOT NULL,
        at TEXT NOT NULL,
        alarm TEXT
    ) WITHOUT ROWID
    """,
)
"""Which key chains of other nodes we have seen."""

STEP_12 = (
    """
    CREATE TABLE tuf_roles (
        pin TEXT NOT NULL,
        role TEXT NOT NULL,
        version INTEGER NOT NULL,
        keys TEXT NOT NULL,
        expires TEXT,
        PRIMARY KEY (pin, role)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tuf_files (
        path TEXT PRIMARY KEY,
        sha256 TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tuf_kept (
        pin TEXT PRIMARY KEY,
        at TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE tuf_stopped (
        pin TEXT NOT NULL,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        at TEXT NOT NULL,
        PRIMARY KEY (pin, kind, name)
    ) WITHOUT ROWID
    """,
)
"""What the city's TUF repository said last, its floors, and what it ever stopped."""

STEP_13 = (
    """
    CREATE TABLE central (
        name TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE central_turns (
        n INTEGER PRIMARY KEY AUTOINCREMENT,
        at TEXT NOT NULL,
        what TEXT NOT NULL,
        generation INTEGER NOT NULL,
        digest TEXT NOT NULL,
        reason TEXT NOT NULL,
        detail TEXT NOT NULL
    )
    """,
)
"""What the centre wanted of this node, and what became of it."""

STEP_14 = (
    """
    CREATE TABLE commands (
        jti TEXT PRIMARY KEY,
        digest TEXT NOT NULL,
        exp INTEGER NOT NULL,
        status TEXT,
        code TEXT,
        at TEXT,
        bundle TEXT,
        told INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
)
"""Which commands of the exchange were taken."""

STEP_15 = ("ALTER TABLE runs ADD COLUMN place TEXT",)
"""Source, table and columns that a run reads; of runs before this nobody knows."""

STEPS: tuple[tuple[str, ...], ...] = (
    STEP_1,
    STEP_2,
    STEP_3,
    STEP_4,
    STEP_5,
    STEP_6,
    STEP_7,
    STEP_8,
    STEP_9,
    STEP_10,
    STEP_11,
    STEP_12,
    STEP_13,
    STEP_14,
    STEP_15,
)
"""Step n is ``STEPS[n - 1]``; each runs in one transaction with its number."""
