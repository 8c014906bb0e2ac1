# SPDX-License-Identifier: Apache-2.0
"""Whether the counts add up, for people: green, red, or not known yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.text import Text

from agent.cli.common.context import Asked

Body = Mapping[str, Any]

_NAMES = {
    "batches": ("every batch", "各批次"),
    "keep": ("kept keys", "保留主键"),
    "sum": ("batches = run", "批次合计 = 任务"),
    "run": ("run", "任务"),
    "resource": ("resource", "资源"),
}
_MEMBERS = {
    "read": ("read", "读取"),
    "upsert": ("sent", "发送"),
    "delete": ("deleted", "删除"),
    "keep": ("kept", "保留"),
    "quarantined": ("quarantined", "隔离"),
    "skipped": ("skipped", "跳过"),
    "loaded": ("loaded", "入库"),
    "in_flight": ("in flight", "在途"),
    "lost": ("given up", "放弃"),
    "source": ("source rows", "源库行数"),
    "centre": ("centre's rows", "中心行数"),
    "never_sent": ("never sent", "从未发送"),
}
_WHY = {
    "reading": ("not known: no run has read everything", "未知：尚无完成的读取"),
    "not-loaded": ("not known before it is loaded", "未知：尚未全部入库"),
    "not-counted": (
        "not known: the centre was not asked, or did not answer; the next full read"
        " asks again",
        "未知：中心未被询问或未答复，下次全量读取时再问",
    ),
}


def show(ask: Asked, resource: str, accounts: Sequence[Body]) -> None:
    """Every equation on a line of its own."""
    from agent.cli.common.render import console

    out = console()
    for one in accounts:
        out.print(line(ask, resource, one))


def line(ask: Asked, resource: str, one: Body) -> Text:
    """One equation, red when it does not hold."""
    name = ask.say(*_NAMES[one["name"]])
    head = f"{resource} {name}{ask.say(': ', '：')}"
    if one["ok"] is None:
        return Text(head + ask.say(*_WHY[one["why"]]))
    signs = {"=": ("=", "≠"), "<=": ("≤", ">")}[one["sign"]]
    sign, style = (signs[0], "green") if one["ok"] else (signs[1], "bold red")
    by = ", " if one["name"] == "sum" else " + "
    left, right = (by.join(_members(ask, one[side])) for side in ("left", "right"))
    text = f"{head}{left} {sign} {right}"
    return Text(text + _rest(ask, one), style)


def _members(ask: Asked, members: Mapping[str, int]) -> list[str]:
    return [f"{ask.say(*_MEMBERS[k])} {n:,}" for k, n in members.items()]


def _rest(ask: Asked, one: Body) -> str:
    """How many are stale, and when that was counted."""
    from agent.cli.common.render import moment

    words = ""
    if one["stale"]:
        old = f"{one['stale']:,}"
        words += ask.say(f"; {old} at an older version", f"；其中旧值 {old}")
    if one["at"] is not None:
        when = moment(one["at"])
        words += ask.say(f"; counted {when}", f"；计数时间 {when}")
    return words
