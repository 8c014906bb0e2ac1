# SPDX-License-Identifier: Apache-2.0
"""Whether a directory may follow the one in use; nothing here does I/O.

Rules (wire.md §1: keys are never removed)

1. It is not older. Going back could unrevoke a key.
2. A key once known is there for ever, or ``revoked.json`` says that it is revoked. So a
   node, a department, a receipt key of the exchange never disappears in silence, and a
   node's chain of statements is only ever made longer.
3. A key once revoked is revoked for ever. So is a node, unless each of its keys is:
   then it was reset, and has new ones.
4. Statements that were added must be signed as the chain demands. Where they are not,
   the directory holds, but that node has no keys any more: one department's damage is
   not everybody's.

Rules 1 to 3 broken, the exchange is damaged or lies: the directory in use stays, and
somebody must look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from agent.crypto.jose import split
from agent.errors import DirectoryRefused, FepError
from agent.wire import keys
from agent.wire.directory import Directory, NodeEntry


def check_succession(before: Directory, after: Directory, *, aud: str) -> None:
    """Refuse a directory that takes away what was known.

    Args:
        before: in use.
        after: signed by the pinned key.
        aud: the exchange that we trust.

    Raises:
        DirectoryRefused: it breaks rule 1, 2 or 3; the first thing that is missing.
    """
    if after.iat < before.iat:
        raise DirectoryRefused(f"expected iat {before.iat} or later, got {after.iat}")
    for lost in _lost(before, after, aud):
        raise DirectoryRefused(f"expected {lost}, as the one before had it")


def _lost(before: Directory, after: Directory, aud: str) -> Iterator[str]:
    for kid in before.revoked.kids:
        if kid not in after.revoked.kids:
            yield f"{kid} revoked"
    for node in before.revoked.nodes:
        kids = _kids(before, node)
        if node not in after.revoked.nodes and not (
            kids and kids.issubset(after.revoked.kids)
        ):
            yield f"{node} revoked"
    for kid in _receipt_kids(before, aud) - _receipt_kids(after, aud):
        if kid not in after.revoked.kids:
            yield f"receipt key {kid}"
    for entry in _entries(before):
        found = after.node(entry.node)
        if found is not None and _goes_on(entry, found):
            continue
        kept = frozenset(after.revoked.kids) | _kids(after, entry.node)
        for kid in _kids(before, entry.node) - kept:
            yield f"key {kid} of {entry.node}, or its revocation"


def unsound(
    before: Directory, after: Directory, *, known: Iterable[str] = ()
) -> tuple[str, ...]:
    """Nodes with statements that do not verify where they had good ones.

    Args:
        before: the one in use.
        after: that follows it.
        known: those of before; they stay while they do not verify.
    """
    changed = {
        entry.node
        for entry in _entries(after)
        if (old := before.node(entry.node)) is not None
        and old.statements != entry.statements
    }
    looked_at = sorted(changed.union(known))
    return tuple(node for node in looked_at if not _verifies(after, node))


def _entries(found: Directory) -> Iterator[NodeEntry]:
    for department in found.departments.values():
        for entry in department.nodes:
            if found.node(entry.node) is entry:
                yield entry


def _goes_on(old: NodeEntry, new: NodeEntry) -> bool:
    """Whether a chain only got longer; the same texts need no look inside."""
    begin = new.statements[: len(old.statements)]
    return begin == old.statements or _digests(begin) == _digests(old.statements)


def _digests(statements: tuple[str, ...]) -> list[str]:
    """Message digests: a signature can be written in more than one way."""
    try:
        return [split(text, cap=keys.CAP).digest for text in statements]
    except FepError:
        return list(statements)


def _kids(found: Directory, node: str) -> frozenset[str]:
    """Keys of a node; none if its chain does not verify: it had none."""
    try:
        return frozenset(found.statements(node).all)
    except FepError:
        return frozenset()


def _verifies(found: Directory, node: str) -> bool:
    try:
        found.statements(node)
    except FepError:
        return False
    return True


def _receipt_kids(found: Directory, aud: str) -> frozenset[str]:
    return frozenset(
        key.kid
        for entry in found.exchange.exchanges
        for key, _ in (entry.keys if entry.aud == aud else ())
        if key.purpose == "receipt"
    )
