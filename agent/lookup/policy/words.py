# SPDX-License-Identifier: Apache-2.0
"""A policy in words: for the head of department who answers for it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from agent.catalog import identifiers
from agent.errors import Text
from agent.lookup.policy.rules import Rule

OPS: Mapping[str, Text] = {
    "get": Text("get", "查询"),
    "verify": Text("verify", "核验"),
    "exists": Text("exists", "是否存在"),
}

PURPOSES: Mapping[str, Text] = {
    "administrative_basis": Text("administrative basis", "行政依据"),
    "work_reference": Text("work reference", "工作参考"),
    "data_verification": Text("data verification", "数据校核"),
    "collaboration": Text("collaboration", "业务协同"),
}

STEPS: Mapping[str, Text] = {
    "resource": Text("the catalog opens the resource for lookups", "资源允许联机查询"),
    "consumer": Text("a grant names the department", "有授权列明该部门"),
    "day": Text("a grant is valid today", "授权在有效期内"),
    "purpose": Text("a grant names the purpose", "有授权列明该用途"),
    "op": Text("a grant names the operation", "有授权列明该操作"),
    "keys": Text("a grant asks by exactly these keys", "查询条件与授权完全一致"),
    "one": Text("no more than one grant fits", "仅有一条授权相符"),
    "basis": Text("the basis matches the pattern wholly", "依据与规定格式完全相符"),
    "fields": Text("every field is granted", "所需信息项均已授权"),
    "claims": Text("every claim is canonical text", "待核验的值均为规范文本"),
    "texts": Text("every key is canonical text", "查询条件的值均为规范文本"),
    "items": Text("no more items than granted", "条数未超过上限"),
}
"""Check -> what is true when it passes."""

SOON_DAYS = 30
"""A grant that ends within so many days is pointed out."""

_ANYTHING = ("!", "0", "a b", "~" * 40)
"""Texts of which a pattern that takes all of them takes nearly everything."""


def purposes(rule: Rule) -> Text:
    """The purposes of a grant with their patterns."""
    pairs = [(PURPOSES[name], p.text) for name, p in rule.purposes.items()]
    return Text(
        ", ".join(f"{name.en} (basis {pattern})" for name, pattern in pairs),
        "、".join(f"{name.zh}（依据 {pattern}）" for name, pattern in pairs),
    )


def operations(rule: Rule) -> Text:
    """The operations of a grant, in the usual order."""
    found = [OPS[op] for op in OPS if op in rule.ops]
    return Text(", ".join(op.en for op in found), "、".join(op.zh for op in found))


def validity(rule: Rule) -> Text:
    """The days of a grant."""
    first, last = rule.first, rule.last
    return Text(
        f"{first or 'always'} to {last or 'without end'}",
        f"{first or '即日'} 至 {last or '长期'}",
    )


def warnings(rule: Rule, *, today: date) -> Iterator[Text]:
    """What may be meant, but should be looked at by a person."""
    if rule.last is None:
        yield Text("it has no last day", "未写截止日期")
    elif rule.last < today:
        yield Text(f"it ended on {rule.last}", f"已于 {rule.last} 到期")
    elif (days := (rule.last - today).days) <= SOON_DAYS:
        yield Text(f"it ends in {days} days", f"将于 {days} 天后到期")
    for name, pattern in rule.purposes.items():
        if all(pattern.matches(text) for text in _ANYTHING):
            yield Text(
                f"any basis is good enough for {PURPOSES[name].en}",
                f"用途“{PURPOSES[name].zh}”对依据不作任何要求",
            )
    for consumer in rule.consumers:
        if not identifiers.is_uscc(consumer):
            yield Text(
                f"{consumer} fails the check of GB 32100: mistyped?",
                f"{consumer} 未通过 GB 32100 校验，是否写错？",
            )
