# SPDX-License-Identifier: Apache-2.0
"""The Merkle tree against RFC 6962's own definition, and forged proofs."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.crypto import tree
from agent.errors import BadProof
from tests.support.tries import tries

COUNT = 40
LEAVES = [bytes([n]) * n for n in range(COUNT)]
# Leaves and roots of the test tree of the Certificate Transparency reference code.
CT_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def by_definition(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    left, right = by_definition(leaves[:k]), by_definition(leaves[k:])
    return hashlib.sha256(b"\x01" + left + right).digest()


ROOTS = [by_definition(LEAVES[:n]) for n in range(COUNT + 1)]
HASHES = [tree.leaf_hash(leaf) for leaf in LEAVES]


def grown() -> tuple[tree.Range, dict[tuple[int, int], bytes]]:
    """A tree of all leaves, and its full nodes."""
    held, nodes = tree.Range(), {}
    for leaf in HASHES:
        for level, index, made in held.append(leaf):
            nodes[level, index] = made
    return held, nodes


NODES = grown()[1]


def hash_of(level: int, index: int) -> bytes:
    """A full node."""
    return NODES[level, index]


def test_roots_are_those_of_certificate_transparency():
    """The published test tree of eight leaves."""
    held = tree.Range()
    for leaf, root in zip(CT_LEAVES, CT_ROOTS, strict=True):
        held.append(tree.leaf_hash(bytes.fromhex(leaf)))
        assert held.root().hex() == root


def test_roots_of_every_size_are_those_of_the_definition():
    """Grown leaf by leaf, read from nodes, or restored: one root."""
    held = tree.Range()
    for size in range(COUNT + 1):
        assert held.size == size
        assert held.root() == ROOTS[size]
        assert tree.root_of(size, hash_of) == ROOTS[size]
        assert tree.Range.of(size, hash_of).hashes == held.hashes
        assert tree.Range(size, held.hashes).root() == ROOTS[size]
        if size < COUNT:
            held.append(HASHES[size])


def test_full_nodes_are_subtrees():
    """What append reports is the root over exactly these leaves."""
    for (level, index), made in NODES.items():
        begin = index << level
        assert made == by_definition(LEAVES[begin : begin + (1 << level)])


def test_a_copy_grows_on_its_own():
    """A tentative batch leaves the tree as it was."""
    held = tree.Range.of(5, hash_of)
    other = held.copy()
    other.append(HASHES[5])
    assert (held.size, held.root()) == (5, ROOTS[5])
    assert other.root() == ROOTS[6]


def test_a_range_has_one_hash_for_each_bit():
    """A torn state is not taken for a tree."""
    with pytest.raises(ValueError, match="expected 2 hashes for 5 leaves"):
        tree.Range(5, [HASHES[0]])


def test_every_inclusion_proof_holds():
    """Each leaf in each size."""
    for size in range(1, COUNT + 1):
        for index in range(size):
            path = tree.inclusion_path(index, size, hash_of)
            tree.verify_inclusion(
                HASHES[index], index=index, size=size, path=path, root=ROOTS[size]
            )


def test_every_consistency_proof_holds():
    """From each size to each later one."""
    for new in range(COUNT + 1):
        for old in range(new + 1):
            tree.verify_consistency(
                old=old,
                new=new,
                path=tree.consistency_path(old, new, hash_of),
                old_root=ROOTS[old],
                new_root=ROOTS[new],
            )


places = st.integers(1, COUNT).flatmap(
    lambda size: st.tuples(st.integers(0, size - 1), st.just(size))
)


@tries(200)
@given(places, st.data())
def test_a_forged_inclusion_proof_is_refused(
    place: tuple[int, int], data: st.DataObject
):
    """Another leaf, index, size or root, a hash less, more or other."""
    index, size = place
    path = tree.inclusion_path(index, size, hash_of)
    good = {"index": index, "size": size, "path": path, "root": ROOTS[size]}
    forged = data.draw(
        st.sampled_from(
            [
                {"path": [*path, HASHES[0]]},
                {"path": [HASHES[-1], *path]},
                {"root": ROOTS[size - 1]},
                {"index": size},
                {"index": -1},
                {"path": [HASHES[-1]] * 65},
                {"path": [*path, b"short"]},
                *({"path": path[:n] + path[n + 1 :]} for n in range(len(path))),
                *(
                    {"path": [*path[:n], HASHES[-1], *path[n + 1 :]]}
                    for n in range(len(path))
                ),
                *({"index": other} for other in range(size) if other != index),
            ]
        )
    )
    with pytest.raises(BadProof):
        tree.verify_inclusion(HASHES[index], **{**good, **forged})  # type: ignore[arg-type]
    with pytest.raises(BadProof):
        tree.verify_inclusion(b"x" * 32, **good)  # type: ignore[arg-type]


@tries(200)
@given(places, st.data())
def test_a_forged_consistency_proof_is_refused(
    place: tuple[int, int], data: st.DataObject
):
    """A rewritten log, or a shortened one, never looks like a grown one."""
    old, new = place[0] + 1, place[1] + 1
    if new > COUNT:
        return
    path = tree.consistency_path(old, new, hash_of)
    good = {
        "old": old,
        "new": new,
        "path": path,
        "old_root": ROOTS[old],
        "new_root": ROOTS[new],
    }
    forged = data.draw(
        st.sampled_from(
            [
                {"path": [*path, HASHES[0]]},
                {"new_root": b"x" * 32},
                {"new_root": ROOTS[new - 1]},
                {"old_root": b"x" * 32},
                {"old": new + 1},
                {"old": -1},
                {"path": [HASHES[0]] * 65},
                *({"path": path[:n] + path[n + 1 :]} for n in range(len(path))),
                *(
                    {"path": [*path[:n], HASHES[-1], *path[n + 1 :]]}
                    for n in range(len(path))
                ),
            ]
        )
    )
    with pytest.raises(BadProof):
        tree.verify_consistency(**{**good, **forged})  # type: ignore[arg-type]


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_a_leaf_that_is_not_there_has_no_path(index: int, size: int):
    """The caller is told, not given a proof of something else."""
    with pytest.raises(ValueError, match="expected a leaf"):
        tree.inclusion_path(index, size, hash_of)


def test_a_tree_never_shrinks():
    """There is no consistency proof backwards."""
    with pytest.raises(ValueError, match="in order"):
        tree.consistency_path(4, 3, hash_of)


@pytest.mark.parametrize(
    "changes",
    [
        {"old": 3, "new": 3, "old_root": ROOTS[3], "new_root": ROOTS[4]},
        {"old": 0, "new": 3, "old_root": ROOTS[1], "new_root": ROOTS[3]},
        {"old": 0, "new": 3, "old_root": ROOTS[0], "path": [HASHES[0]]},
        {"old": 3, "new": 3, "old_root": ROOTS[3], "path": [HASHES[0]]},
        {"old": 3, "new": 5, "old_root": ROOTS[3], "new_root": ROOTS[5]},
    ],
    ids=[
        "two roots",
        "no empty tree",
        "path from nothing",
        "path to itself",
        "no path",
    ],
)
def test_the_edges_of_consistency_are_not_open(changes: dict[str, object]):
    """From nothing and to itself there is one root and no path, else a path."""
    with pytest.raises(BadProof):
        tree.verify_consistency(**{"path": [], "new_root": ROOTS[3], **changes})  # type: ignore[arg-type]
