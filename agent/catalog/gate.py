# SPDX-License-Identifier: Apache-2.0
"""The gate: what may leave, and nothing else.

Rules

1. :class:`Outgoing` is the only thing of a resource that the pipeline takes, and
   :func:`leave` alone makes one. :class:`Offer` is the same for lookups; :func:`offer`
   alone makes one.
2. The gate is shut unless ``push = true`` (for lookups ``lookup = true``), the resource
   is shared, unclassified and of the outer network, and lint finds no error.
3. Items that are not shared are left behind: no column of theirs is ever named to a
   connector.
4. Where the department has named what may be read (``ceiling.toml``), a resource that
   would read anything else is shut, both ways.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from functools import cached_property
from typing import Literal

from agent.catalog.document import CatalogItem, Resource
from agent.catalog.lint import errors
from agent.errors import GateClosed
from agent.model.item import Item, ShareType
from agent.model.job import BoundItem
from agent.model.place import Allowed, Place

_PASS = object()


@dataclass(frozen=True)
class Outgoing:
    """What may leave of a resource, and where it is.

    Args:
        resource: its code.
        name: its name, for people.
        version: of the document.
        source: name of the source.
        table: schema-qualified name, outermost first.
        items: what travels, in order, with its columns.
        stamp: column that tells when a row was changed, or None; it does not travel.
        number: column of growing numbers, or None; it does not travel.
        permit: proof that the gate made it.
    """

    resource: str
    name: str
    version: int
    source: str
    table: tuple[str, ...]
    items: tuple[BoundItem, ...]
    stamp: str | None = None
    number: str | None = None
    permit: InitVar[object] = None

    def __post_init__(self, permit: object) -> None:
        if permit is not _PASS:
            raise GateClosed(f"{self.resource}: only the gate lets a resource out")

    @property
    def place(self) -> Place:
        """Where it is read."""
        ways = (c for c in (self.stamp, self.number) if c is not None)
        columns = (*(bound.column for bound in self.items), *ways)
        return Place(self.source, self.table, columns)

    @property
    def statement(self) -> tuple[Item, ...]:
        """The items as the catalog statement lists them."""
        return tuple(bound.item for bound in self.items)


@dataclass(frozen=True)
class Offer:
    """What may be asked of a resource one by one, and where it is.

    The policy says who may; what is not offered, no policy can give.

    Args:
        resource: its code.
        name: its name, for people.
        source: name of the source.
        table: schema-qualified name, outermost first.
        items: the shared items, in order, with their columns.
        titles: their names in Chinese, for people.
        withheld: names of the others, for people.
        permit: proof that the gate made it.
    """

    resource: str
    name: str
    source: str
    table: tuple[str, ...]
    items: tuple[BoundItem, ...]
    titles: Mapping[str, str]
    withheld: tuple[str, ...]
    permit: InitVar[object] = None

    def __post_init__(self, permit: object) -> None:
        if permit is not _PASS:
            raise GateClosed(f"{self.resource}: only the gate offers a resource")

    @property
    def place(self) -> Place:
        """Where it is read."""
        columns = tuple(bound.column for bound in self.items)
        return Place(self.source, self.table, columns)

    @cached_property
    def by_name(self) -> Mapping[str, BoundItem]:
        """The shared items by name."""
        return {bound.item.name: bound for bound in self.items}


def leave(resource: Resource, allowed: Allowed | None = None) -> Outgoing:
    """What may leave of a resource.

    Args:
        resource: its document.
        allowed: what may be read; None: no bound has been set.

    Raises:
        GateClosed: nothing may; it says why.
    """
    reason = closed(resource, allowed)
    if reason or resource.binding is None:
        raise GateClosed(f"{resource.code}: {reason}")
    return Outgoing(
        resource=resource.code,
        name=resource.name,
        version=resource.version,
        source=resource.binding.source,
        table=resource.binding.table,
        items=tuple(_bound(resource, item) for item in resource.shared_items()),
        stamp=resource.binding.stamp,
        number=resource.binding.number,
        permit=_PASS,
    )


def offer(resource: Resource, allowed: Allowed | None = None) -> Offer:
    """What may be asked of a resource; ``allowed`` as for :func:`leave`.

    Raises:
        GateClosed: nothing may; it says why.
    """
    reason = refused(resource, allowed)
    if reason or resource.binding is None:
        raise GateClosed(f"{resource.code}: {reason}")
    shared = resource.shared_items()
    return Offer(
        resource=resource.code,
        name=resource.name,
        source=resource.binding.source,
        table=resource.binding.table,
        items=tuple(_bound(resource, item) for item in shared),
        titles={item.name: item.title for item in shared},
        withheld=tuple(i.name for i in resource.items if i not in shared),
        permit=_PASS,
    )


def offers(
    resources: Iterable[Resource], allowed: Allowed | None = None
) -> Mapping[str, Offer]:
    """What may be asked of those that the gate opens for lookups, by code."""
    found = {r.code: r for r in resources if refused(r, allowed) is None}
    return {code: offer(resource, allowed) for code, resource in found.items()}


def closed(resource: Resource, allowed: Allowed | None = None) -> str | None:
    """Why the gate is shut, or None if it is open; ``allowed`` as for :func:`leave`."""
    return _shut(resource, "push") or _beyond(resource, allowed)


def refused(resource: Resource, allowed: Allowed | None = None) -> str | None:
    """The same for lookups."""
    return _shut(resource, "lookup") or _beyond(resource, allowed)


def _beyond(resource: Resource, allowed: Allowed | None) -> str | None:
    """What would be read though nobody allowed it, or None."""
    binding = resource.binding
    if allowed is None or binding is None:
        return None
    named = allowed.get((binding.source, binding.table), frozenset())
    read = {resource.column(item) for item in resource.shared_items()}
    read |= {column for column in (binding.stamp, binding.number) if column is not None}
    if not (more := sorted(read - named)):
        return None
    table = f"{binding.source}: {'.'.join(binding.table)}"
    words = ", ".join(more[:8]) + (", ..." if len(more) > 8 else "")
    return f"ceiling.toml does not allow {words} of {table}"


def _shut(resource: Resource, way: Literal["push", "lookup"]) -> str | None:
    if resource.share_type == "not_shared":
        return "share_type is not_shared (辽9)"
    if getattr(resource, way) is not True:
        return f"{way} is not true"
    if resource.secrecy_level != "unclassified":
        return f"secrecy_level is {resource.secrecy_level} (辽26)"
    if resource.network_zone != "outer":
        return "network_zone is not outer (辽12)"
    if resource.binding is None:
        return "there is no [binding]"
    found = errors(resource)
    return f"{found[0].field}: {found[0].text.en}" if found else None


def _bound(resource: Resource, item: CatalogItem) -> BoundItem:
    share: Literal["1", "2"] = (
        "1" if resource.share_of(item) is ShareType.UNCONDITIONAL else "2"
    )
    return BoundItem(
        item=Item(
            name=item.name,
            type=item.type,
            length=item.length,
            scale=item.scale,
            key=item.key,
            share=share,
        ),
        column=resource.column(item),
        rules=item.rules,
        required=item.required,
        encoding=resource.binding.encodings.get(item.name)
        if resource.binding
        else None,
    )
