# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a resource document: field, article, severity, and what to do.

Articles: 指南 = 政务信息资源目录编制指南(试行), 辽n = 辽阳办法 article n, 皖 = 安徽.
An error keeps a document from being used; a warning is a gap that an inspection would
find.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from agent.catalog import identifiers
from agent.catalog.document import Resource
from agent.catalog.finding import Finding, error, warning
from agent.catalog.lint_items import items, keys

GUIDE_CODE = r"^[123][0-9]{2}[0-9]{3}[0-9]*/[0-9]+$"
"""类(1) 项(2) 目(3) 细目 / 顺序码; local standards differ, so only a warning."""
WIRE_CODE = r"^[0-9A-Za-z]{1,32}(?:/[0-9A-Za-z]{1,32}){1,3}$"

_ENDS_BADLY = re.compile(r"^\s|[\s\d０-９]$|[^\w\s)）》”]$")


Check = Callable[[Resource], Iterator[Finding]]


def lint(resource: Resource) -> tuple[Finding, ...]:
    """Everything that is wrong, errors first, then in the order of the rules."""
    found = [finding for check in _CHECKS for finding in check(resource)]
    return tuple(sorted(found, key=lambda finding: finding.severity))


def errors(resource: Resource) -> tuple[Finding, ...]:
    """The findings that keep a document from being used."""
    return tuple(f for f in lint(resource) if f.severity == "error")


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
            yield warning(field, article, f"the {en} is missing", f"缺少{zh}")


def _codes(resource: Resource) -> Iterator[Finding]:
    if not re.fullmatch(WIRE_CODE, resource.code):
        yield error(
            "code",
            "指南",
            "expected two to four parts of letters and digits joined by /",
            "应为以 / 连接的两至四段字母或数字",
        )
    elif not re.fullmatch(GUIDE_CODE, resource.code):
        yield warning(
            "code",
            "指南",
            "differs from the guide: class code of at least 6 digits / sequence number",
            "与指南不一致：类项目细目代码（至少 6 位数字）/ 顺序码",
        )
    provider = resource.provider_code
    if provider and not identifiers.is_uscc(provider):
        yield warning(
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
            yield error(field, "指南", "the name is missing", "缺少名称")
        elif _ENDS_BADLY.search(name):
            yield warning(
                field,
                "指南",
                "ends with a number, a blank or punctuation",
                "名称末尾有数字、空格或标点",
            )
    for item in resource.items:
        if not item.title:
            yield warning(
                f"items.{item.name}.title",
                "指南",
                "the item's Chinese name is missing",
                "缺少信息项名称",
            )


def _sharing(resource: Resource) -> Iterator[Finding]:
    if resource.share_type == "conditional" and not resource.share_condition.strip():
        yield error(
            "share_condition",
            "辽9",
            "conditional sharing states its conditions",
            "有条件共享必须写明共享条件",
        )
    if resource.share_type == "not_shared" and resource.legal_basis is None:
        yield error(
            "legal_basis",
            "辽9",
            "what is not shared states the law: level, title, article",
            "不予共享必须有法律依据：层级、名称、条款",
        )
    if resource.share_type == "not_shared" and resource.open_to_public:
        yield error(
            "open_to_public",
            "辽8",
            "what is not shared is not open to the public either",
            "不予共享的资源不得向社会开放",
        )
    if resource.share_type == "unconditional" and resource.share_basis_kind is None:
        yield warning(
            "share_basis_kind",
            "辽9",
            "why it is shared without conditions is not recorded",
            "未记录无条件共享的依据类型",
        )
    if resource.open_to_public and not resource.open_condition.strip():
        yield warning(
            "open_condition",
            "辽8",
            "open to the public without saying how",
            "向社会开放的资源应写明开放条件",
        )


def _method(resource: Resource) -> Iterator[Finding]:
    fitting = {
        "database": ("database", "interface"),
        "file": ("file", "offline"),
        "interface": ("interface",),
    }
    allowed = fitting.get(resource.format_category or "")
    if allowed and resource.share_method and resource.share_method not in allowed:
        yield warning(
            "share_method",
            "指南",
            f"format {resource.format_category} is shared by {' or '.join(allowed)}",
            "信息资源格式与共享方式不一致",
        )


def _release(resource: Resource) -> Iterator[Finding]:
    """What a person must have settled before ``push`` or ``lookup`` is true."""
    ways = [way for way in ("push", "lookup") if getattr(resource, way)]
    if not ways:
        return
    if resource.share_type == "not_shared":
        for way in ways:
            yield error(
                way,
                "辽9",
                "a resource that is not shared is neither pushed nor looked up",
                "不予共享的资源不得推送，也不得供联机查询",
            )
    if resource.secrecy_level != "unclassified":
        yield error(
            "secrecy_level",
            "辽26",
            "only what is unclassified may leave",
            "只有非涉密资源可以共享",
        )
    if resource.network_zone != "outer":
        yield error(
            "network_zone",
            "辽12",
            "this agent serves the outer network only",
            "本代理只用于政务外网",
        )
    if resource.binding is None:
        yield error(
            "binding",
            "辽10",
            f"{ways[0]} = true needs a [binding] to a table",
            f"{ways[0]} = true 需要 [binding] 挂接数据表",
        )
    if resource.secrecy_review is None:
        yield warning(
            "secrecy_review",
            "辽25",
            "no secrecy review is recorded",
            "缺少保密审查记录",
        )


def _bindings(resource: Resource) -> Iterator[Finding]:
    if resource.binding is None:
        return
    if not resource.binding.table or not all(resource.binding.table):
        yield error(
            "binding.table", "辽10", "the table's name is empty", "数据表名为空"
        )
    names = {item.name for item in resource.items}
    for name in resource.binding.columns:
        if name not in names:
            yield error(
                f"binding.columns.{name}",
                "辽10",
                "there is no such item",
                "没有该信息项",
            )
    yield from _encodings(resource)
    yield from _number(resource)
    yield from _withheld_columns(resource)


def _encodings(resource: Resource) -> Iterator[Finding]:
    """Only texts are repaired, and no keys: these are sought as the source has them."""
    plain = {item.name for item in resource.items if item.type in "CM" and not item.key}
    for name in resource.binding.encodings if resource.binding else ():
        if name not in plain:
            yield error(
                f"binding.encodings.{name}",
                "辽10",
                "expected an item of type C or M that is no key",
                "应为非主键的 C 型或 M 型信息项",
            )


def _number(resource: Resource) -> Iterator[Finding]:
    """A growing number that an item reads must be a whole one."""
    number = resource.binding.number if resource.binding else None
    for item in resource.items:
        if number is not None and resource.column(item) == number and item.type != "I":
            yield error(
                "binding.number",
                "辽10",
                f"the item {item.name} of this column has type {item.type}, not I",
                f"该字段对应的信息项 {item.name} 为 {item.type} 型，应为 I 型",
            )


def _withheld_columns(resource: Resource) -> Iterator[Finding]:
    """A column that one item keeps back must not leave under another item's name.

    Without regard to case: what is kept back is never read, so nothing else would
    notice that its column is written otherwise.
    """
    shared = resource.shared_items()
    withheld = {
        resource.column(item).casefold(): item.name
        for item in resource.items
        if item not in shared
    }
    for item in shared:
        other = withheld.get(resource.column(item).casefold())
        if other is not None:
            yield error(
                f"binding.columns.{item.name}",
                "辽9",
                f"the column belongs to {other}, which is not shared",
                f"该列属于不予共享的信息项 {other}",
            )


_CHECKS: tuple[Check, ...] = (
    _codes,
    _names,
    _described,
    _sharing,
    _method,
    _release,
    _bindings,
    items,
    keys,
)
