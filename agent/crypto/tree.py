# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree of RFC 6962: hashes, roots and proofs; pure.

Node (level, index) is the root over the leaves from ``index << level`` up to
``(index + 1) << level``, where all of them exist. Such a node never changes again, so
a caller may store it; ``hash_of(level, index)`` gives it back. Every other root is
computed from these.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from agent.errors import BadProof

HashOf = Callable[[int, int], bytes]
"""(level, index) of a full node -> its 32 bytes."""

EMPTY_ROOT = hashlib.sha256().digest()
"""Root of the tree without leaves."""
HASH_SIZE = 32
PATH_CAP = 64
"""Most hashes of a proof."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash of a leaf's exact bytes."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """A tree from its first leaf on, kept as the roots of its full subtrees.

    Args:
        size: number of leaves.
        hashes: roots of the full subtrees, largest first, as :attr:`hashes` gave them.

    Raises:
        ValueError: a tree of this size has another number of them.
    """

    def __init__(self, size: int = 0, hashes: Iterable[bytes] = ()) -> None:
        self._hashes = list(hashes)
        if len(self._hashes) != size.bit_count():
            raise ValueError(f"expected {size.bit_count()} hashes for {size} leaves")
        self.size = size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """Roots of the full subtrees, largest first."""
        return tuple(self._hashes)

    @classmethod
    def of(cls, size: int, hash_of: HashOf) -> Range:
        """The tree of so many leaves whose full nodes are stored."""
        return cls(size, [hash_of(*node) for node in _full_nodes(0, size)])

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf by its hash.

        Returns:
            (level, index, hash) of every node that is full now, the leaf's own first.
        """
        level, index, made = 0, self.size, leaf
        full = [(level, index, made)]
        while index & 1:
            level, index, made = (
                level + 1,
                index >> 1,
                node_hash(self._hashes.pop(), made),
            )
            full.append((level, index, made))
        self._hashes.append(made)
        self.size += 1
        return full

    def root(self) -> bytes:
        """Root of the whole tree."""
        return _fold(self._hashes)

    def copy(self) -> Range:
        """One that can grow on its own."""
        return Range(self.size, self._hashes)


def _fold(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def _full_nodes(begin: int, end: int) -> list[tuple[int, int]]:
    """The full nodes over leaves ``begin`` to ``end``, which is a subtree of its own.

    ``begin`` is a multiple of the smallest power of two that is not below the number
    of leaves; so every step to the right is at least as small as the one before.
    """
    nodes = []
    while begin < end:
        level = (end - begin).bit_length() - 1
        nodes.append((level, begin >> level))
        begin += 1 << level
    return nodes


def _root_of(begin: int, end: int, hash_of: HashOf) -> bytes:
    return _fold([hash_of(*node) for node in _full_nodes(begin, end)])


def root_of(size: int, hash_of: HashOf) -> bytes:
    """Root of the tree of the first ``size`` leaves."""
    return _root_of(0, size, hash_of)


def _split(size: int) -> int:
    """The largest power of two below ``size``: leaves of the left subtree."""
    return 1 << ((size - 1).bit_length() - 1)


def inclusion_path(index: int, size: int, hash_of: HashOf) -> list[bytes]:
    """The audit path of a leaf, its sibling first (RFC 6962, 2.1.1).

    Raises:
        ValueError: there is no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"expected a leaf below {size}, got {index}")
    path: list[bytes] = []
    begin, end = 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(_root_of(middle, end, hash_of))
            end = middle
        else:
            path.append(_root_of(begin, middle, hash_of))
            begin = middle
    return path[::-1]


def consistency_path(old: int, new: int, hash_of: HashOf) -> list[bytes]:
    """Why the tree of ``new`` leaves begins with that of ``old`` (RFC 6962, 2.1.2).

    Empty if one of them is empty, or both are equal.

    Raises:
        ValueError: ``old`` is larger than ``new``.
    """
    if not 0 <= old <= new:
        raise ValueError(f"expected sizes in order, got {old} and {new}")
    if old in (0, new):
        return []
    path: list[bytes] = []
    begin, end, whole = 0, new, True
    while old != end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(_root_of(middle, end, hash_of))
            end = middle
        else:
            path.append(_root_of(begin, middle, hash_of))
            begin, whole = middle, False
    if not whole:
        path.append(_root_of(begin, end, hash_of))
    return path[::-1]


def verify_inclusion(
    leaf: bytes, *, index: int, size: int, path: Sequence[bytes], root: bytes
) -> None:
    """Check an audit path (RFC 9162, 2.1.3.2).

    Args:
        leaf: hash of the leaf.
        index: its number, from 0.
        size: of the tree whose root is known.
        path: the sibling first.
        root: from a checkpoint whose signature was verified.

    Raises:
        BadProof: it does not lead to the root.
    """
    _check_path(path)
    if not 0 <= index < size:
        raise BadProof(f"inclusion: expected a leaf below {size}, got {index}")
    number, last, made = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            raise BadProof("inclusion: the path is too long")
        if number & 1 or number == last:
            made = node_hash(sibling, made)
            number, last = _skip_ends(number, last)
        else:
            made = node_hash(made, sibling)
        number, last = number >> 1, last >> 1
    if last or made != root:
        raise BadProof(f"inclusion: leaf {index} is not under the root of {size}")


def _skip_ends(number: int, last: int) -> tuple[int, int]:
    """Go up while the node is a left child without a sibling."""
    while number and not number & 1:
        number, last = number >> 1, last >> 1
    return number, last


def verify_consistency(
    *, old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    """Check that a tree only grew (RFC 9162, 2.1.4.2).

    Args:
        old: leaves of the earlier tree.
        new: leaves of the later one.
        path: from :func:`consistency_path`.
        old_root: root of the earlier tree.
        new_root: root of the later tree.

    Raises:
        BadProof: the later tree does not begin with the earlier one.
    """
    _check_path(path)
    if not 0 <= old <= new:
        raise BadProof(f"consistency: expected sizes in order, got {old} and {new}")
    if old in (0, new):
        _check_trivial(old, new, path, old_root, new_root)
        return
    rest = list(path)
    if old.bit_count() == 1:  # the earlier tree is itself a full node of the later one
        rest.insert(0, old_root)
    if not rest:
        raise BadProof("consistency: expected a path")
    first, second = _grow(old - 1, new - 1, rest)
    if (first, second) != (old_root, new_root):
        raise BadProof(f"consistency: the tree of {new} does not begin with {old}")


def _grow(number: int, last: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Both roots that a path leads to."""
    while number & 1:
        number, last = number >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise BadProof("consistency: the path is too long")
        if number & 1 or number == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            number, last = _skip_ends(number, last)
        else:
            second = node_hash(second, sibling)
        number, last = number >> 1, last >> 1
    if last:
        raise BadProof("consistency: the path is too short")
    return first, second


def _check_trivial(
    old: int, new: int, path: Sequence[bytes], old_root: bytes, new_root: bytes
) -> None:
    if path:
        raise BadProof(f"consistency: expected no path from {old} to {new}")
    if old == 0 and old_root != EMPTY_ROOT:
        raise BadProof("consistency: expected the root of no leaves")
    if old == new and old_root != new_root:
        raise BadProof(f"consistency: two roots of {new} leaves")


def _check_path(path: Sequence[bytes]) -> None:
    if len(path) > PATH_CAP or any(len(p) != HASH_SIZE for p in path):
        raise BadProof(
            f"proof: expected at most {PATH_CAP} hashes of {HASH_SIZE} bytes"
        )
