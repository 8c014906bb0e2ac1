# SPDX-License-Identifier: Apache-2.0
"""The ledger's file: alone, synced, and a transaction is whole or nothing."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AlreadyRunning, AuditDamaged, AuditWriteFailed
from agent.state.ledger import PAGE, Ledger
from agent.state.ledger_records import KeptBox, KeptCheckpoint, KeptRequest, Tile
from agent.state.ledger_schema import STEP_1
from agent.state.ledger_writing import (
    _ANSWER,
    _FIND,
    GONE_AT_ONCE,
    TOGETHER,
    Writing,
)
from tests.support.tries import tries


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lookup.db"


def test_commits_are_synced_in_a_journal_of_its_own(path: Path) -> None:
    """WAL with an exclusive lock and FULL; no shared memory file is made. What is
    deleted is overwritten, whatever the library's default."""
    ledger = Ledger(path)
    with ledger._connection.transaction() as db:
        got = [
            db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in (
                "synchronous",
                "journal_mode",
                "locking_mode",
                "secure_delete",
            )
        ]
    with ledger.writing() as tx:
        tx.add_leaves([(0, "{}")])
    names = sorted(p.name for p in path.parent.iterdir())
    ledger.close()
    assert got == [2, "wal", "exclusive", 1]
    assert names == ["lookup.db", "lookup.db-wal", "lookup.db.lock"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nobody_else_opens_it(path: Path) -> None:
    """Neither a second ledger nor a program without our lock file."""
    ledger = Ledger(path)
    with pytest.raises(AlreadyRunning):
        Ledger(path)
    other = sqlite3.connect(path, timeout=0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("SELECT * FROM leaves")
    other.close()
    ledger.close()


def test_a_broken_transaction_leaves_nothing(path: Path) -> None:
    """All tables of it."""
    ledger = Ledger(path)
    with contextlib.suppress(RuntimeError), ledger.writing() as tx:
        tx.add_leaves([(0, "{}")])
        tx.begin(KeptRequest("iss", "jti", "digest", 1))
        tx.add_evidence([KeptBox(0, "2026-11-21", b"box")])
        raise RuntimeError
    assert (ledger.size(), ledger.open_requests(), ledger.box(0)) == (0, (), None)
    ledger.close()


def test_a_leaf_is_never_written_twice(path: Path) -> None:
    """Damage, not a new version."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        tx.add_leaves([(0, "one")])
    with pytest.raises(AuditDamaged), ledger.writing() as tx:
        tx.add_leaves([(0, "two")])
    assert ledger.leaves(0, 1) == ("one",)
    ledger.close()


def test_what_was_committed_survives_a_crash_of_the_process(
    path: Path, tmp_path: Path
) -> None:
    """A copy of the files as they are, journal included, has it all."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        tx.add_leaves([(n, f"{n}") for n in range(500)])
        tx.add_tiles([Tile(0, 0, bytes(8192))])
    ledger.fold()
    with ledger.writing() as tx:
        tx.add_leaves([(500, "500")])
    (tmp_path / "copy").mkdir()
    for name in ("lookup.db", "lookup.db-wal"):
        shutil.copy(tmp_path / name, tmp_path / "copy" / name)
    ledger.close()
    again = Ledger(tmp_path / "copy" / "lookup.db")
    assert again.size() == 501
    assert again.tile(0, 0) == bytes(8192)
    again.close()


def test_a_torn_journal_ends_at_the_last_whole_commit(
    path: Path, tmp_path: Path
) -> None:
    """A power cut in the middle of a write."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        tx.add_leaves([(0, "zero")])
    wal = path.with_name("lookup.db-wal")
    sizes = []
    for n in range(1, 4):
        with ledger.writing() as tx:
            tx.add_leaves([(n, "x" * 3000)])
        sizes.append(wal.stat().st_size)
    (tmp_path / "copy").mkdir()
    shutil.copy(path, tmp_path / "copy" / "lookup.db")
    data = wal.read_bytes()
    ledger.close()
    (tmp_path / "copy" / "lookup.db-wal").write_bytes(data[: sizes[1] + 2000])
    again = Ledger(tmp_path / "copy" / "lookup.db")
    assert again.size() == 3
    assert again.leaves(0, 9)[0] == "zero"
    again.close()


def test_reading_is_bounded(path: Path) -> None:
    """A page at a time."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        tx.add_leaves([(n, "x") for n in range(PAGE + 5)])
    assert len(ledger.leaves(0, PAGE + 5)) == PAGE
    assert len(ledger.leaves(PAGE, PAGE + 5)) == 5
    ledger.close()


def test_deleting_is_bounded(path: Path) -> None:
    """Answered requests whose time has passed, some at a time; open ones never."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        for n in range(GONE_AT_ONCE + 3):
            tx.begin(KeptRequest("iss", f"{n:06d}", "digest", 5))
            tx.answer("iss", f"{n:06d}", leaf=n)
        tx.begin(KeptRequest("iss", "open", "digest", 5))
        tx.begin(KeptRequest("iss", "young", "digest", 50))
    with ledger.writing() as tx:
        gone = [tx.forget_requests(9) for _ in range(3)]
        left = tx._db.execute("SELECT count(*) FROM requests").fetchone()[0]
    assert (gone, left) == ([5, 5, None], 2)
    assert [r.jti for r in ledger.open_requests()] == ["open", "young"]
    ledger.close()


def names(n: int) -> list[tuple[str, str]]:
    """Names of requests, some of which read like SQL or JSON."""
    return [(f"""o'"\\[{i % 3}]张/{i % 7}""", f"{i:06d}") for i in range(n)]


@pytest.mark.parametrize("n", [0, 1, TOGETHER, TOGETHER + 1, 200])
def test_many_lookups_of_a_transaction_are_as_many_of_their_own(
    tmp_path: Path, n: int
) -> None:
    """Found, begun, answered at once or one by one: the same rows, the same words."""
    kept = [KeptRequest(*name, f"d{i}", 9 + i) for i, name in enumerate(names(n))]
    known = [replace(r, leaf=5) for r in kept[: n // 2]]
    one, many = Ledger(tmp_path / "one.db"), Ledger(tmp_path / "many.db")
    found: dict[Ledger, list[KeptRequest | None]] = {one: [], many: []}
    for ledger in (one, many):
        with ledger.writing() as tx:
            for r in known:
                tx.begin(replace(r, leaf=None))
                tx.answer(r.iss, r.jti, leaf=5)
    with many.writing() as tx:
        tx.look_up([(r.iss, r.jti) for r in kept])
        for i, r in enumerate(kept):
            found[many].append(one_lookup(tx, r, leaf=100 + i))
    for i, r in enumerate(kept):
        with one.writing() as tx:
            found[one].append(one_lookup(tx, r, leaf=100 + i))
    rows = [rows_of(ledger) for ledger in (one, many)]
    one.close()
    many.close()
    assert found[many] == found[one] == known + [None] * (n - len(known))
    assert rows[1] == rows[0]
    assert [r.leaf for r in rows[0].values()].count(5) == len(known)
    assert len(rows[0]) == n


def one_lookup(tx: Writing, request: KeptRequest, *, leaf: int) -> KeptRequest | None:
    """What was known of a request; if nothing, it is begun, two of three answered."""
    found = tx.request(request.iss, request.jti)
    if found is None:
        tx.begin(request)
        if leaf % 3:
            tx.answer(request.iss, request.jti, leaf=leaf)
    return found


def rows_of(ledger: Ledger) -> dict[tuple[str, str], KeptRequest]:
    """All requests that are kept."""
    with ledger.writing() as tx:
        found = tx._db.execute("SELECT * FROM requests").fetchall()
    return {(r[0], r[1]): KeptRequest(*r) for r in found}


NAMES = st.sampled_from(names(12))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("look_up"), st.lists(NAMES, max_size=12)),
        st.tuples(st.just("request"), NAMES),
        st.tuples(st.just("begin"), NAMES),
        st.tuples(st.just("answer"), NAMES),
        st.tuples(st.just("flush"), st.none()),
        st.tuples(st.just("commit"), st.none()),
    ),
    max_size=40,
)


def test_gathered_rows_are_seen_as_if_they_were_written(path: Path) -> None:
    """In any order of steps, within a transaction and from one to the next."""
    ledger = Ledger(path)

    @tries(150)
    @given(STEPS)
    def holds(steps: list[tuple[str, Any]]) -> None:
        kept: dict[tuple[str, str], KeptRequest] = {}
        with ledger.writing() as tx:
            tx._db.execute("DELETE FROM requests")
        with contextlib.ExitStack() as stack:
            tx = stack.enter_context(ledger.writing())
            for leaf, (step, what) in enumerate(steps):
                match step:
                    case "look_up":
                        tx.look_up(what)
                    case "request":
                        assert tx.request(*what) == kept.get(what)
                    case "begin" if what not in kept:
                        kept[what] = KeptRequest(*what, f"digest {leaf}", leaf)
                        tx.begin(kept[what])
                    case "answer":
                        tx.answer(*what, leaf=leaf)
                        if what in kept:
                            kept[what] = replace(kept[what], leaf=leaf)
                    case "flush":
                        tx.flush()
                    case "commit":
                        stack.close()
                        tx = stack.enter_context(ledger.writing())
        assert rows_of(ledger) == kept

    holds()
    ledger.close()


@pytest.mark.parametrize(("text", "row"), [(_FIND, "(?, ?)"), (_ANSWER, "(?, ?, ?)")])
@pytest.mark.parametrize("n", [1, TOGETHER])
def test_requests_are_found_by_their_key(
    path: Path, text: str, row: str, n: int
) -> None:
    """However many there are of them, no statement walks through all."""
    ledger = Ledger(path)
    rows = ", ".join([row] * n)
    with ledger.writing() as tx:
        plan = tx._db.execute(
            f"EXPLAIN QUERY PLAN {text.format(rows)}", [""] * row.count("?") * n
        ).fetchall()
    ledger.close()
    steps = [str(step[3]) for step in plan if "requests" in str(step[3])]
    assert steps == ["SEARCH requests USING PRIMARY KEY (iss=? AND jti=?)"]


def test_only_an_erased_day_loses_its_boxes(path: Path) -> None:
    """Nothing deletes evidence without the record."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        tx.add_evidence(
            [KeptBox(0, "2026-11-20", b"a"), KeptBox(1, "2026-11-21", b"b")]
        )
        assert tx.forget_boxes("2026-11-20") == 0
        tx.add_erased("2026-11-20", leaf=2)
        assert tx.forget_boxes("2026-11-20") == 1
        assert tx.forget_boxes("2026-11-21") == 0
    assert ledger.days() == ("2026-11-21",)
    ledger.close()


def test_the_head_to_prove_by_is_a_cosigned_one(path: Path) -> None:
    """The first that covers the record and has a cosignature, else the first."""
    ledger = Ledger(path)
    with ledger.writing() as tx:
        for size in (5, 10, 15):
            tx.add_checkpoint(KeptCheckpoint(size, "at", f"note {size}"))
        tx.add_cosignature(10, "line\n")
        tx.add_cosignature(10, "line\n")
    got = [ledger.checkpoint_after(n) for n in (0, 9, 10, 15)]
    cosigned = ledger.newest_checkpoint(cosigned=True)
    ledger.close()
    assert [None if c is None else c.size for c in got] == [10, 10, 15, None]
    assert cosigned == KeptCheckpoint(10, "at", "note 10", "line\n")


def test_a_database_of_the_push_flow_is_refused(path: Path) -> None:
    """Another application id."""
    with sqlite3.connect(path) as db:
        for statement in STEP_1:
            db.execute(statement)
        db.execute("PRAGMA application_id = 1178947649")
    db.close()
    with pytest.raises(AuditDamaged, match="another one"):
        Ledger(path)


def test_a_folder_that_is_not_there_is_a_write_fault(tmp_path: Path) -> None:
    """Exit 74, and lookups are refused."""
    with pytest.raises(AuditWriteFailed):
        Ledger(tmp_path / "absent" / "lookup.db")
