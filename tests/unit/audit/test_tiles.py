# SPDX-License-Identifier: Apache-2.0
"""The tree in tiles is the tree of RFC 6962, whatever its size and its life."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.audit.tiles import WIDTH, TileStore, Tree, rebuild, restore
from agent.crypto.tree import (
    EMPTY_ROOT,
    consistency_path,
    inclusion_path,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from agent.errors import AuditDamaged
from agent.state.ledger import Ledger
from tests.support.audit_log import memory_folder, naive_root
from tests.support.tries import tries

SIZE = 256 * 256 + 300
LINES = [f'{{"n":{n}}}' for n in range(SIZE)]
HASHES = [leaf_hash(line.encode()) for line in LINES]


def grown(size: int) -> Tree:
    """A tree in memory."""
    kept: dict[tuple[int, int], bytes] = {}
    tree = Tree(TileStore(lambda level, n: kept.get((level, n))), 0, [[]])
    for made in HASHES[:size]:
        tree.append(made)
    kept.update({(t.level, t.number): t.hashes for t in tree.fresh()})
    return tree


BIG = grown(SIZE)


@given(size=st.integers(0, 1100))
@tries(100)
def test_the_root_is_that_of_rfc_6962(size: int) -> None:
    """Of the whole tree and of every earlier one."""
    assert grown(size).root() == naive_root(HASHES[:size])


@given(size=st.integers(0, SIZE))
@tries(30)
def test_an_earlier_root_is_still_known(size: int) -> None:
    """Over two levels of full tiles."""
    wanted = naive_root(HASHES[:size]) if size else EMPTY_ROOT
    assert BIG.root(size) == wanted


@given(data=st.data())
@tries(200)
def test_every_proof_verifies(data: st.DataObject) -> None:
    """Inclusion and consistency between any two sizes."""
    new = data.draw(st.integers(1, SIZE))
    old = data.draw(st.integers(0, new))
    n = data.draw(st.integers(0, new - 1))
    root = BIG.root(new)
    verify_inclusion(
        HASHES[n],
        index=n,
        size=new,
        path=inclusion_path(n, new, BIG.hash_of),
        root=root,
    )
    verify_consistency(
        old=old,
        new=new,
        path=consistency_path(old, new, BIG.hash_of),
        old_root=BIG.root(old),
        new_root=root,
    )


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 511, 512, 65_536, 65_537, SIZE])
def test_a_tile_of_an_earlier_size_has_its_width(size: int) -> None:
    """Full, partial or empty, as C2SP tlog-tiles wants it."""
    for level in range(3):
        count = size >> (8 * level)
        number, width = divmod(count, WIDTH)
        assert len(BIG.tile(level, number, size)) == width * 32
        assert BIG.tile(level, number + 1, size) == b""
        if number:
            assert len(BIG.tile(level, number - 1, size)) == WIDTH * 32


def fill(path: Path, size: int, step: int) -> bytes:
    """A ledger of so many lines, written in transactions; the root."""
    ledger = Ledger(path)
    tree = restore(ledger)
    while tree.size < size:
        start, fork = tree.size, tree.fork()
        stop = min(size, start + step)
        for n in range(start, stop):
            fork.append(HASHES[n])
        with ledger.writing() as tx:
            tx.add_leaves(list(enumerate(LINES[start:stop], start)))
            tx.add_tiles(fork.fresh())
        tree = fork
    ledger.close()
    return tree.root()


@given(size=st.integers(0, 1500), step=st.integers(1, 700))
@tries(15)
def test_a_restored_tree_is_the_same(size: int, step: int) -> None:
    """From tiles and the newest lines, or from all lines."""
    with memory_folder() as folder:
        root = fill(folder / "lookup.db", size, step)
        ledger = Ledger(folder / "lookup.db")
        assert restore(ledger).root() == root
        assert rebuild(ledger).root() == root
        assert restore(ledger).root() == root
        ledger.close()


def test_a_restored_tree_goes_on_over_two_levels(tmp_path: Path) -> None:
    """The first tile of level 1 becomes full after a restart."""
    path = tmp_path / "lookup.db"
    fill(path, 65_400, 2_000)
    assert fill(path, SIZE, 50) == BIG.root()


def test_a_fork_leaves_the_tree_as_it_is() -> None:
    """What is never committed is never seen."""
    tree = grown(300)
    root = tree.root()
    fork = tree.fork()
    for made in HASHES[300:600]:
        fork.append(made)
    assert (tree.size, tree.root()) == (300, root)
    assert fork.root() == naive_root(HASHES[:600])


def test_a_missing_tile_is_told(tmp_path: Path) -> None:
    """Which one."""
    path = tmp_path / "lookup.db"
    fill(path, 600, 600)
    ledger = Ledger(path)
    with ledger._connection.transaction() as db:
        db.execute("DELETE FROM tiles WHERE number = 0")
    with pytest.raises(AuditDamaged, match="tile 0/0"):
        restore(ledger)
    ledger.close()


def test_a_missing_line_is_told(tmp_path: Path) -> None:
    """Between what and what."""
    path = tmp_path / "lookup.db"
    fill(path, 100, 100)
    ledger = Ledger(path)
    with ledger._connection.transaction() as db:
        db.execute("DELETE FROM leaves WHERE n = 50")
    with pytest.raises(AuditDamaged, match="records 0 to 100: got 99"):
        restore(ledger)
    ledger.close()
