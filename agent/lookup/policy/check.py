# SPDX-License-Identifier: Apache-2.0
"""What is wrong with grants whose form is right; see ``load``.

Sources: 辽阳办法 article 9 (what is not shared), 16 (purposes; 数据校核 is answered by
comparing only).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from itertools import product
from typing import NamedTuple

from agent.catalog.gate import Offer
from agent.errors import nearest, shown
from agent.lookup.policy.document import TREATMENTS, Grant
from agent.lookup.policy.pattern import BadPattern, Pattern
from agent.model.item import ItemType
from agent.model.treatment import MaskKind, Treatment

KEY_TYPES = frozenset("CINYDT")
"""Types of items that a row may be asked for by."""

COMPARED_TYPES = frozenset("CMINYDTL")
"""Types of items that a claim may be made of (wire.md §4)."""

_TEXT = frozenset("CM")
_NUMBER = frozenset("CMIN")
MASKED_TYPES: Mapping[MaskKind, frozenset[str]] = {
    MaskKind.NAME: _TEXT,
    MaskKind.CITIZEN_ID: _TEXT,
    MaskKind.CITIZEN_ID_STRICT: _TEXT,
    MaskKind.MOBILE: _NUMBER,
    MaskKind.LANDLINE: _TEXT,
    MaskKind.BANK_CARD: _NUMBER,
    MaskKind.ADDRESS: _TEXT,
    MaskKind.EMAIL: _TEXT,
    MaskKind.YEAR: frozenset("CMDT"),
    MaskKind.PLATE: _TEXT,
    MaskKind.HIDE: frozenset(ItemType),
}
"""Types of items that a kind of mask has a form for."""


class Wrong(NamedTuple):
    """One fault: where in the grant, and what; ``got`` None: ``expected`` says all."""

    key: str
    expected: str
    got: str | None
    article: str | None = None


def treatment(text: str) -> Treatment | None:
    """What a text of ``fields`` means; None if nothing."""
    if text in ("show", "verify"):
        return Treatment("show" if text == "show" else "verify")
    use, _, kind = text.partition(":")
    if use == "mask" and kind in list(MaskKind):
        return Treatment("mask", MaskKind(kind))
    return None


def alone(
    grant: Grant, offers: Mapping[str, Offer], shut: Mapping[str, str]
) -> Iterator[Wrong]:
    """What is wrong with one grant, whatever the others are."""
    yield from _doubles(grant)
    yield from _purposes(grant)
    yield from _validity(grant)
    yield from _uses(grant)
    offer = offers.get(grant.resource)
    if offer is None:
        yield _closed(grant.resource, offers, shut)
        return
    yield from _keys(grant, offer)
    for name, text in grant.fields.items():
        yield from _field(name, text, offer)


def _doubles(grant: Grant) -> Iterator[Wrong]:
    """Lists that name something twice."""
    lists: dict[str, Iterable[str]] = {
        "consumers": grant.consumers,
        "ops": grant.ops,
        "keys": grant.keys,
        "purposes": [p.purpose for p in grant.purposes],
    }
    for key, names in lists.items():
        for name, count in Counter(names).items():
            if count > 1:
                yield Wrong(key, "each entry once", f"{shown(name)} {count} times")


def _purposes(grant: Grant) -> Iterator[Wrong]:
    for i, purpose in enumerate(grant.purposes, 1):
        try:
            Pattern(purpose.basis)
        except BadPattern as e:
            yield Wrong(f"purposes.{i}.basis", "a pattern of RE2", str(e))
        if purpose.purpose == "data_verification" and "get" in grant.ops:
            yield Wrong(
                f"purposes.{i}.purpose",
                "only verify and exists for data_verification (another grant for get)",
                "get among the ops",
                "辽16",
            )


def _validity(grant: Grant) -> Iterator[Wrong]:
    first, last = grant.valid.first, grant.valid.last
    if first is not None and last is not None and last < first:
        yield Wrong("valid.to", f"a day from {first} on", str(last))


def _uses(grant: Grant) -> Iterator[Wrong]:
    """Operations without a field, and fields that no operation could use."""
    uses = {name: t for name, text in grant.fields.items() if (t := treatment(text))}
    if len(uses) < len(grant.fields):
        return  # named by _field
    get, verify = "get" in grant.ops, "verify" in grant.ops
    if get and not any(t.given for t in uses.values()):
        yield Wrong("fields", "a field with show or mask: get is among the ops", "none")
    if verify and not any(t.compared for t in uses.values()):
        yield Wrong(
            "fields", "a field with show or verify: verify is among the ops", "none"
        )
    for name, t in uses.items():
        if not ((get and t.given) or (verify and t.compared)):
            yield Wrong(
                f"fields.{name}", "an op that uses it", f"ops {', '.join(grant.ops)}"
            )


def _closed(code: str, offers: Mapping[str, Offer], shut: Mapping[str, str]) -> Wrong:
    """A resource that no grant can open."""
    expected = "a resource that the catalog opens for lookups"
    if code in shut:
        return Wrong("resource", expected, f"{code}: {shut[code]}")
    return Wrong("resource", nearest(code, offers, expected), shown(code))


def _keys(grant: Grant, offer: Offer) -> Iterator[Wrong]:
    for i, name in enumerate(grant.keys, 1):
        bound = offer.by_name.get(name)
        if bound is None:
            yield _missing(f"keys.{i}", name, offer)
        elif bound.item.type not in KEY_TYPES:
            expected = f"an item of type {', '.join(sorted(KEY_TYPES))}"
            yield Wrong(f"keys.{i}", expected, f"{name} of type {bound.item.type}")


def _field(name: str, text: str, offer: Offer) -> Iterator[Wrong]:
    key = f"fields.{name}"
    wanted = treatment(text)
    if wanted is None:
        yield Wrong(
            key, nearest(text, TREATMENTS, " or ".join(TREATMENTS)), shown(text)
        )
    bound = offer.by_name.get(name)
    if bound is None:
        yield _missing(key, name, offer)
        return
    if wanted is None:
        return
    kind = bound.item.type
    if wanted.mask is not None and kind not in MASKED_TYPES[wanted.mask]:
        types = ", ".join(sorted(MASKED_TYPES[wanted.mask]))
        yield Wrong(key, f"an item of type {types} for {text}", f"type {kind}")
    if wanted.use == "verify" and kind not in COMPARED_TYPES:
        types = ", ".join(sorted(COMPARED_TYPES))
        yield Wrong(key, f"an item of type {types} for verify", f"type {kind}")


def _missing(key: str, name: str, offer: Offer) -> Wrong:
    """A name that the offer does not hold."""
    if name in offer.withheld:
        got = f"{name}, which is not shared"
        return Wrong(key, f"a shared item of {offer.resource}", got, "辽9")
    expected = nearest(name, offer.by_name, f"an item of {offer.resource}")
    return Wrong(key, expected, shown(name))


Slot = tuple[str, str, str, str, frozenset[str]]
"""Consumer, resource, operation, purpose and keys: what chooses a grant."""


def rivals(grants: Sequence[Grant]) -> Iterator[tuple[str, Wrong]]:
    """Grants of which two could fit one request; with the id of the later one.

    Each pair once, with one request that both fit.
    """
    slots: dict[Slot, list[Grant]] = defaultdict(list)
    for grant in grants:
        for slot in _slots(grant):
            slots[slot].append(grant)
    told: set[tuple[str, str]] = set()
    for slot, candidates in slots.items():
        for one, other in _overlaps(candidates):
            if (one.id, other.id) not in told:
                told.add((one.id, other.id))
                consumer, _, op, purpose, _ = slot
                yield (
                    other.id,
                    Wrong(
                        "",
                        "requests that no other grant fits",
                        f"one that {one.id} fits too: {op} by {consumer} for {purpose}"
                        " with the same keys on the same day",
                    ),
                )


def _slots(grant: Grant) -> Iterator[Slot]:
    keys = frozenset(grant.keys)
    purposes = {p.purpose for p in grant.purposes}
    for consumer, op, purpose in product(
        dict.fromkeys(grant.consumers), dict.fromkeys(grant.ops), sorted(purposes)
    ):
        yield consumer, grant.resource, op, purpose, keys


def _overlaps(grants: Sequence[Grant]) -> Iterator[tuple[Grant, Grant]]:
    """Each grant that shares a day with an earlier one, with one such."""
    by_start = sorted(grants, key=_first)
    longest = by_start[0]
    for grant in by_start[1:]:
        if _first(grant) <= _last(longest):
            yield longest, grant
        longest = max(longest, grant, key=_last)


def _first(grant: Grant) -> date:
    return grant.valid.first or date.min


def _last(grant: Grant) -> date:
    return grant.valid.last or date.max
