# SPDX-License-Identifier: Apache-2.0
"""Where a stream of batches stands (wire.md §2, chain)."""

from __future__ import annotations

from dataclasses import dataclass

from agent.model.batch import Reason


@dataclass(frozen=True)
class Head:
    """The end of a chain: the next batch is ``(epoch, seq + 1)`` on top of ``prev``.

    Args:
        epoch: 0 while the stream was never opened.
        seq: last one taken, 0 before an epoch's first batch.
        prev: message digest to chain to; None iff nothing was ever stored.
        incarnation: 32 lower hex, of the state that sealed this epoch.
        reason: why the epoch was opened; set until its first batch is registered.
    """

    epoch: int
    seq: int
    prev: str | None
    incarnation: str
    reason: Reason | None

    def after(self, digest: str) -> Head:
        """The head once a batch with this message digest stands on it."""
        return Head(self.epoch, self.seq + 1, digest, self.incarnation, None)
