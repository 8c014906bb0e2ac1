# SPDX-License-Identifier: Apache-2.0
"""What the exchange signs: receipts, positions and the directory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from agent.crypto.jose import PrivateKey
from agent.model.batch import BatchId, Rows
from agent.wire import position, receipt
from agent.wire.grammar import format_time
from agent.wire.position import Position
from agent.wire.receipt import Receipt, State
from sandbox.store import Stream


@dataclass(frozen=True)
class Signer:
    """The exchange's ``receipt`` key, its id and its clock."""

    key: PrivateKey
    aud: str
    now: Callable[[], datetime]

    def receipt(
        self,
        batch: BatchId,
        manifest: str,
        state: State,
        *,
        code: str | None = None,
        rows: Rows | None = None,
    ) -> str:
        """A signed receipt."""
        body = Receipt(
            exchange=self.aud,
            producer=batch.producer,
            resource=batch.resource,
            epoch=batch.epoch,
            seq=batch.seq,
            manifest=manifest,
            state=state,
            code=code,
            rows=rows,
            at=format_time(self.now()),
        )
        return self.key.sign(receipt.TYP, body.payload())

    def position(
        self, producer: str, resource: str, stream: Stream, *, nonce: str
    ) -> str:
        """A signed position."""
        body = Position(
            aud=self.aud,
            producer=producer,
            resource=resource,
            epoch=stream.epoch,
            seq=stream.seq,
            digest=stream.digest,
            incarnation=stream.incarnation,
            loaded=stream.loaded,
            proven=stream.proven,
            nonce=nonce,
            iat=int(self.now().timestamp()),
        )
        return self.key.sign(position.TYP, body.payload())
