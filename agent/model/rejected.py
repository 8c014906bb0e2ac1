# SPDX-License-Identifier: Apache-2.0
"""Rows of a batch that the exchange has rejected, on their way back to people."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.item import Item


@dataclass(frozen=True)
class RejectedBatch:
    """What comes back.

    Args:
        file: path of the sealed batch.
        resource: its code.
        epoch: of its chain.
        seq: in its epoch.
        items: of the catalog by which it was sealed, in order.
        code: why the exchange rejected it.
        ops: rows with these operations are told.
    """

    file: str
    resource: str
    epoch: int
    seq: int
    items: tuple[Item, ...]
    code: str
    ops: tuple[str, ...]


OPS = {"bad-payload": ("u", "d", "k"), "mass-delete": ("d",)}
"""Code of a rejection -> the rows that it is about. Other codes are about the chain or
the batch as a whole, and no row is at fault."""
