# SPDX-License-Identifier: Apache-2.0
"""What a comparison with the centre found, and a recall, in words (对账, 撤回)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.text import Text

from agent.cli.common.context import Asked

Body = Mapping[str, Any]

_CLASSES = (
    ("missing", "missing there", "中心缺失"),
    ("stale", "different there", "中心不一致"),
    ("extra", "only there", "中心多出"),
)


def lines(
    ask: Asked, resource: Body, *, moment: Callable[[str | None], str]
) -> Iterator[Text]:
    """Of one resource in the status."""
    if (last := resource["reconciled"]) is not None:
        at = moment(last["at"])
        head = ask.say(f"compared {at}: ", f"对账 {at}：")
        text = Text(f"{resource['resource']} {head}").append_text(
            found(ask, last["found"])
        )
        if not _clean(last["found"]):
            done = last["repaired"]
            words = (
                ask.say("; repaired", "；已修复")
                if done
                else ask.say("; not repaired", "；未修复")
            )
            text.append(words, "green" if done else "yellow")
        yield text
    if (recall := resource["recalled"]) is not None:
        since, rows = moment(recall["since"]), f"{recall['rows']:,}"
        words = ask.say(
            f"recalled {since}, {rows} rows; ", f"{since} 起撤回，共 {rows} 行；"
        )
        proven = recall["proven_at"]
        words += (
            ask.say("the exchange has not yet proven it", "中心尚未证明已清空")
            if proven is None
            else ask.say(
                f"the exchange signed at {moment(proven)} that it has none",
                f"中心已于 {moment(proven)} 签名证明无数据",
            )
        )
        yield Text(f"{resource['resource']} {words}", "yellow")


def found(ask: Asked, found: Body) -> Text:
    """What differs, in numbers."""
    rows, centre = f"{found['rows']:,}", f"{found['centre']:,}"
    en, zh = f"{rows} rows here, {centre} there", f"本地 {rows} 行，中心 {centre} 行"
    text, comma = Text(ask.say(en, zh)), ask.say(", ", "，")
    for name, en, zh in _CLASSES:
        if found[name]:
            rows = f"{found[name]:,}"
            text.append(comma + ask.say(f"{rows} {en}", f"{zh} {rows}"))
    if _clean(found):
        text.append(comma + ask.say("no difference", "无差异"), "green")
    if found["late"]:
        late = f"{found['late']:,}"
        en, zh = f"{late} changed since the last run", f"待增量 {late}"
        text.append(comma + ask.say(en, zh))
    if found["left"]:
        en, zh = "too many to look at all: run it again", "差异过多，请再次对账"
        text.append(comma + ask.say(en, zh))
    return text


def _clean(found: Body) -> bool:
    return not any(found[name] for name in ("missing", "stale", "extra", "left"))
