# SPDX-License-Identifier: Apache-2.0
"""What directories, old and new, say of keys at a moment of the past.

Rules (wire.md §1, Keys)

1. A directory counts if the pinned key signed it, or a receipt key of the same exchange
   that another one that counts has, and that was not revoked when it signed. So one pin
   leads over any number of rotations, forward and back, while each directory has the
   key that signs the next. Of one whose key was revoked by then, and of what it alone
   vouches for, only what it revokes is believed: a thief can make evidence fail, and
   not hold.
2. A key is taken from the newest directory that has it. Keys are never removed, but a
   node that enrolled anew begins another chain, and only older directories have its old
   one. A thief can date a directory back before the revocation of its key. So if any
   has a signer that nobody ever revoked, those decide: the newest of them, and all that
   are newer than the first that names it, must have a receipt key, and one of them a
   node's key.
3. What any of them says is revoked, is revoked from that time on; where it does not
   say since when, for ever. A signature is judged at the moment at which the exchange
   signed its receipt, never at ``sealed_at``: a batch says that of itself.
4. A retired key counts until the directory's ``until``. Our clock and the end of a
   certificate have no say: what was true then stays true.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent.crypto.jose import PublicKey, Unverified, split, verify
from agent.errors import (
    BadSignature,
    FepError,
    KeyRevoked,
    MalformedMessage,
    UnknownKey,
)
from agent.wire import directory as wire
from agent.wire.directory import Directory
from agent.wire.grammar import parse_time


@dataclass(frozen=True)
class History:
    """Directories that count, newest first.

    Args:
        directories: none is no fault: then no key is known.
        doubtful: of these only what they revoke is believed, rule 1.
        lasting: those that have a node's keys, newest first; None: all, rule 2.
        strays: kids of receipt keys that do not count, rule 2.
    """

    directories: tuple[Directory, ...]
    doubtful: tuple[Directory, ...] = ()
    lasting: tuple[Directory, ...] | None = None
    strays: frozenset[str] = frozenset()

    @property
    def known_to(self) -> datetime | None:
        """When the newest was signed: what was revoked later is not known."""
        found = self.directories
        return None if not found else datetime.fromtimestamp(found[0].iat, UTC)

    def exchange_key(self, aud: str, kid: str, at: datetime | None) -> PublicKey:
        """A receipt key of an exchange that was not revoked at a moment; None: ever.

        Raises:
            UnknownKey: no directory has it.
            KeyRevoked: it was revoked by then.
        """
        key = self.receipt_key(aud, kid)
        self._refuse(kid, self._key_ends(aud, kid), at)
        return key

    def node_key(
        self, node: str, kid: str, purpose: str, at: datetime | None
    ) -> PublicKey:
        """A key of a node that was not revoked, nor retired too long, at a moment.

        Raises:
            UnknownKey: no directory has it.
            KeyRevoked: it, or the node, was revoked by then.
        """
        key: PublicKey | None = None
        for one in self.directories if self.lasting is None else self.lasting:
            try:
                key = one.statements(node).all.get(kid)
            except FepError:
                continue
            if key is not None and key.purpose == purpose:
                break
        if key is None or key.purpose != purpose:
            raise UnknownKey(f"directory: {node} has no {purpose} key {kid}")
        self._refuse(kid, self._ends(node, kid), at)
        return key

    def receipt_key(self, aud: str, kid: str) -> PublicKey:
        """A receipt key of an exchange, revoked or not.

        Raises:
            UnknownKey: no directory has it, or a later one should and does not.
        """
        if kid in self.strays:
            raise UnknownKey(f"directory: later ones have no receipt key {kid}")
        for one in self.directories:
            for key in _receipt_keys(one, aud):
                if key.kid == kid:
                    return key
        raise UnknownKey(f"directory: {aud} has no receipt key {kid}")

    def ended(self, aud: str, kid: str, at: datetime | None) -> bool:
        """Whether a key of an exchange was revoked by a moment; None: ever."""
        ends = self._key_ends(aud, kid)
        return any(at is None or end <= at for end in ends)

    def _refuse(self, kid: str, ends: Iterator[datetime], at: datetime | None) -> None:
        for end in ends:
            if at is None or end <= at:
                since = "ever" if end == _EVER else end.isoformat()
                raise KeyRevoked(f"directory: {kid} is revoked since {since}")

    def _key_ends(self, aud: str, kid: str) -> Iterator[datetime]:
        """When a key of an exchange ended."""
        for one in (*self.directories, *self.doubtful):
            if kid in one.revoked.kids:
                yield parse_time(one.revoked.kids[kid])
                continue
            for entry in one.exchange.exchanges:
                for key, status in entry.keys if entry.aud == aud else ():
                    if key.kid == kid and status == "revoked":
                        yield _EVER

    def _ends(self, node: str, kid: str) -> Iterator[datetime]:
        """When a node's key, or the node, ended."""
        for one in (*self.directories, *self.doubtful):
            if kid in one.revoked.kids:
                yield parse_time(one.revoked.kids[kid])
            entry = one.node(node)
            if node in one.revoked.nodes:
                yield parse_time(one.revoked.nodes[node])
            elif entry is not None and entry.status == "revoked":
                yield _EVER
            status = one.key_status(node, kid)
            if status is None:
                continue
            if status.status == "revoked":
                yield parse_time(status.since)
            elif status.status == "retired" and status.until is not None:
                yield parse_time(status.until)


_EVER = datetime.min.replace(tzinfo=UTC)
"""Of a key that is revoked, nobody says since when."""


def trusted(
    texts: Iterable[bytes], *, aud: str | None, kid: str
) -> tuple[History, tuple[str | None, ...]]:
    """The directories that count, and of each text why it does not, or None.

    Args:
        texts: compact JWS as received.
        aud: the exchange; None: the one that has the pinned key.
        kid: pinned thumbprint of its receipt key.
    """
    kept = tuple(texts)
    faults: list[str | None] = []
    waiting: dict[int, str] = {}
    for i, text in enumerate(kept):
        try:
            waiting[i] = split(text, cap=wire.CAP).kid
            faults.append(f"signed by {waiting[i]}, for which nothing vouches")
        except FepError as e:
            faults.append(f"{e.code}: {e.detail}")
    found = _Counted(aud, kid)
    seen = -1
    while seen != len(waiting):
        seen = len(waiting)
        for i in [i for i, by in waiting.items() if by == kid or by in found.keys]:
            with suppress(UnknownKey):  # another one may have it
                faults[i] = found.fault(kept[i])
                del waiting[i]
    return _judged(tuple(found.signed), aud=found.aud or "", kid=kid), tuple(faults)


@dataclass
class _Counted:
    """Directories that count so far; of others nothing is kept, however large.

    Args:
        aud: the exchange, once it is known.
        kid: pinned thumbprint.
        keys: receipt keys of the exchange, whoever was revoked.
        signed: the directories, each with the kid of its signer.
        digests: message digests of them.
    """

    aud: str | None
    kid: str
    keys: dict[str, PublicKey] = field(default_factory=dict)
    signed: list[tuple[Directory, str]] = field(default_factory=list)
    digests: set[str] = field(default_factory=set)

    def fault(self, text: bytes) -> str | None:
        """Count one; None, or why it does not count.

        Raises:
            UnknownKey: its key is not known.
        """
        try:
            self._count(split(text, cap=wire.CAP))
        except (BadSignature, MalformedMessage) as e:
            return f"{e.code}: {e.detail}"
        return None

    def _count(self, message: Unverified) -> None:
        key = self.keys.get(message.kid)
        if key is None:
            # The pinned key is found in the directory itself, by its thumbprint.
            claimed = wire.parse(message.payload)
            aud = self.aud or _of(claimed, self.kid)
            key = History((claimed,)).receipt_key(aud or "", message.kid)
        verify(message, key, typ=wire.TYP)
        if message.digest in self.digests:
            return
        one = wire.parse(message.payload)
        self.digests.add(message.digest)
        self.signed.append((one, message.kid))
        self.aud = self.aud or _of(one, self.kid)
        self.keys.update({k.kid: k for k in _receipt_keys(one, self.aud)})


_Signed = tuple[tuple[Directory, str], ...]
"""Directories, each with the kid of its signer."""


def _judged(counted: _Signed, *, aud: str, kid: str) -> History:
    """What holds of directories once all that they revoke is known."""
    known = History(tuple(one for one, _ in counted))
    in_time = tuple(
        (one, by)
        for one, by in counted
        if not known.ended(aud, by, datetime.fromtimestamp(one.iat, UTC))
    )
    # What a thief's own keys signed lasts, too, until the others show them as strays.
    reached = _reached(in_time, aud=aud, kid=kid)
    deciding = [one for one, by in reached if not known.ended(aud, by, None)]
    strays = _strays([one for one, _ in reached], deciding, aud)
    signed = _reached(in_time, aud=aud, kid=kid, but=strays)
    good = _newest_first(one for one, _ in signed)
    lasting = _newest_first(one for one, by in signed if not known.ended(aud, by, None))
    ids = {id(one) for one in good}
    doubtful = tuple(one for one, _ in counted if id(one) not in ids)
    return History(good, doubtful, lasting if deciding else None, strays)


def _reached(
    signed: _Signed, *, aud: str, kid: str, but: frozenset[str] = frozenset()
) -> _Signed:
    """Those to which the pinned key leads over others of them."""
    vouched: set[str] = {kid}
    found: _Signed = ()
    while True:
        more = tuple((one, by) for one, by in signed if by in vouched)
        if len(more) == len(found):
            return found
        found = more
        for one, _ in found:
            vouched |= _receipt_kids(one, aud) - but


def _strays(
    found: list[Directory], deciding: list[Directory], aud: str
) -> frozenset[str]:
    """Receipt keys that directories which decide should have and do not, rule 2."""
    first: dict[str, int] = {}
    for one in found:
        for kid in _receipt_kids(one, aud):
            first[kid] = min(one.iat, first.get(kid, one.iat))
    newest = max((one.iat for one in deciding), default=0)
    return frozenset(
        kid
        for one in deciding
        for kid in first.keys() - _receipt_kids(one, aud)
        if one.iat >= min(first[kid], newest)
    )


def _receipt_kids(one: Directory, aud: str) -> frozenset[str]:
    return frozenset(key.kid for key in _receipt_keys(one, aud))


def _receipt_keys(one: Directory, aud: str | None) -> Iterator[PublicKey]:
    for entry in one.exchange.exchanges:
        for key, _ in entry.keys if entry.aud == aud else ():
            if key.purpose == "receipt":
                yield key


def _newest_first(found: Iterable[Directory]) -> tuple[Directory, ...]:
    return tuple(sorted(found, key=lambda one: one.iat, reverse=True))


def _of(claimed: Directory, kid: str) -> str | None:
    """The exchange that has a receipt key."""
    for entry in claimed.exchange.exchanges:
        if any(k.kid == kid and k.purpose == "receipt" for k, _ in entry.keys):
            return entry.aud
    return None
