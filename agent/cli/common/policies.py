# SPDX-License-Identifier: Apache-2.0
"""How ``fep policy`` shows policies and decisions, to people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date

from agent.catalog.gate import Offer
from agent.cli.common import preview
from agent.cli.common.context import Asked
from agent.cli.common.language import pick
from agent.errors import Text
from agent.lookup.mask import KEEPS
from agent.lookup.policy import words
from agent.lookup.policy.judge import Allowed, Denied
from agent.lookup.policy.rules import Policy, Rule
from agent.model.treatment import MaskKind, Treatment
from agent.wire.lookup import Request


def show_grants(
    ask: Asked, policy: Policy, offers: Mapping[str, Offer], *, today: date
) -> None:
    """Every grant in words, and what a person should look at."""
    for rule in policy.rules:
        print(rule.id)
        for en, zh, text in _lines(rule, offers[rule.resource]):
            print(f"  {ask.say(en + ': ', zh + '：')}{pick(text, ask.lang)}")
        for warning in words.warnings(rule, today=today):
            print(f"  ! {pick(warning, ask.lang)}")


def _lines(rule: Rule, offer: Offer) -> Iterator[tuple[str, str, Text]]:
    """Heads in English and Chinese, and what stands behind them."""
    yield "who", "部门", _same(", ".join(rule.consumers))
    yield "what", "资源", _same(f"{rule.resource} {offer.name}")
    yield "how", "操作", words.operations(rule)
    yield "by", "凭", _same(", ".join(_item(offer, name) for name in rule.keys))
    yield "why", "用途", words.purposes(rule)
    yield "gives", "给出", _fields(rule, offer)
    yield "days", "有效期", words.validity(rule)
    most = Text(f"{rule.max_items} items", f"{rule.max_items} 条")
    yield "at most", "每次上限", most
    if rule.note:
        yield "note", "备注", _same(rule.note)


def _fields(rule: Rule, offer: Offer) -> Text:
    """The fields of a grant, and what becomes of each."""
    pairs = [(_item(offer, name), _treated(t)) for name, t in rule.fields.items()]
    return Text(
        ", ".join(f"{name} ({use.en})" for name, use in pairs) or "nothing",
        "、".join(f"{name}（{use.zh}）" for name, use in pairs) or "无",
    )


def _item(offer: Offer, name: str) -> str:
    """An item with its name in Chinese."""
    return f"{name} {offer.titles.get(name, '')}".rstrip()


def _treated(treatment: Treatment) -> Text:
    """What a treatment lets through."""
    if treatment.mask is MaskKind.HIDE:
        return Text("hidden wholly", "全部隐藏")
    if treatment.mask is not None:
        keeps = KEEPS[treatment.mask]
        return Text(f"masked, keeps {keeps.en}", f"脱敏，保留{keeps.zh}")
    if treatment.use == "verify":
        return Text("compared only", "仅比对")
    return Text("in full", "原值")


def _same(text: str) -> Text:
    return Text(text, text)


def grant_json(rule: Rule, *, today: date) -> dict[str, object]:
    """A grant as docs/cli-json.md describes it."""
    return {
        "id": rule.id,
        "consumers": list(rule.consumers),
        "resource": rule.resource,
        "ops": [op for op in words.OPS if op in rule.ops],
        "keys": list(rule.keys),
        "purposes": [
            {"purpose": name, "basis": pattern.text}
            for name, pattern in rule.purposes.items()
        ],
        "fields": [
            {"item": name, "use": t.use, "mask": t.mask}
            for name, t in rule.fields.items()
        ],
        "max_items": rule.max_items,
        "first": rule.first and rule.first.isoformat(),
        "last": rule.last and rule.last.isoformat(),
        "note": rule.note,
        "warnings": [w._asdict() for w in words.warnings(rule, today=today)],
    }


def decision_json(found: Allowed | Denied, request: Request) -> dict[str, object]:
    """A decision as docs/cli-json.md describes it."""
    allowed = isinstance(found, Allowed)
    return {
        "allowed": allowed,
        "rule": found.rule if isinstance(found, Allowed) else None,
        "reasons": [] if isinstance(found, Allowed) else list(found.reasons),
        "steps": [
            {**step._asdict(), **words.STEPS[step.check]._asdict()}
            for step in found.steps
        ],
        "fields": [row._asdict() for row in preview.rows(found, op=request.op)]
        if isinstance(found, Allowed)
        else [],
    }


def show_decision(ask: Asked, found: Allowed | Denied, request: Request) -> None:
    """Each step, the end of it, and what an answer would hold."""
    for step in found.steps:
        got = f"  ({step.got})" if step.got else ""
        mark = "✓" if step.passed else "✗"
        print(f"{mark} {pick(words.STEPS[step.check], ask.lang)}{got}")
    if isinstance(found, Denied):
        why = ", ".join(found.reasons)
        print(ask.say(f"denied: {why}", f"拒绝：{why}"))
        return
    print(ask.say(f"allowed by {found.rule}", f"允许，依据授权 {found.rule}"))
    for row in preview.rows(found, op=request.op):
        print(f"  {row.item}: {row.sample} → {row.left}")
    if found.fields:
        print(ask.say("(values of nobody)", "（示例值不属于任何人）"))
