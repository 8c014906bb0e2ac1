# SPDX-License-Identifier: Apache-2.0
"""The statement of a resource's items, ``fep-catalog+jws`` (wire.md §2, Catalog)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, cast

from agent.crypto.frames import CANON
from agent.errors import MalformedMessage
from agent.model.item import Item, ItemType
from agent.wire import strict
from agent.wire.grammar import ITEM_NAME, NODE, RESOURCE
from agent.wire.members import Members, read

TYP = "fep-catalog+jws"
CAP = 1024 * 1024
"""Longest statement that is read, bytes of the compact JWS."""

KEY_TYPES = "CINYDT"
"""Types that a key item may have."""
TEXT_LENGTH = 4000
"""Longest C item, code points."""
PRECISION = 38
"""Most digits of an N item."""
KEY_ITEMS = 8
"""Most key items of a resource."""


@dataclass(frozen=True)
class Statement:
    """Exactly what travels, in column order; items that are not shared never appear.

    Args:
        version: grows with every change of the items.
        items: the columns after ``_op``.
        canon: version of the canonical text of values.
    """

    producer: str
    resource: str
    version: int
    items: tuple[Item, ...]
    canon: int = CANON

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        head = {"v": 1, "producer": self.producer, "resource": self.resource}
        data = strict.dumps(
            {
                **head,
                "version": self.version,
                "canon": self.canon,
                "items": [asdict(item) for item in self.items],
            }
        )
        parse(data)
        return data


def parse(payload: bytes) -> Statement:
    """The statement of a verified message.

    Raises:
        MalformedMessage: a member is missing, unknown, or does not fit.
    """
    m = read(payload, "catalog", "producer resource version canon items")
    entries = m.array("items", least=1)
    items = tuple(_item(e, f"catalog.items[{i}]") for i, e in enumerate(entries))
    check_items(items)
    return Statement(
        producer=m.match("producer", NODE),
        resource=m.match("resource", RESOURCE),
        version=m.integer("version"),
        items=items,
        canon=m.integer("canon", least=CANON, most=CANON),
    )


def check_items(items: Sequence[Item]) -> None:
    """Whether items can stand in one statement.

    Raises:
        MalformedMessage: a name twice without case, or not 1-8 key items of the types
            that a key may have.
    """
    names = {item.name.lower() for item in items}
    if len(names) != len(items):
        raise MalformedMessage("catalog.items: expected names that differ without case")
    keys = [item for item in items if item.key]
    if not 1 <= len(keys) <= KEY_ITEMS:
        raise MalformedMessage(
            f"catalog.items: expected 1 to {KEY_ITEMS} key items, got {len(keys)}"
        )
    for item in keys:
        if item.type not in KEY_TYPES:
            raise MalformedMessage(
                f"catalog.items.{item.name}: a key item has no type {item.type}"
            )


def _item(value: object, at: str) -> Item:
    m = Members(value, at, "name type length scale key share")
    kind = ItemType(m.choice("type", *ItemType))
    length, scale = _measures(m, kind)
    return Item(
        name=m.match("name", ITEM_NAME),
        type=kind,
        length=length,
        scale=scale,
        key=m.boolean("key"),
        share=cast("Literal['1', '2']", m.choice("share", "1", "2")),
    )


def _measures(m: Members, kind: ItemType) -> tuple[int | None, int | None]:
    if kind is ItemType.N:
        precision = m.integer("length", least=1, most=PRECISION)
        return precision, m.integer("scale", most=precision)
    if not m.null("scale"):
        m.fail("scale", f"null for type {kind}")
    if kind is ItemType.C:
        return m.integer("length", least=1, most=TEXT_LENGTH), None
    if not m.null("length"):
        m.fail("length", f"null for type {kind}")
    return None, None
