# SPDX-License-Identifier: Apache-2.0
"""The tree of the log, kept as tiles of 256 hashes (C2SP tlog-tiles).

Rules

1. Tile level L holds the tree's nodes of level 8 L. A full tile is stored once and
   never changes; what is not full is kept in memory and made again at start from at
   most 255 lines and 255 tiles a level.
2. A transaction grows a copy (:meth:`Tree.fork`); only a commit puts it in place, so
   that nothing of a failed transaction is ever seen, or signed.
3. Tiles are derived: at start their root is held against the newest checkpoint, and if
   it differs, they are made anew from the lines.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from agent.crypto.tree import HASH_SIZE, Range, leaf_hash, node_hash, root_of
from agent.errors import AuditDamaged
from agent.state.ledger import Ledger
from agent.state.ledger_records import Tile

WIDTH = 256
"""Hashes in a tile."""
HEIGHT = 8
"""Tree levels in a tile."""
_CACHED = 128


class TileStore:
    """Full tiles by place, some of them in memory.

    Args:
        load: reads one; None if there is none.
    """

    def __init__(self, load: Callable[[int, int], bytes | None]) -> None:
        self._load = load
        self._seen: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, level: int, number: int) -> bytes:
        """The hashes of a full tile.

        Raises:
            AuditDamaged: it is not there.
        """
        place = (level, number)
        with self._lock:
            found = self._seen.get(place)
            if found is not None:
                self._seen.move_to_end(place)
                return found
        found = self._load(level, number)
        if found is None or len(found) != WIDTH * HASH_SIZE:
            raise AuditDamaged(f"tile {level}/{number}: expected {WIDTH} hashes")
        with self._lock:
            self._seen[place] = found
            if len(self._seen) > _CACHED:
                self._seen.popitem(last=False)
        return found


class Tree:
    """The tree over the leaves so far.

    Args:
        store: where full tiles are.
        size: number of leaves.
        edge: per tile level, the hashes that fill no tile yet.
        head: the roots of its full subtrees; else they are looked up.
    """

    def __init__(
        self,
        store: TileStore,
        size: int,
        edge: list[list[bytes]],
        head: Range | None = None,
    ) -> None:
        self._store = store
        self.size = size
        self._edge = edge
        self._fresh: dict[tuple[int, int], bytes] = {}
        self._head = Range.of(size, self.hash_of) if head is None else head

    def fork(self) -> Tree:
        """A tree that grows on its own."""
        edge = [list(row) for row in self._edge]
        return Tree(self._store, self.size, edge, self._head.copy())

    def append(self, hashed: bytes) -> None:
        """Add a leaf by its hash."""
        self.size += 1
        for level, index, made in self._head.append(hashed):
            if level % HEIGHT == 0:
                self._place(level // HEIGHT, index, made)

    def fresh(self) -> list[Tile]:
        """Tiles that became full since the fork; to be stored with the leaves."""
        return [Tile(level, n, data) for (level, n), data in self._fresh.items()]

    def root(self, size: int | None = None) -> bytes:
        """Root of the tree, or of the tree of its first ``size`` leaves."""
        if size is None or size == self.size:
            return self._head.root()
        return root_of(size, self.hash_of)

    def hash_of(self, level: int, index: int) -> bytes:
        """The node (level, index), which must be full."""
        rise = level % HEIGHT
        return _fold(self._hashes(level // HEIGHT, index << rise, 1 << rise))

    def tile(self, level: int, number: int, size: int) -> bytes:
        """A tile as it was in the tree of ``size`` leaves: full, partial or empty."""
        count = min(WIDTH, max(0, (size >> (HEIGHT * level)) - number * WIDTH))
        return b"".join(self._hashes(level, number * WIDTH, count)) if count else b""

    def _place(self, level: int, index: int, hashed: bytes) -> None:
        if level == len(self._edge):
            self._edge.append([])
        row = self._edge[level]
        row.append(hashed)
        if len(row) == WIDTH:
            self._fresh[level, index // WIDTH] = b"".join(row)
            row.clear()

    def _hashes(self, level: int, first: int, count: int) -> list[bytes]:
        """Neighbours of one tile."""
        number, at = divmod(first, WIDTH)
        rows = (self.size >> (HEIGHT * level)) // WIDTH  # full ones
        if number == rows:
            return self._edge[level][at : at + count]
        data = self._fresh.get((level, number)) or self._store.get(level, number)
        return _cut(data[at * HASH_SIZE : (at + count) * HASH_SIZE])


def restore(ledger: Ledger) -> Tree:
    """The tree of a ledger, from its tiles and the newest lines.

    Raises:
        AuditDamaged: tiles or lines are missing.
    """
    store = TileStore(ledger.tile)
    size = ledger.size()
    start = size - size % WIDTH
    lines = ledger.leaves(start, size)
    if len(lines) != size - start:
        raise AuditDamaged(f"records {start} to {size}: got {len(lines)}")
    edge = [[leaf_hash(text.encode()) for text in lines]]
    level = 1
    while count := size >> (HEIGHT * level):
        first = count - count % WIDTH
        edge.append([_fold(_cut(store.get(level - 1, i))) for i in range(first, count)])
        level += 1
    return Tree(store, size, edge)


def _fold(row: list[bytes]) -> bytes:
    """Root of a power of two of hashes."""
    while len(row) > 1:
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    return row[0]


def _cut(data: bytes) -> list[bytes]:
    return [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)]


def rebuild(ledger: Ledger) -> Tree:
    """The tree made from every line, its tiles stored anew."""
    ledger.clear_tiles()
    tree = Tree(TileStore(ledger.tile), 0, [[]])
    start, size = 0, ledger.size()
    while start < size:
        grown = tree.fork()
        lines = ledger.leaves(start, size)
        if not lines:
            raise AuditDamaged(f"record {start} is missing")
        for text in lines:
            grown.append(leaf_hash(text.encode()))
        with ledger.writing() as tx:
            tx.add_tiles(grown.fresh())
        tree, start = grown.fork(), start + len(lines)
    return tree
