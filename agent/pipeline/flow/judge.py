# SPDX-License-Identifier: Apache-2.0
"""Pure judgements of the push flow: positions, receipts, the brake, the counts.

What the exchange signed is compared with what we know; nothing is stored and nothing
is sent here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from agent.crypto.jose import PublicKey, Verified, split, verify
from agent.errors import ClockSkewed, FalseReceipt, FepError, MalformedMessage
from agent.model.batch import BatchId, Reason
from agent.model.item import Item
from agent.model.stream import Head
from agent.wire import position, receipt
from agent.wire.position import Position
from agent.wire.receipt import Receipt

BRAKE_ROWS = 1000
"""A snapshot may be this many keys smaller than the one before."""
BRAKE_PERCENT = 5
"""Or this part of it, whichever is more (wire.md §2, mass deletes)."""


Moved = Literal[
    "first", "spool-lost", "restored", "exchange-restored", "overtaken", "cloned"
]
"""What a position tells that is not in our chain; see :func:`what_moved`."""
Cause = Moved | Literal["rejected", "regained", "rekeyed"]
"""Why an epoch was begun."""
REASONS: Mapping[Cause, Reason] = {
    "first": "first",
    "spool-lost": "spool_lost",
    "restored": "restored",
    "exchange-restored": "restored",
    "overtaken": "restored",
    "cloned": "restored",
    "rejected": "rejected",
    "regained": "restored",
    "rekeyed": "rekeyed",
}
"""The same as the wire names it."""
TOLD: frozenset[Cause] = frozenset({"first", "rejected", "cloned"})
"""Of these an epoch begins after something that was told before."""
NEW_LIFE = frozenset({"restored", "cloned"})
"""After these the state is another one than the exchange has heard of."""


class ExchangeKeys(Protocol):
    """The exchange's keys of purpose ``receipt``, by kid, as one directory has them."""

    @property
    def voucher(self) -> str | None:
        """SHA-256 of the text that vouches for them; None if it could not be kept."""
        ...

    def receipt_key(self, kid: str) -> PublicKey:
        """The key with which the exchange signs receipts and positions.

        Raises:
            UnknownKey: the directory does not have it for this exchange.
        """
        ...


@dataclass(frozen=True)
class Standing:
    """Where we believe that a stream stands.

    Args:
        head: end of our chain.
        base: what the first batch of our epoch chains to.
        at_position: message digest of our batch at the position's place, or None.
        next_open: (epoch, seq) of the first batch without a receipt: the one that is
            sealed next, or one of an older epoch that is sent again.
        chains_to: what that batch chains to.
        given_up: our batch at the position's place was dropped, and is not what the
            next one chains to.
        receipted: (epoch, seq) of the newest batch that the exchange has signed for.
        seen: a position fitted our chain before, in this life of the daemon.
    """

    head: Head
    base: str | None
    at_position: str | None
    next_open: tuple[int, int]
    chains_to: str | None
    given_up: bool = False
    receipted: tuple[int, int] = (0, 0)
    seen: bool = False


def opened(text: str, *, typ: str, cap: int, keys: ExchangeKeys) -> Verified:
    """A message of the exchange, verified.

    Raises:
        MalformedMessage: its form is wrong.
        BadSignature: it does not verify; UnknownKey: nobody knows its key.
    """
    message = split(text, cap=cap)
    return verify(message, keys.receipt_key(message.kid), typ=typ)


def read_position(
    text: str,
    *,
    stream: tuple[str, str, str],
    nonce: str,
    keys: ExchangeKeys,
    now: datetime,
    tolerance_s: float,
) -> Position:
    """A position that answers our question of just now.

    ``stream`` is (producer, aud, resource).

    Raises:
        MalformedMessage: it speaks of another stream, exchange or question.
        BadSignature: it does not verify.
        ClockSkewed: its clock and ours differ by more than ``tolerance_s``.
    """
    message = opened(text, typ=position.TYP, cap=position.CAP, keys=keys)
    found = position.parse(message.payload)
    got = (found.producer, found.aud, found.resource)
    if got != stream:
        raise MalformedMessage(f"position: expected {stream}, got {got}")
    if found.nonce != nonce:
        raise MalformedMessage("position: expected our nonce; it answers another time")
    offset = found.iat - now.timestamp()
    if abs(offset) > tolerance_s:
        raise ClockSkewed(
            f"the exchange's clock is {offset:+.0f} s from ours,"
            f" at most {tolerance_s:g} s are allowed"
        )
    return found


def read_receipt(
    text: str, *, batch: BatchId, digest: str, keys: ExchangeKeys
) -> Receipt:
    """A receipt of exactly this batch.

    Raises:
        FalseReceipt: it does not verify, or speaks of another batch or manifest.
    """
    try:
        message = opened(text, typ=receipt.TYP, cap=receipt.CAP, keys=keys)
        found = receipt.parse(message.payload)
    except FepError as e:
        raise FalseReceipt(f"{batch.epoch}/{batch.seq}: {e.code}: {e.detail}") from e
    if found.id != batch:
        raise FalseReceipt(f"expected a receipt of {batch}, got one of {found.id}")
    if found.manifest != digest:
        raise FalseReceipt(
            f"{batch.epoch}/{batch.seq}: expected manifest {digest},"
            f" got {found.manifest}"
        )
    return found


def what_moved(ours: Standing, theirs: Position) -> Moved | None:
    """What happened if a position is not in our chain, None if it fits.

    ``first``: nothing did. ``spool-lost``: we know nothing of a stream that the
    exchange has, or gave up what stood behind its last batch. ``exchange-restored``: it
    has forgotten what it signed for. ``overtaken``: it has one of ours that we had
    given up. Anything else was sent by somebody who is us: a later life, which an old
    copy of our state does not remember (``restored``); or, where the chain was still
    ours in this very life, another machine (``cloned``).
    """
    if ours.head.epoch == 0:
        return "first" if theirs.epoch == 0 else "spool-lost"
    if _fits(ours, theirs):
        return None
    if theirs.digest is None:
        return "exchange-restored"
    if theirs.digest in (ours.at_position, ours.base):
        place = (theirs.epoch, theirs.seq)
        if place == ours.receipted:
            return "spool-lost"
        return "exchange-restored" if place < ours.receipted else "overtaken"
    return "cloned" if ours.seen else "restored"


def _fits(ours: Standing, theirs: Position) -> bool:
    """Whether what is sent next is right behind the position, or already there."""
    head, place = ours.head, (theirs.epoch, theirs.seq)
    if theirs.epoch < head.epoch:
        has_next = place >= ours.next_open and theirs.digest == ours.at_position
        return theirs.digest == ours.chains_to or (has_next and not ours.given_up)
    return (
        theirs.epoch == head.epoch
        and theirs.digest == ours.at_position
        and theirs.incarnation == head.incarnation
        and ours.next_open <= (theirs.epoch, theirs.seq + 1)
    )


def next_head(
    head: Head, theirs: Position, *, reason: Reason, incarnation: str
) -> Head:
    """The head of a new epoch that chains to the position.

    Its number is above the position's and above every one that we have used. Where
    nothing was ever stored, the reason can only be ``first``.
    """
    return Head(
        epoch=max(head.epoch, theirs.epoch) + 1,
        seq=0,
        prev=theirs.digest,
        incarnation=incarnation,
        reason="first" if theirs.digest is None else reason,
    )


def still_shared(sealed: Iterable[Item], now: Iterable[Item]) -> bool:
    """Whether everything that was sealed may leave today.

    Args:
        sealed: the items that a batch holds.
        now: the items that the gate lets leave.
    """
    shares = {item.name: item.share for item in now}
    return all(shares.get(i.name, "3") <= i.share for i in sealed)


def too_many_deletes(
    before: int | None, now: int, confirmed: int
) -> tuple[int, str] | None:
    """Why a swap from ``before`` to ``now`` distinct keys must wait, or None.

    Args:
        before: keys of the newest snapshot that stands, None if there is none.
        now: keys of this one.
        confirmed: so many may go by a person's word, 0 without one.

    Returns:
        How many keys would go, and the same for people.
    """
    if not before or now >= before:
        return None
    gone = before - now
    allowed = 0 if now == 0 else max(BRAKE_ROWS, before * BRAKE_PERCENT // 100)
    if gone <= max(allowed, confirmed):
        return None
    agreed = f", {confirmed} are confirmed" if confirmed else ""
    return gone, (
        f"{before} keys were sent last time, {now} would be now: {gone} fewer,"
        f" {allowed} are allowed unconfirmed{agreed}"
    )
