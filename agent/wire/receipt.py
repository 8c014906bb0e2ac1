# SPDX-License-Identifier: Apache-2.0
"""What the exchange signs about a batch, ``fep-receipt+jws`` (wire.md §2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, cast

from agent.errors import MalformedMessage
from agent.model.batch import BatchId, Rows
from agent.wire import strict
from agent.wire.batch import read_rows
from agent.wire.grammar import CODE, DIGEST, EXCHANGE, NODE, RESOURCE
from agent.wire.members import read

TYP = "fep-receipt+jws"
CAP = 2048
"""Longest receipt, bytes of the compact JWS."""

State = Literal["stored", "loaded", "rejected"]


@dataclass(frozen=True)
class Receipt:
    """The newest the exchange can say about one batch.

    Args:
        exchange: id of the exchange, the batch's ``aud``.
        manifest: message digest of the batch's line 1.
        code: why it was rejected; None otherwise.
        rows: what was loaded, or None.
        at: the exchange's clock, wire grammar.
    """

    exchange: str
    producer: str
    resource: str
    epoch: int
    seq: int
    manifest: str
    state: State
    code: str | None
    rows: Rows | None
    at: str

    @property
    def id(self) -> BatchId:
        """The batch it speaks of; ``manifest`` must be compared too."""
        return BatchId(
            self.producer, self.exchange, self.resource, self.epoch, self.seq
        )

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        data = strict.dumps({"v": 1, **asdict(self)})
        parse(data)
        return data


def parse(payload: bytes) -> Receipt:
    """The receipt of a verified message; unknown members are ignored.

    Raises:
        MalformedMessage: a member is missing or does not fit.
    """
    m = read(
        payload,
        "receipt",
        "exchange producer resource epoch seq manifest state code rows at",
        open_ended=True,
    )
    receipt = Receipt(
        exchange=m.match("exchange", EXCHANGE),
        producer=m.match("producer", NODE),
        resource=m.match("resource", RESOURCE),
        epoch=m.integer("epoch", least=1),
        seq=m.integer("seq", least=1),
        manifest=m.match("manifest", DIGEST),
        state=cast("State", m.choice("state", "stored", "loaded", "rejected")),
        code=None if m.null("code") else m.match("code", CODE),
        rows=None if m.null("rows") else read_rows(m, "rows", open_ended=True),
        at=m.time("at"),
    )
    if (receipt.state == "rejected") != (receipt.code is not None):
        raise MalformedMessage("receipt.code: expected one exactly when rejected")
    return receipt
