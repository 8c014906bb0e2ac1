# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the items of a resource document; see ``lint``."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from agent.catalog import codes
from agent.catalog.document import CatalogItem, Resource
from agent.catalog.finding import Finding, error
from agent.model.item import ItemType, ShareType

ITEM_NAME = r"^[a-z][a-z0-9_]{0,62}$"
KEY_TYPES = frozenset("CINYDT")
KEY_ITEMS = 8
TEXT_LENGTH = 4000
PRECISION = 38
RULES = ("citizen_id", "uscc", *(f"code:{name}" for name in codes.NAMES))
"""Rules that an item may name."""


def items(resource: Resource) -> Iterator[Finding]:
    """Names, types, share types and rules of the items."""
    counts = Counter(item.name.lower() for item in resource.items)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield error(f"items.{name}", "指南", "the name stands twice", "信息项标识重复")
    if not resource.items:
        yield error("items", "指南", "there are no items", "没有信息项")
    for item in resource.items:
        yield from _item_type(item)
        yield from _item_share(resource, item)
        yield from _item_rules(item)


def _item_type(item: CatalogItem) -> Iterator[Finding]:
    field = f"items.{item.name}"
    if not re.fullmatch(ITEM_NAME, item.name):
        yield error(
            f"{field}.name",
            "指南",
            "expected a small letter, then at most 62 small letters, digits and _",
            "应以小写字母开头，由小写字母、数字、下划线组成，至多 63 个字符",
        )
    length, scale = item.length, item.scale
    if item.type is ItemType.C and not 1 <= (length or 0) <= TEXT_LENGTH:
        yield error(
            f"{field}.length",
            "指南",
            f"type C has a length of 1 to {TEXT_LENGTH} characters",
            f"字符型须给出长度（1 至 {TEXT_LENGTH} 个字符）",
        )
    if item.type is ItemType.N:
        if not 1 <= (length or 0) <= PRECISION:
            yield error(
                f"{field}.length",
                "指南",
                f"type N has a precision of 1 to {PRECISION} digits",
                f"数值型须给出总位数（1 至 {PRECISION}）",
            )
        elif scale is None or not 0 <= scale <= (length or 0):
            yield error(
                f"{field}.scale",
                "指南",
                "type N has a scale between 0 and its precision",
                "数值型须给出小数位数，且不超过总位数",
            )
    elif scale is not None or (length is not None and item.type is not ItemType.C):
        yield error(
            f"{field}.length",
            "指南",
            f"type {item.type} has no length and no scale",
            f"{item.type} 型没有长度和小数位数",
        )


def _item_share(resource: Resource, item: CatalogItem) -> Iterator[Finding]:
    field = f"items.{item.name}"
    effective = resource.share_of(item)
    if item.share_type and effective.name.lower() != item.share_type:
        yield error(
            f"{field}.share_type",
            "辽9",
            "an item may be stricter than its resource, never looser",
            "信息项的共享类型只能比资源更严格，不能更宽松",
        )
    stated = item.share_condition.strip() or resource.share_condition.strip()
    if effective is ShareType.CONDITIONAL and not stated:
        yield error(
            f"{field}.share_condition",
            "辽9",
            "conditional sharing states its conditions",
            "有条件共享必须写明共享条件",
        )
    based = item.legal_basis or resource.legal_basis
    if effective is ShareType.NOT_SHARED and based is None:
        yield error(
            f"{field}.legal_basis",
            "辽9",
            "what is not shared states the law: level, title, article",
            "不予共享必须有法律依据：层级、名称、条款",
        )
    if effective is ShareType.NOT_SHARED and item.open_to_public:
        yield error(
            f"{field}.open_to_public",
            "辽8",
            "what is not shared is not open to the public either",
            "不予共享的信息项不得向社会开放",
        )


def _item_rules(item: CatalogItem) -> Iterator[Finding]:
    for rule in item.rules:
        field = f"items.{item.name}.rules"
        if rule not in RULES:
            yield error(
                field,
                "辽17",
                f"no such rule {rule[:64]!r}; there are {', '.join(RULES)}",
                f"没有规则 {rule[:64]!r}，可用：{'、'.join(RULES)}",
            )
        elif item.type is not ItemType.C:
            yield error(
                field,
                "辽17",
                f"rule {rule} needs an item of type C",
                f"规则 {rule} 只用于字符型",
            )


def keys(resource: Resource) -> Iterator[Finding]:
    """What the key items must be."""
    found = [item for item in resource.items if item.key]
    if resource.push and not found:
        yield error(
            "items", "指南", "no item has key = true", "没有主键信息项（key = true）"
        )
    if len(found) > KEY_ITEMS:
        yield error(
            "items",
            "指南",
            f"at most {KEY_ITEMS} key items",
            f"主键至多 {KEY_ITEMS} 项",
        )
    for item in found:
        if item.type not in KEY_TYPES:
            yield error(
                f"items.{item.name}.key",
                "指南",
                f"type {item.type} cannot be a key; C, I, N, Y, D and T can",
                f"{item.type} 型不能作主键，仅限 C、I、N、Y、D、T",
            )
        withheld = resource.share_of(item) is ShareType.NOT_SHARED
        if resource.push and resource.share_type != "not_shared" and withheld:
            yield error(
                f"items.{item.name}.share_type",
                "辽9",
                "a key item that is not shared leaves no key for the rest",
                "主键信息项不予共享，其余信息项便没有主键",
            )
