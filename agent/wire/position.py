# SPDX-License-Identifier: Apache-2.0
"""Where a stream stands at the exchange, ``fep-position+jws`` (wire.md §2)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import DIGEST, EXCHANGE, INCARNATION, NODE, NONCE, RESOURCE
from agent.wire.members import read

TYP = "fep-position+jws"
CAP = 4096
"""Longest position that is read, bytes of the compact JWS."""


@dataclass(frozen=True)
class Position:
    """The last stored batch of a stream, and the last loaded one.

    Args:
        aud: id of the exchange.
        epoch: 0 while nothing was ever stored.
        seq: 0 while nothing was ever stored.
        digest: message digest of the last stored batch, None if there is none.
        incarnation: of the last stored batch, None if there is none.
        loaded: (epoch, seq) of the last loaded batch, (0, 0) if there is none.
        proven: whether a full snapshot loaded since the last loss of state.
        nonce: the asker's, None on the ferry.
        iat: the exchange's clock, seconds since 1970.
    """

    aud: str
    producer: str
    resource: str
    epoch: int
    seq: int
    digest: str | None
    incarnation: str | None
    loaded: tuple[int, int]
    proven: bool
    nonce: str | None
    iat: int

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        epoch, seq = self.loaded
        body = {**asdict(self), "loaded": {"epoch": epoch, "seq": seq}}
        data = strict.dumps({"v": 1, **body})
        parse(data)
        return data


def parse(payload: bytes) -> Position:
    """The position of a verified message; unknown members are ignored.

    Raises:
        MalformedMessage: a member is missing or does not fit.
    """
    m = read(
        payload,
        "position",
        "aud producer resource epoch seq digest incarnation loaded proven nonce iat",
        open_ended=True,
    )
    loaded = m.inner("loaded", "epoch seq", open_ended=True)
    position = Position(
        aud=m.match("aud", EXCHANGE),
        producer=m.match("producer", NODE),
        resource=m.match("resource", RESOURCE),
        epoch=m.integer("epoch"),
        seq=m.integer("seq"),
        digest=None if m.null("digest") else m.match("digest", DIGEST),
        incarnation=None
        if m.null("incarnation")
        else m.match("incarnation", INCARNATION),
        loaded=(loaded.integer("epoch"), loaded.integer("seq")),
        proven=m.boolean("proven"),
        nonce=None if m.null("nonce") else m.match("nonce", NONCE),
        iat=m.integer("iat"),
    )
    _check(position)
    return position


def _check(position: Position) -> None:
    empty = {
        position.epoch == 0,
        position.seq == 0,
        position.digest is None,
        position.incarnation is None,
    }
    if len(empty) > 1:
        raise MalformedMessage(
            "position: expected epoch 0, seq 0, digest null and incarnation null"
            " together"
        )
    if 0 in position.loaded and position.loaded != (0, 0):
        raise MalformedMessage("position.loaded: expected epoch 0 and seq 0 together")
    if position.loaded > (position.epoch, position.seq):
        raise MalformedMessage("position.loaded: expected not beyond the stored")
