# SPDX-License-Identifier: Apache-2.0
"""Who asks, and whether it is us and now that is meant (wire.md §4). Pure.

Rules

1. Everything is bounded and its form checked before a key is used: the sealed text,
   its header, the signed text inside, the claims.
2. Our key is found by the ``kid`` of the sealed text among our own; the consumer's by
   its claimed name in the directory. No key ever comes out of a message.
3. A lookup is signed by a key that is active now; a retired one signs old batches only.
   A key of which the directory says nothing is active as long as the newest statement
   of its node lists it.
4. Until the consumer's signature has verified, a fault is an exception and gets no
   signed answer. After that it is a reason of the closed list.
5. Order: header, then claims and signature, then ``header``, ``audience``, ``time``.
6. :func:`uncover` needs no directory and no clock: another process can do it, and with
   it most of what a request costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agent.crypto import jose
from agent.crypto.jose import PrivateKey, PublicKey, Unverified, Verified
from agent.crypto.jwe import Sealed
from agent.errors import KeyRevoked, MalformedMessage, Undecryptable
from agent.wire.directory import Directory
from agent.wire.lookup import (
    REQUEST_CAP,
    REQUEST_TYP,
    SKEW_S,
    WINDOW_S,
    Request,
    parse_request,
)


@dataclass(frozen=True)
class Clock:
    """What time says about a request.

    Args:
        now: aware UTC.
        fresh_since: requests made up to 60 s after this moment are refused, because a
            restored backup may have forgotten them; None once that is ruled out.
    """

    now: datetime
    fresh_since: datetime | None = None


@dataclass(frozen=True)
class Asked:
    """A request whose signature verified.

    Args:
        request: its claims.
        digest: its message digest.
        text: the exact compact JWS.
        reason: why it is denied already: ``header``, ``audience``, ``time``; or None.
    """

    request: Request
    digest: str
    text: str = field(repr=False)
    reason: str | None = None


def uncover(
    sealed: Sealed,
    *,
    keys: Mapping[str, PrivateKey],
    candidates: Sequence[PublicKey] = (),
) -> Unverified | Verified:
    """Open a sealed request, and check its signature if the key for it is at hand.

    Args:
        sealed: the request as received, its form checked.
        keys: our keys of purpose ``decrypt`` by kid.
        candidates: keys of a node, one of which may be the signer's.

    Raises:
        MalformedMessage: it breaks the wire format.
        BadSignature: the signature does not verify.
        Undecryptable: it is sealed to a key that is not ours, or was altered.
    """
    if sealed.cty != REQUEST_TYP:
        raise MalformedMessage(f"header.cty: expected {REQUEST_TYP}")
    ours = keys.get(sealed.kid)
    if ours is None:
        raise Undecryptable(f"lookup: sealed to {sealed.kid}, no key of ours")
    message = jose.split(sealed.open(ours), cap=REQUEST_CAP)
    if message.typ != REQUEST_TYP:
        raise MalformedMessage(f"header.typ: expected {REQUEST_TYP}")
    named = (k for k in candidates if (k.kid, k.purpose) == (message.kid, "sign"))
    key = next(named, None)
    return message if key is None else jose.verify(message, key, typ=REQUEST_TYP)


def who_asks(
    sealed: Sealed,
    message: Unverified | Verified,
    *,
    node: str,
    directory: Directory,
    clock: Clock,
) -> Asked:
    """Read an opened request and find out who signed it.

    Args:
        sealed: what it came in.
        message: from :func:`uncover`. If it is verified, then by the key whose
            thumbprint is its ``kid``: whose key that is, and whether it is active, is
            judged here.
        node: who we are.
        directory: everybody's keys.
        clock: see there.

    Raises:
        MalformedMessage: it breaks the wire format.
        UnknownKey: it is signed with a key that the directory does not have.
        KeyRevoked: the consumer's key is not active any more.
        BadSignature: the signature does not verify.
        Undecryptable: it is sealed to a key of ours that is revoked.
    """
    if sealed.kid in directory.revoked.kids:
        raise Undecryptable(f"lookup: sealed to {sealed.kid}, which is revoked")
    request = parse_request(message.payload)
    signer = _signer(directory, request.iss, message.kid)
    if isinstance(message, Unverified):
        message = jose.verify(message, signer, typ=REQUEST_TYP)
    reason = None
    if (sealed.iss, sealed.aud) != (request.iss, request.aud):
        reason = "header"
    elif request.aud != node:
        reason = "audience"
    elif not in_time(request, clock):
        reason = "time"
    return Asked(request, message.digest, message.text, reason)


def _signer(directory: Directory, node: str, kid: str) -> PublicKey:
    """The consumer's key, if it may sign lookups now.

    Raises:
        UnknownKey: there is none.
        KeyRevoked: it is retired or revoked.
    """
    status = directory.key_status(node, kid)
    known = "active" if status is None else status.status
    if known == "active" and kid not in directory.revoked.kids:
        key = directory.node_key(node, kid, "sign")
        if status is not None or key in directory.node_keys(node).live:
            return key
    raise KeyRevoked(f"directory: {kid} of {node} is not active")


def in_time(request: Request, clock: Clock) -> bool:
    """Whether a request is neither of the future, nor too old, nor too long-lived."""
    now = clock.now.timestamp()
    if not 0 < request.exp - request.iat <= WINDOW_S:
        return False
    if request.iat > now + SKEW_S or now > request.exp + SKEW_S:
        return False
    since = clock.fresh_since
    return since is None or request.iat > since.timestamp() + SKEW_S
