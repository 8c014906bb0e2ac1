# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a resource document: field, article, severity, and what to do.

Articles: 指南 = 政务信息资源目录编制指南(试行), 辽n = 辽阳办法 article n. An error keeps
a document from being used; a warning is a gap that an inspection would find.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from agent.catalog import codes, identifiers
from agent.catalog.document import CatalogItem, Resource
from agent.errors import Text
from agent.model.item import ItemType, ShareType

GUIDE_CODE = r"^[123][0-9]{2}[0-9]{3}[0-9]*/[0-9]+$"
"""类(1) 项(2) 目(3) 细目 / 顺序码; local standards differ, so only a warning."""
WIRE_CODE = r"^[0-9A-Za-z]{1,32}(/[0-9A-Za-z]{1,32}){1,3}$"
ITEM_NAME = r"^[a-z][a-z0-9_]{0,62}$"
KEY_TYPES = frozenset("CINYDT")
KEY_ITEMS = 8
TEXT_LENGTH = 4000
PRECISION = 38
RULES = ("citizen_id", "uscc", *(f"code:{name}" for name in codes.NAMES))
"""Rules that an item may name."""

_ENDS_BADLY = re.compile(r"^\s|[\s\d０-９]$|[^\w\s)）》”]$")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        field: where: ``share_condition``, ``items.mobile.length``.
        article: of the rule it breaks, such as ``辽8``.
        severity: ``error`` or ``warning``.
        text: what is expected and what is there, for people.
    """

    field: str
    article: str
    severity: Literal["error", "warning"]
    text: Text


Check = Callable[[Resource], Iterator[Finding]]


def lint(resource: Resource) -> tuple[Finding, ...]:
    """Everything that is wrong, errors first, then in the order of the rules."""
    found = [finding for check in _CHECKS for finding in check(resource)]
    return tuple(sorted(found, key=lambda finding: finding.severity))


def errors(resource: Resource) -> tuple[Finding, ...]:
    """The findings that keep a document from being used."""
    return tuple(f for f in lint(resource) if f.severity == "error")


def _error(field: str, article: str, en: str, zh: str) -> Finding:
    return Finding(field, article, "error", Text(en, zh))


def _warning(field: str, article: str, en: str, zh: str) -> Finding:
    return Finding(field, article, "warning", Text(en, zh))


# --- the document ------------------------------------------------------------------

_DESCRIBED = {
    "resource_class_path": ("辽8", "class", "信息资源分类"),
    "format_category": ("辽8", "format", "信息资源格式"),
    "abstract": ("指南", "abstract", "信息资源摘要"),
    "provider_name": ("辽8", "provider", "信息资源提供方"),
    "provider_code": ("指南", "provider's credit code", "提供方代码"),
    "responsible_party": ("皖(三)", "responsible party", "责任方"),
    "share_scope": ("辽8", "scope of sharing", "共享范围"),
    "share_method": ("辽8", "way of sharing", "共享方式"),
    "open_to_public": ("辽8", "whether open to the public", "是否向社会开放"),
    "update_cycle": ("辽8", "update cycle", "更新周期"),
    "update_deadline": ("辽8", "time limit of updates", "更新时限"),
    "published_on": ("指南", "date of publication", "发布日期"),
    "authoritative_source": ("辽4", "authoritative source", "权威来源"),
}
"""Fields that every document fills in -> article, name in English and Chinese."""


def _described(resource: Resource) -> Iterator[Finding]:
    for field, (article, en, zh) in _DESCRIBED.items():
        if getattr(resource, field) in ((), "", None):
            yield _warning(field, article, f"the {en} is missing", f"缺少{zh}")


def _codes(resource: Resource) -> Iterator[Finding]:
    if not re.fullmatch(WIRE_CODE, resource.code):
        yield _error(
            "code",
            "指南",
            "expected two to four parts of letters and digits joined by /",
            "应为以 / 连接的两至四段字母或数字",
        )
    elif not re.fullmatch(GUIDE_CODE, resource.code):
        yield _warning(
            "code",
            "指南",
            "differs from the guide: class code of at least 6 digits / sequence number",
            "与指南不一致：类项目细目代码（至少 6 位数字）/ 顺序码",
        )
    provider = resource.provider_code
    if provider and not identifiers.is_uscc(provider):
        yield _warning(
            "provider_code",
            "指南",
            "is not a valid unified social credit code (GB 32100)",
            "不是有效的统一社会信用代码（GB 32100）",
        )


def _names(resource: Resource) -> Iterator[Finding]:
    named = {"name": resource.name}
    named |= {f"items.{i.name}.title": i.title for i in resource.items if i.title}
    for field, name in named.items():
        if not name.strip():
            yield _error(field, "指南", "the name is missing", "缺少名称")
        elif _ENDS_BADLY.search(name):
            yield _warning(
                field,
                "指南",
                "ends with a number, a blank or punctuation",
                "名称末尾有数字、空格或标点",
            )
    for item in resource.items:
        if not item.title:
            yield _warning(
                f"items.{item.name}.title",
                "指南",
                "the item's Chinese name is missing",
                "缺少信息项名称",
            )


def _sharing(resource: Resource) -> Iterator[Finding]:
    if resource.share_type == "conditional" and not resource.share_condition.strip():
        yield _error(
            "share_condition",
            "辽9",
            "conditional sharing states its conditions",
            "有条件共享必须写明共享条件",
        )
    if resource.share_type == "not_shared" and resource.legal_basis is None:
        yield _error(
            "legal_basis",
            "辽9",
            "what is not shared states the law: level, title, article",
            "不予共享必须有法律依据：层级、名称、条款",
        )
    if resource.share_type == "not_shared" and resource.open_to_public:
        yield _error(
            "open_to_public",
            "辽8",
            "what is not shared is not open to the public either",
            "不予共享的资源不得向社会开放",
        )
    if resource.share_type == "unconditional" and resource.share_basis_kind is None:
        yield _warning(
            "share_basis_kind",
            "辽9",
            "why it is shared without conditions is not recorded",
            "未记录无条件共享的依据类型",
        )
    if resource.open_to_public and resource.share_type == "conditional":
        if not resource.open_condition.strip():
            yield _warning(
                "open_condition",
                "辽8",
                "shared under conditions, yet open without any",
                "有条件共享的资源向社会开放时应写明开放条件",
            )


def _method(resource: Resource) -> Iterator[Finding]:
    fitting = {
        "database": ("database", "interface"),
        "file": ("file", "offline"),
        "interface": ("interface",),
    }
    allowed = fitting.get(resource.format_category or "")
    if allowed and resource.share_method and resource.share_method not in allowed:
        yield _warning(
            "share_method",
            "指南",
            f"format {resource.format_category} is shared by {' or '.join(allowed)}",
            "信息资源格式与共享方式不一致",
        )


def _release(resource: Resource) -> Iterator[Finding]:
    """What a person must have settled before ``push = true``."""
    if not resource.push:
        return
    if resource.share_type == "not_shared":
        yield _error(
            "push",
            "辽9",
            "a resource that is not shared cannot be pushed",
            "不予共享的资源不得推送",
        )
    if resource.secrecy_level != "unclassified":
        yield _error(
            "secrecy_level",
            "辽26",
            "only what is unclassified may leave",
            "只有非涉密资源可以共享",
        )
    if resource.network_zone != "outer":
        yield _error(
            "network_zone",
            "辽12",
            "this agent serves the outer network only",
            "本代理只用于政务外网",
        )
    if resource.binding is None:
        yield _error(
            "binding",
            "辽10",
            "push = true needs a [binding] to a table",
            "push = true 需要 [binding] 挂接数据表",
        )
    if resource.secrecy_review is None:
        yield _warning(
            "secrecy_review",
            "辽25",
            "no secrecy review is recorded",
            "缺少保密审查记录",
        )


def _bindings(resource: Resource) -> Iterator[Finding]:
    if resource.binding is None:
        return
    if not resource.binding.table or not all(resource.binding.table):
        yield _error(
            "binding.table", "辽10", "the table's name is empty", "数据表名为空"
        )
    names = {item.name for item in resource.items}
    for name in resource.binding.columns:
        if name not in names:
            yield _error(
                f"binding.columns.{name}",
                "辽10",
                "there is no such item",
                "没有该信息项",
            )


# --- its items ---------------------------------------------------------------------


def _items(resource: Resource) -> Iterator[Finding]:
    counts = Counter(item.name.lower() for item in resource.items)
    for name in sorted(name for name, count in counts.items() if count > 1):
        yield _error(f"items.{name}", "指南", "the name stands twice", "信息项标识重复")
    if not resource.items:
        yield _error("items", "指南", "there are no items", "没有信息项")
    for item in resource.items:
        yield from _item_type(item)
        yield from _item_share(resource, item)
        yield from _item_rules(item)


def _item_type(item: CatalogItem) -> Iterator[Finding]:
    field = f"items.{item.name}"
    if not re.fullmatch(ITEM_NAME, item.name):
        yield _error(
            f"{field}.name",
            "指南",
            "expected a small letter, then at most 62 small letters, digits and _",
            "应以小写字母开头，由小写字母、数字、下划线组成，至多 63 个字符",
        )
    length, scale = item.length, item.scale
    if item.type is ItemType.C and not 1 <= (length or 0) <= TEXT_LENGTH:
        yield _error(
            f"{field}.length",
            "指南",
            f"type C has a length of 1 to {TEXT_LENGTH} characters",
            f"字符型须给出长度（1 至 {TEXT_LENGTH} 个字符）",
        )
    if item.type is ItemType.N:
        if not 1 <= (length or 0) <= PRECISION:
            yield _error(
                f"{field}.length",
                "指南",
                f"type N has a precision of 1 to {PRECISION} digits",
                f"数值型须给出总位数（1 至 {PRECISION}）",
            )
        elif scale is None or not 0 <= scale <= (length or 0):
            yield _error(
                f"{field}.scale",
                "指南",
                "type N has a scale between 0 and its precision",
                "数值型须给出小数位数，且不超过总位数",
            )
    elif scale is not None or (length is not None and item.type is not ItemType.C):
        yield _error(
            f"{field}.length",
            "指南",
            f"type {item.type} has no length and no scale",
            f"{item.type} 型没有长度和小数位数",
        )


def _item_share(resource: Resource, item: CatalogItem) -> Iterator[Finding]:
    field = f"items.{item.name}"
    effective = resource.share_of(item)
    if item.share_type and effective.name.lower() != item.share_type:
        yield _error(
            f"{field}.share_type",
            "辽9",
            "an item may be stricter than its resource, never looser",
            "信息项的共享类型只能比资源更严格，不能更宽松",
        )
    stated = item.share_condition.strip() or resource.share_condition.strip()
    if effective is ShareType.CONDITIONAL and not stated:
        yield _error(
            f"{field}.share_condition",
            "辽9",
            "conditional sharing states its conditions",
            "有条件共享必须写明共享条件",
        )
    based = item.legal_basis or resource.legal_basis
    if effective is ShareType.NOT_SHARED and based is None:
        yield _error(
            f"{field}.legal_basis",
            "辽9",
            "what is not shared states the law: level, title, article",
            "不予共享必须有法律依据：层级、名称、条款",
        )
    if effective is ShareType.NOT_SHARED and item.open_to_public:
        yield _error(
            f"{field}.open_to_public",
            "辽8",
            "what is not shared is not open to the public either",
            "不予共享的信息项不得向社会开放",
        )


def _item_rules(item: CatalogItem) -> Iterator[Finding]:
    for rule in item.rules:
        field = f"items.{item.name}.rules"
        if rule not in RULES:
            yield _error(
                field,
                "辽17",
                f"no such rule {rule[:64]!r}; there are {', '.join(RULES)}",
                f"没有规则 {rule[:64]!r}，可用：{'、'.join(RULES)}",
            )
        elif item.type is not ItemType.C:
            yield _error(
                field,
                "辽17",
                f"rule {rule} needs an item of type C",
                f"规则 {rule} 只用于字符型",
            )


def _keys(resource: Resource) -> Iterator[Finding]:
    keys = [item for item in resource.items if item.key]
    if resource.push and not keys:
        yield _error(
            "items", "指南", "no item has key = true", "没有主键信息项（key = true）"
        )
    if len(keys) > KEY_ITEMS:
        yield _error(
            "items",
            "指南",
            f"at most {KEY_ITEMS} key items",
            f"主键至多 {KEY_ITEMS} 项",
        )
    for item in keys:
        if item.type not in KEY_TYPES:
            yield _error(
                f"items.{item.name}.key",
                "指南",
                f"type {item.type} cannot be a key; C, I, N, Y, D and T can",
                f"{item.type} 型不能作主键，仅限 C、I、N、Y、D、T",
            )
        withheld = resource.share_of(item) is ShareType.NOT_SHARED
        if resource.push and resource.share_type != "not_shared" and withheld:
            yield _error(
                f"items.{item.name}.share_type",
                "辽9",
                "a key item that is not shared leaves no key for the rest",
                "主键信息项不予共享，其余信息项便没有主键",
            )


_CHECKS: tuple[Check, ...] = (
    _codes,
    _names,
    _described,
    _sharing,
    _method,
    _release,
    _bindings,
    _items,
    _keys,
)
