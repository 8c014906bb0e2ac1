# SPDX-License-Identifier: Apache-2.0
"""What an answer would hold, shown with values of nobody.

Administrative prefix 99, mobile prefix 120 and area code 0400 are not assigned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from agent.lookup import mask
from agent.lookup.policy.judge import Allowed
from agent.model.item import Item, ItemType
from agent.model.treatment import MaskKind, Treatment

CITIZEN_ID = "990102199003070011"
"""Passes GB 11643 and belongs to nobody."""

_OF_MASK: Mapping[MaskKind, str] = {
    MaskKind.NAME: "王小明",
    MaskKind.CITIZEN_ID: CITIZEN_ID,
    MaskKind.CITIZEN_ID_STRICT: CITIZEN_ID,
    MaskKind.MOBILE: "12012345678",
    MaskKind.LANDLINE: "0400-6100012",
    MaskKind.BANK_CARD: "6200000000000000009",
    MaskKind.ADDRESS: "云溪市临河区人民路12号1单元101室",
    MaskKind.EMAIL: "wang@example.com",
    MaskKind.YEAR: "1990-03-07",
    MaskKind.PLATE: "云A12345",
    MaskKind.HIDE: "王小明",
}
_OF_TYPE: Mapping[ItemType, str] = {
    ItemType.C: "示例",
    ItemType.M: "示例",
    ItemType.N: "100.5",
    ItemType.Y: "100.5",
    ItemType.I: "42",
    ItemType.D: "1990-03-07",
    ItemType.T: "2026-11-21T08:00:00.000000Z",
    ItemType.L: "true",
    ItemType.B: "0.1",
    ItemType.F: "0.1",
    ItemType.G: "AP8",
}
VERDICTS = "match | mismatch | no_record"


class Row(NamedTuple):
    """One field of an answer.

    Args:
        item: its name.
        use: ``show``, ``mask`` or ``verify``.
        mask: the kind of mask, or None.
        sample: a value of nobody.
        left: what the consumer would get in its place.
    """

    item: str
    use: str
    mask: str | None
    sample: str
    left: str


def rows(found: Allowed, *, op: str) -> Iterator[Row]:
    """The fields of an answer, in the order of the request."""
    for name, treatment in found.fields.items():
        sample = _sample(found.offer.by_name[name].item, treatment)
        left = VERDICTS
        if op == "get":
            kind = treatment.mask
            left = sample if kind is None else str(mask.apply(kind, sample))
        yield Row(name, treatment.use, treatment.mask, sample, left)


def _sample(item: Item, treatment: Treatment) -> str:
    if treatment.mask is not None and item.type in "CM":
        return _OF_MASK[treatment.mask]
    return _OF_TYPE[item.type]
