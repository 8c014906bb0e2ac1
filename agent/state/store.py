# SPDX-License-Identifier: Apache-2.0
"""What the daemon remembers, method by transaction.

A method that the full disk refused is undone and done once more, after the disk's
reserve was given up.

Every method is synchronous and safe to call from any thread; a flow calls it off the
event loop. All raise ``StateDamaged`` or ``SpoolWriteFailed`` when SQLite or the disk
refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from agent.errors import ChainMoved
from agent.model.column import Column
from agent.model.job import Resume
from agent.model.run import RunKind, ScheduledKind
from agent.model.stream import Head
from agent.state import cuts, deaths, disk, halts, proofs
from agent.state import rows as row
from agent.state.again import each_once_more
from agent.state.beats import Beats
from agent.state.central import CentralRows
from agent.state.commands import Commands
from agent.state.database import Connection
from agent.state.deaths import Deaths
from agent.state.leftovers import Leftovers
from agent.state.peers import Pins
from agent.state.places import Places
from agent.state.reconciles import Reconciles
from agent.state.records import (
    Batch,
    BatchState,
    Catalog,
    Complete,
    Count,
    DiskSample,
    Epoch,
    KeptDue,
    KeptFrontier,
    KeptReceipt,
    NewBatch,
    NewReceipt,
    Opened,
    Place,
    Proof,
    Run,
    RunEnd,
    RunState,
    RunTotals,
    SeenColumns,
    Stream,
    StreamKey,
    Sums,
)
from agent.state.rekeys import Rekeys
from agent.state.trust import Trusts
from agent.state.uploads import Uploads

ALL = ""
"""The name under which a pause of everything is kept."""
_ENDS_HALT = frozenset({"cloned", "regained", "rejected"})
"""Causes of an epoch that a person's word begins."""
_VOUCHERS_AT_ONCE = 10_000
_OPEN_STATES = frozenset({"waiting", "stored"})
_OPEN = " AND state IN ('waiting', 'stored')"
"""Said in just these words, SQLite takes the index of the few batches that are open,
and not the one of all that ever were."""


@each_once_more
class State:
    """The state of one daemon.

    Args:
        path: the database file; made if it is not there.
        new_incarnation: makes 32 lower hex digits, used when the file is made.
        before: called before each transaction; may make room on the disk.
        full: called after one that the full disk refused; makes what room it can.
    """

    def __init__(
        self,
        path: Path,
        *,
        new_incarnation: Callable[[], str],
        before: Callable[[], None] = lambda: None,
        full: Callable[[], None] = lambda: None,
    ) -> None:
        self._connection = Connection(path, before=before, full=full)
        self.beats = Beats(self._connection)
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO meta VALUES ('incarnation', ?)",
                [new_incarnation()],
            )

    def close(self) -> None:
        """Close the database; the state cannot be used afterwards."""
        self._connection.close()

    @property
    def commands(self) -> Commands:
        """Which commands of the exchange were taken."""
        return Commands(self._connection)

    @property
    def reconciles(self) -> Reconciles:
        """What comparisons with the centre found, and what is recalled."""
        return Reconciles(self._connection)

    @property
    def places(self) -> Places:
        """Where runs read."""
        return Places(self._connection)

    @property
    def uploads(self) -> Uploads:
        """Where unfinished uploads go on."""
        return Uploads(self._connection)

    @property
    def leftovers(self) -> Leftovers:
        """What waits of resources that are gone."""
        return Leftovers(self._connection)

    @property
    def peers(self) -> Pins:
        """Key chains of other nodes, as far as we know them."""
        return Pins(self._connection)

    @property
    def central(self) -> CentralRows:
        """The centre's configuration, and what became of it."""
        return CentralRows(self._connection)

    @property
    def trust(self) -> Trusts:
        """What the city's TUF repository said last."""
        return Trusts(self._connection)

    @property
    def rekeys(self) -> Rekeys:
        """Seals what waits anew."""
        return Rekeys(self._connection)

    # --- streams ------------------------------------------------------------------

    @property
    def incarnation(self) -> str:
        """Which life of the state this is; it changes when a restore shows."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT value FROM meta WHERE name = 'incarnation'")
            return str(found.fetchone()[0])

    def renew_incarnation(self, value: str, *, after: str) -> str:
        """Begin a new life: the exchange proved that this state is an old copy.

        Args:
            value: of the new life.
            after: of the life that ends; another stream may have ended it already.

        Returns:
            The incarnation that holds now.
        """
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE meta SET value = ? WHERE name = 'incarnation' AND value = ?",
                [value, after],
            )
            return self.incarnation

    def stream(self, key: StreamKey) -> Stream:
        """The stream of this identity; it is made if it is new."""
        parts = [key.producer, key.aud, key.resource]
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO streams (producer, aud, resource, incarnation)"
                " SELECT ?, ?, ?, value FROM meta WHERE name = 'incarnation'",
                parts,
            )
            found = db.execute(
                "SELECT * FROM streams WHERE producer = ? AND aud = ? AND resource = ?",
                parts,
            )
            return row.stream(row.one(found))

    def open_epoch(self, stream: int, epoch: Epoch) -> None:
        """Begin an epoch: unfinished batches of older ones are dropped.

        What they brought forward is read again: the frontier is forgotten. A halt ends
        by an epoch of its own cause, which only a person's word begins.

        Raises:
            ChainMoved: the stream is halted.
        """
        head = epoch.head
        with self._connection.transaction() as db:
            cuts.forget(db, stream)
            begun = db.execute(
                "UPDATE streams SET epoch = ?, seq = ?, prev = ?, incarnation = ?,"
                " reason = ?, halt_code = NULL, halt_detail = NULL, halt_at = NULL"
                " WHERE id = ? AND (halt_code IS NULL OR ?)",
                [*_head(head), stream, epoch.cause in _ENDS_HALT],
            )
            if not begun.rowcount:
                raise ChainMoved("the stream was halted meanwhile")
            db.execute(
                "INSERT INTO epochs (stream, epoch, reason, prev, incarnation,"
                " position, opened_at, cause) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    stream,
                    head.epoch,
                    head.reason,
                    head.prev,
                    head.incarnation,
                    epoch.position,
                    epoch.at,
                    epoch.cause,
                ],
            )
            db.execute(
                "UPDATE batches SET state = 'dropped', settled_at = ? WHERE stream = ?"
                " AND epoch < ? AND state IN ('waiting', 'stored')",
                [epoch.at, stream, head.epoch],
            )

    def epoch_base(self, stream: int, epoch: int) -> str | None:
        """What the first batch of an epoch chains to."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT prev FROM epochs WHERE stream = ? AND epoch = ?",
                [stream, epoch],
            ).fetchone()
            return None if found is None else found[0]

    def opened(self, stream: int, epoch: int) -> Opened | None:
        """Why and when an epoch was begun."""
        with self._connection.transaction() as db:
            return halts.opened(db, stream, epoch)

    def receipted(self, stream: int) -> tuple[int, int]:
        """(epoch, seq) of the newest batch with a receipt, (0, 0) if there is none."""
        with self._connection.transaction() as db:
            return halts.receipted(db, stream)

    def halt(self, stream: int, code: str, detail: str, *, at: str) -> None:
        """Stop one stream until a person pulls."""
        with self._connection.transaction() as db:
            halts.halt(db, stream, code, detail, at=at)

    def halt_all(self, code: str, detail: str, *, at: str) -> None:
        """Every stream waits for a person."""
        with self._connection.transaction() as db:
            halts.halt_all(db, code, detail, at)

    # --- batches ------------------------------------------------------------------

    def register(self, new: NewBatch) -> None:
        """Register a durable batch, advance the chain and the run, in one transaction.

        Raises:
            ChainMoved: the stream's head is not the one that the batch was sealed on.
        """
        head, after = new.head, new.head.after(new.digest)
        with self._connection.transaction() as db:
            moved = db.execute(
                "UPDATE streams SET epoch = ?, seq = ?, prev = ?, incarnation = ?,"
                " reason = ? WHERE id = ? AND halt_code IS NULL"
                " AND epoch = ? AND seq = ? AND prev IS ? AND incarnation = ?"
                " AND reason IS ?",
                [*_head(after), new.stream, *_head(head)],
            )
            if moved.rowcount != 1:
                raise ChainMoved(f"{new.file} was sealed on {head.epoch}/{head.seq}")
            db.execute(
                "INSERT INTO batches VALUES"
                " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?,"
                " 'waiting', 0, ?, NULL)",
                row.batch_values(new),
            )
            proofs.keep_line(db, new)
            cuts.advance(db, new)

    def batch(self, stream: int, epoch: int, seq: int) -> Batch | None:
        """A registered batch, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM batches WHERE stream = ? AND epoch = ? AND seq = ?",
                [stream, epoch, seq],
            )
            records = row.many(found)
            return row.batch(records[0]) if records else None

    def batches(
        self, stream: int, states: Sequence[BatchState], *, limit: int = -1
    ) -> tuple[Batch, ...]:
        """Batches of a stream in these states, in chain order."""
        marks = ", ".join("?" * len(states))
        index = _OPEN if _OPEN_STATES.issuperset(states) else ""
        with self._connection.transaction() as db:
            found = db.execute(
                # Only question marks are put in.
                f"SELECT * FROM batches WHERE stream = ? AND state IN ({marks}){index}"  # noqa: S608
                " ORDER BY epoch, seq LIMIT ?",
                [stream, *states, limit],
            )
            return tuple(row.batch(r) for r in row.many(found))

    def settling(self, stream: int) -> tuple[Batch, ...]:
        """Stored batches that may load, in chain order.

        The parts of a snapshot load with its final one, others one by one.
        """
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT b.* FROM batches b WHERE b.stream = ? AND b.state = 'stored'"
                " AND b.state IN ('waiting', 'stored') AND (b.mode <> 'full' OR EXISTS"
                " (SELECT 1 FROM batches f WHERE f.run = b.run AND f.final = 1"
                " AND f.state IN ('stored', 'loaded')))"
                " ORDER BY b.epoch, b.seq",
                [stream],
            )
            return tuple(row.batch(r) for r in row.many(found))

    def amount(self, stream: int, state: BatchState) -> tuple[int, int]:
        """(batches, bytes) of a stream in a state."""
        index = _OPEN if state in _OPEN_STATES else ""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT count(*), coalesce(sum(size), 0) FROM batches"  # noqa: S608
                f" WHERE stream = ? AND state = ?{index}",  # our own text
                [stream, state],
            ).fetchone()
            return int(found[0]), int(found[1])

    def last_loaded(self, stream: int) -> tuple[int, int]:
        """(epoch, seq) of the last loaded batch, (0, 0) if there is none."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT epoch, seq FROM batches WHERE stream = ? AND state = 'loaded'"
                " ORDER BY epoch DESC, seq DESC LIMIT 1",
                [stream],
            ).fetchone()
            return (0, 0) if found is None else (int(found[0]), int(found[1]))

    def final_of(self, run: str) -> Batch | None:
        """The final batch of a run, or None if it is not registered."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM batches WHERE run = ? AND final = 1", [run]
            )
            records = row.many(found)
            return row.batch(records[0]) if records else None

    def recent(self, stream: int, limit: int) -> tuple[Batch, ...]:
        """The last batches of a stream, newest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM batches WHERE stream = ?"
                " ORDER BY epoch DESC, seq DESC LIMIT ?",
                [stream, limit],
            )
            return tuple(row.batch(r) for r in row.many(found))

    def files(self) -> dict[str, int]:
        """Names and sizes of the files that must be in the spool."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT file, size FROM batches WHERE gone = 0")
            return dict(found.fetchall())

    def purgeable(
        self, *, loaded_before: str, stored_before: str, limit: int = -1
    ) -> tuple[tuple[str, Batch], ...]:
        """(resource, batch) whose file may go: long settled, or dropped."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT s.resource, b.* FROM batches b"
                " JOIN streams s ON s.id = b.stream"
                " WHERE b.gone = 0 AND (b.state = 'dropped'"
                " OR (b.state IN ('loaded', 'rejected') AND b.settled_at <= ?)"
                " OR (b.state = 'stored' AND b.settled_at <= ?))"
                " ORDER BY b.settled_at, b.stream, b.epoch, b.seq LIMIT ?",
                [loaded_before, stored_before, limit],
            )
            return tuple((str(r["resource"]), row.batch(r)) for r in row.many(found))

    def mark_gone(self, batches: Sequence[Batch]) -> None:
        """These files are no longer in the spool."""
        with self._connection.transaction() as db:
            for b in batches:
                db.execute(
                    "UPDATE batches SET gone = 1"
                    " WHERE stream = ? AND epoch = ? AND seq = ?",
                    [b.stream, b.epoch, b.seq],
                )

    # --- receipts -----------------------------------------------------------------

    def keep_receipt(self, stream: int, new: NewReceipt, *, at: str) -> None:
        """Keep a verified receipt and what follows from it, in one transaction.

        ``loaded`` on a final part ends what older snapshots left behind; ``rejected``
        halts the stream and drops what stands on the rejected batch.
        """
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR IGNORE INTO receipts VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
                [stream, *row.receipt_values(new), at, new.voucher],
            )
            changed = db.execute(
                "UPDATE batches SET state = ?1, settled_at = ?2"
                " WHERE stream = ?3 AND epoch = ?4 AND seq = ?5"
                " AND (state = 'waiting' OR (state = 'stored' AND ?1 <> 'stored'))",
                [new.state, at, stream, new.epoch, new.seq],
            )
            if changed.rowcount and new.state == "rejected":
                _halt(db, stream, new, at)
            if changed.rowcount and new.state == "loaded":
                _end_older_snapshots(db, stream, new, at)

    def receipts(self, stream: int, *, limit: int) -> tuple[KeptReceipt, ...]:
        """Receipts of a stream, newest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM receipts WHERE stream = ?"
                " ORDER BY epoch DESC, seq DESC, rowid DESC LIMIT ?",
                [stream, limit],
            )
            return tuple(row.kept_receipt(r) for r in row.many(found))

    def receipts_of(self, stream: int, epoch: int, seq: int) -> tuple[KeptReceipt, ...]:
        """All receipts of one batch, oldest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM receipts WHERE stream = ? AND epoch = ? AND seq = ?"
                " ORDER BY rowid",
                [stream, epoch, seq],
            )
            return tuple(row.kept_receipt(r) for r in row.many(found))

    def line(self, stream: int, epoch: int, seq: int) -> str | None:
        """Line 1 of a batch as it was signed, or None if it was not kept."""
        with self._connection.transaction() as db:
            return proofs.line(db, stream, epoch, seq)

    def proofs(
        self, stream: int, *, since: str, after: Place, limit: int
    ) -> tuple[Proof, ...]:
        """Receipts signed since then with their manifests, by batch, oldest first.

        Given are those of the next ``limit`` batches behind ``after``.
        """
        with self._connection.transaction() as db:
            return proofs.proofs(db, stream, since=since, after=after, limit=limit)

    def vouchers(self) -> frozenset[str]:
        """Digests of directories that receipts name; read in many short steps."""
        named: frozenset[str] = frozenset()
        after: int | None = 0
        while after is not None:
            with self._connection.transaction() as db:
                more, after = proofs.vouchers(db, after, _VOUCHERS_AT_ONCE)
            named |= more
        return named

    def stream_of(self, key: StreamKey) -> int | None:
        """Number of a stream that there is, though its resource may be gone."""
        with self._connection.transaction() as db:
            return proofs.stream_of(db, key)

    def resources(self, producer: str, aud: str) -> tuple[str, ...]:
        """What was ever to be sent, though it may not leave any more."""
        with self._connection.transaction() as db:
            return proofs.resources(db, producer, aud)

    def kept_files(self, stream: int, *, after: Place, limit: int) -> tuple[Batch, ...]:
        """Batches behind a place whose files must be there, in chain order."""
        with self._connection.transaction() as db:
            return proofs.kept_files(db, stream, after=after, limit=limit)

    def offered(self, stream: int, *, after: Place) -> tuple[Batch, ...]:
        """Batches behind a place that were not given up, in chain order."""
        with self._connection.transaction() as db:
            return proofs.offered(db, stream, after=after)

    def sealed_since(self, stream: int, *, since: str, limit: int) -> tuple[Batch, ...]:
        """Batches that were sealed since then and not given up, in chain order."""
        with self._connection.transaction() as db:
            return proofs.sealed_since(db, stream, since=since, limit=limit)

    def wait_again(self, stream: int, after: Place) -> int:
        """Batches behind a place are to be sent again as they are; how many."""
        with self._connection.transaction() as db:
            return proofs.wait_again(db, stream, after)

    def count(self, stream: int) -> Count | None:
        """What the centre counted last, or None."""
        with self._connection.transaction() as db:
            return proofs.count(db, stream)

    def keep_count(self, stream: int, new: Count) -> None:
        """What the centre counted, in place of what was kept."""
        with self._connection.transaction() as db:
            proofs.keep_count(db, stream, new)

    # --- runs ---------------------------------------------------------------------

    def add_run(self, run: Run, *, due: KeptDue | None = None) -> None:
        """A run that was asked for and, if it was due, when the next one will be."""
        confirmed = run.deletes_confirmed
        with self._connection.transaction() as db:
            db.execute(
                "INSERT INTO runs"
                " (id, stream, state, deletes_confirmed, asked_at, kind)"
                " VALUES (?, ?, 'queued', ?, ?, ?)",
                [run.id, run.stream, confirmed, run.asked_at, run.kind],
            )
            if due is not None:
                self.keep_due(due)

    def start_run(self, run: str, *, at: str) -> None:
        """The run begins to read, or goes on."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE runs SET state = 'reading', code = NULL, detail = NULL,"
                " started_at = coalesce(started_at, ?) WHERE id = ?",
                [at, run],
            )

    def settle_run(self, run: str, *, kind: RunKind, basis: str) -> None:
        """What the run really reads, and of what."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE runs SET kind = ?, basis = ? WHERE id = ?", [kind, basis, run]
            )

    def frontier(self, stream: int) -> KeptFrontier | None:
        """Up to where a stream was read, or None."""
        with self._connection.transaction() as db:
            return cuts.frontier(db, stream)

    def forget_frontier(self, stream: int) -> None:
        """The next read of a stream is a full one."""
        with self._connection.transaction() as db:
            cuts.forget(db, stream)

    def resume_point(self, run: str) -> Resume | None:
        """Where a full read that was cut can go on, or None: from its first row."""
        with self._connection.transaction() as db:
            return cuts.resume_point(db, run)

    def suspend_run(self, run: str, *, code: str, detail: str) -> Run | None:
        """Queue a run that was cut and can go on; None if it cannot."""
        with self._connection.transaction() as db:
            return self.run(run) if cuts.suspend(db, run, code, detail) else None

    def end_run(self, run: str, totals: RunTotals, *, at: str) -> None:
        """The run has read everything and its last batch is registered."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE runs SET state = 'read', ended_at = ?, totals = ? WHERE id = ?",
                [at, json.dumps(asdict(totals), ensure_ascii=False), run],
            )

    def stop_run(self, run: str, end: RunEnd, *, successor: Run | None = None) -> None:
        """The run ended early; the run that repeats it is queued with that."""
        after = None if successor is None else successor.id
        with self._connection.transaction() as db:
            if successor is not None:
                self.add_run(successor)
            db.execute(
                "UPDATE runs SET state = ?, ended_at = ?, code = ?, detail = ?,"
                " successor = ?, keys_gone = ? WHERE id = ?",
                [*(end.state, end.at, end.code, end.detail), after, end.keys_gone, run],
            )

    def confirm_run(self, run: str, deletes: int) -> None:
        """A person agreed to so many deletes of a run that is still queued."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE runs SET deletes_confirmed = ? WHERE id = ?", [deletes, run]
            )

    def run(self, run: str) -> Run | None:
        """A run, or None."""
        with self._connection.transaction() as db:
            records = row.many(db.execute("SELECT * FROM runs WHERE id = ?", [run]))
            return row.run(records[0]) if records else None

    def last_run(self, stream: int, states: Sequence[RunState] = ()) -> Run | None:
        """The newest run of a stream, of these states if any are named."""
        marks = ", ".join("?" * len(states))
        wanted = f" AND state IN ({marks})" if states else ""
        with self._connection.transaction() as db:
            found = db.execute(
                # Only question marks are put in.
                f"SELECT * FROM runs WHERE stream = ?{wanted}"  # noqa: S608
                " ORDER BY rowid DESC LIMIT 1",
                [stream, *states],
            )
            records = row.many(found)
            return row.run(records[0]) if records else None

    def last_whole(self, stream: int) -> Run | None:
        """The newest run that has read the whole table, None after a recall."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM runs WHERE stream = ? AND state = 'read'"
                " AND kind IN ('full', 'diff', 'recall') ORDER BY rowid DESC LIMIT 1",
                [stream],
            )
            runs = [row.run(r) for r in row.many(found)]
            return next((run for run in runs if run.kind != "recall"), None)

    def unfinished_runs(self) -> tuple[Run, ...]:
        """Runs that were queued or reading when the process ended, oldest first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM runs WHERE state IN ('queued', 'reading') ORDER BY rowid"
            )
            return tuple(row.run(r) for r in row.many(found))

    def sums(self, run: str) -> Sums:
        """The batches of a run, added up."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT state, count(*) AS batches, sum(n_upsert) AS n_upsert,"
                " sum(n_delete) AS n_delete, sum(n_keep) AS n_keep,"
                " sum(n_read) AS n_read, sum(n_quarantined) AS n_quarantined,"
                " sum(n_skipped) AS n_skipped,"
                " sum(n_read <> n_upsert + n_quarantined + n_skipped) AS uneven,"
                " sum(n_keep > n_quarantined) AS overkept,"
                " sum((SELECT r.n_upsert FROM receipts r"
                " WHERE r.stream = b.stream AND r.epoch = b.epoch AND r.seq = b.seq"
                " AND r.state = 'loaded' ORDER BY r.rowid DESC LIMIT 1)) AS receipted"
                " FROM batches b WHERE run = ? GROUP BY state",
                [run],
            )
            return row.sums(row.many(found))

    def counted(self, run: str) -> tuple[Mapping[str, int], Mapping[str, int]]:
        """Reasons and warnings of the registered batches of a run."""
        with self._connection.transaction() as db:
            return cuts.counted(db, run)

    def last_distinct(self, stream: int) -> int | None:
        """Distinct keys of the newest snapshot that stands or may still load.

        Those that were deleted since do not count; what came since is not known.
        """
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT max(s.distinct_rows - (SELECT coalesce(sum(d.n_delete), 0)"
                " FROM batches d WHERE d.stream = s.stream"
                " AND (d.epoch, d.seq) > (s.epoch, s.seq)"
                " AND d.state IN ('waiting', 'stored', 'loaded')), 0)"
                " FROM batches s WHERE s.stream = ? AND s.final = 1"
                " AND s.distinct_rows IS NOT NULL"
                " AND s.state IN ('waiting', 'stored', 'loaded')"
                " ORDER BY s.epoch DESC, s.seq DESC LIMIT 1",
                [stream],
            ).fetchone()
            return None if found is None else int(found[0])

    # --- columns --------------------------------------------------------------------

    def columns(self, stream: int) -> SeenColumns | None:
        """The table of a stream as its last run saw it, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT version, place, seen FROM columns WHERE stream = ?", [stream]
            ).fetchone()
            if found is None:
                return None
            columns = tuple(Column(**c) for c in json.loads(found[2]))
            return SeenColumns(int(found[0]), str(found[1]), columns)

    def keep_columns(self, stream: int, seen: SeenColumns) -> None:
        """The table as a run that goes on sees it."""
        text = json.dumps([asdict(c) for c in seen.columns], ensure_ascii=False)
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO columns VALUES (?, ?, ?, ?)",
                [stream, seen.version, seen.place, text],
            )

    # --- times ---------------------------------------------------------------------

    def complete(self, stream: int) -> Complete | None:
        """Up to where the exchange has everything; None before that, or recalled."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT r.as_of, b.settled_at, r.kind FROM batches b"
                " JOIN runs r ON r.id = b.run"
                " WHERE b.stream = ? AND b.final = 1 AND b.state = 'loaded'"
                " AND r.kind IN ('full', 'incremental', 'diff', 'recall')"
                " ORDER BY b.epoch DESC, b.seq DESC LIMIT 1",
                [stream],
            ).fetchone()
            if found is None or found[2] == "recall":
                return None
            return Complete(found[0], str(found[1]))

    def dues(self) -> tuple[KeptDue, ...]:
        """What is kept of all schedules."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT stream, kind, plan, at, begun FROM schedules")
            return tuple(KeptDue(*r) for r in found.fetchall())

    def keep_due(self, due: KeptDue) -> None:
        """When a kind of run is due next, in place of what was kept."""
        with self._connection.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO schedules VALUES (?, ?, ?, ?, ?)",
                [due.stream, due.kind, due.plan, due.at, due.begun],
            )

    def forget_due(self, stream: int, kind: ScheduledKind) -> None:
        """A kind of run is not scheduled any more."""
        with self._connection.transaction() as db:
            db.execute(
                "DELETE FROM schedules WHERE stream = ? AND kind = ?", [stream, kind]
            )

    def last_begun(self, stream: int, kind: RunKind) -> str | None:
        """When the newest run of a kind began, or was asked for.

        What was wanted as an increment may have been read as a diff.
        """
        other = "diff" if kind == "incremental" else kind
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT coalesce(started_at, asked_at) FROM runs"
                " WHERE stream = ? AND kind IN (?, ?) ORDER BY rowid DESC LIMIT 1",
                [stream, kind, other],
            ).fetchone()
            return None if found is None else str(found[0])

    # --- the disk -----------------------------------------------------------------

    def note_disk(self, sample: DiskSample, *, oldest: str) -> None:
        """Keep how full the disk is, and nothing from before ``oldest``."""
        with self._connection.transaction() as db:
            disk.add(db, sample, oldest=oldest)

    def disk(self, since: str) -> tuple[DiskSample, ...]:
        """How full it was from a moment on, oldest first."""
        with self._connection.transaction() as db:
            return disk.samples(db, since)

    # --- catalogs, pauses ---------------------------------------------------------

    def catalog(self, stream: int, version: int) -> Catalog | None:
        """The signed statement of this version, or None."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM catalogs WHERE stream = ? AND version = ?",
                [stream, version],
            )
            records = row.many(found)
            return row.catalog(records[0]) if records else None

    def add_catalog(self, stream: int, new: Catalog) -> None:
        """Keep a signed statement; a version is kept once and never changes."""
        with self._connection.transaction() as db:
            db.execute(
                "INSERT INTO catalogs VALUES (?, ?, ?, ?, NULL)",
                [stream, new.version, new.digest, new.jws],
            )

    def unsent_catalogs(self, stream: int) -> tuple[Catalog, ...]:
        """Statements that the exchange has not taken yet, oldest version first."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT * FROM catalogs WHERE stream = ? AND sent_at IS NULL"
                " ORDER BY version",
                [stream],
            )
            return tuple(row.catalog(r) for r in row.many(found))

    def mark_catalog(self, stream: int, version: int, *, sent_at: str) -> None:
        """The exchange took the statement."""
        with self._connection.transaction() as db:
            db.execute(
                "UPDATE catalogs SET sent_at = ? WHERE stream = ? AND version = ?",
                [sent_at, stream, version],
            )

    def forget_catalogs(self, stream: int) -> None:
        """The exchange says that it does not know them: they are to be sent again."""
        with self._connection.transaction() as db:
            db.execute("UPDATE catalogs SET sent_at = NULL WHERE stream = ?", [stream])

    def deaths(self, stream: int) -> Deaths | None:
        """How often the worker of a stream died in a row; None: not once."""
        with self._connection.transaction() as db:
            return deaths.known(db, stream)

    def count_death(self, stream: int, *, detail: str, at: str) -> Deaths:
        """It died once more."""
        with self._connection.transaction() as db:
            return deaths.count(db, stream, detail=detail, at=at)

    def forget_deaths(self, stream: int) -> None:
        """It has ended as it should, or a person has looked."""
        with self._connection.transaction() as db:
            deaths.forget(db, stream)

    def pauses(self) -> frozenset[str]:
        """Paused resources; :data:`ALL` among them pauses everything."""
        with self._connection.transaction() as db:
            found = db.execute("SELECT resource FROM pauses").fetchall()
            return frozenset(str(r[0]) for r in found)

    def pause(self, resource: str, *, at: str) -> None:
        """Pause a resource, or :data:`ALL`."""
        with self._connection.transaction() as db:
            db.execute("INSERT OR IGNORE INTO pauses VALUES (?, ?)", [resource, at])

    def resume(self, resource: str) -> None:
        """End a pause; :data:`ALL` ends every pause."""
        with self._connection.transaction() as db:
            db.execute(
                "DELETE FROM pauses WHERE resource = ? OR ? = ''", [resource] * 2
            )


def _head(head: Head) -> list[Any]:
    return [head.epoch, head.seq, head.prev, head.incarnation, head.reason]


def _halt(db: Database, stream: int, new: NewReceipt, at: str) -> None:
    cuts.forget(db, stream)
    detail = f"batch {new.epoch}/{new.seq}"
    db.execute(
        "UPDATE streams SET halt_code = ?, halt_detail = ?, halt_at = ?"
        " WHERE id = ? AND epoch = ?",
        [new.code or "rejected", detail, at, stream, new.epoch],
    )
    db.execute(
        "UPDATE batches SET state = 'dropped', settled_at = ? WHERE stream = ?"
        " AND epoch = ? AND seq <> ? AND state IN ('waiting', 'stored')",
        [at, stream, new.epoch, new.seq],
    )


def _end_older_snapshots(db: Database, stream: int, new: NewReceipt, at: str) -> None:
    db.execute(
        "UPDATE batches SET state = 'dropped', settled_at = ? WHERE stream = ?"
        " AND (epoch < ? OR (epoch = ? AND seq < ?)) AND state = 'stored'"
        " AND mode = 'full' AND run <>"
        " (SELECT run FROM batches WHERE stream = ? AND epoch = ? AND seq = ?)",
        [at, stream, new.epoch, new.epoch, new.seq, stream, new.epoch, new.seq],
    )
