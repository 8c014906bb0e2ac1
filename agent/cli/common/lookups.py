# SPDX-License-Identifier: Apache-2.0
"""How the lookup side stands, in three lines for people."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from rich.text import Text

from agent.cli.common.context import Asked
from agent.cli.common.language import pick
from agent.errors import FepError, all_errors

Body = Mapping[str, Any]


Moment = Callable[[str | None], str]
"""A wire time for people."""


def lines(ask: Asked, body: Body, *, moment: Moment) -> Iterator[Text]:
    """Ways in, what happened today, policy and log; nothing if nothing is offered."""
    if not body["offered"] and not body["policy"]["rev"]:
        return
    yield _ways(ask, body, moment)
    yield _today(ask, body["today"], inside=body["inside"])
    yield _books(ask, body["policy"], body["audit"], moment)


def _ways(ask: Asked, body: Body, moment: Moment) -> Text:
    text = Text("● ", "green" if body["healthy"] else "red")
    offered = body["offered"]
    text.append(ask.say(f"lookups ({offered} open)", f"联机查询（开放 {offered} 项）"))
    for way, en, zh in (("relay", "line", "中继"), ("listener", "listener", "监听")):
        if body[way]["enabled"]:
            text.append(ask.say(f"  {en} ", f"  {zh}"))
            text.append_text(_way(ask, body[way], moment))
    return text


def _way(ask: Asked, way: Body, moment: Moment) -> Text:
    since = moment(way["since"])
    if way["up"]:
        return Text(ask.say(f"up since {since}", f"自 {since} 接通"), "green")
    text = Text(ask.say(f"down since {since}", f"自 {since} 中断"), "red")
    if way["trouble"]:
        title = pick(_title(way["trouble"]), ask.lang)
        text.append(ask.say(f": {title}", f"：{title}"), "red")
    return text


def _today(ask: Asked, today: Body, *, inside: int) -> Text:
    told = [
        ask.say(f"answered {today['answered']:,}", f"答复 {today['answered']:,}"),
        ask.say(f"denied {today['denied']:,}", f"拒绝 {today['denied']:,}"),
        ask.say(f"errors {today['errors']:,}", f"出错 {today['errors']:,}"),
        ask.say(f"refused {today['refused']:,}", f"拒收 {today['refused']:,}"),
    ]
    if inside:
        told.append(ask.say(f"waiting {inside:,}", f"处理中 {inside:,}"))
    head = ask.say("  today: ", "  今日：")
    return Text(head + " · ".join(told))


def _books(ask: Asked, policy: Body, audit: Body, moment: Moment) -> Text:
    rev, size, cosigned = policy["rev"], audit["size"], audit["cosigned"]
    none = ask.say("  no policy: all is refused", "  无生效策略，一律拒绝")
    text = Text(ask.say(f"  policy {rev}", f"  策略第 {rev} 版") if rev else none)
    if policy["draft_differs"]:
        draft = ask.say(" (the file is a draft)", "（文件有未启用的改动）")
        text.append(draft, "yellow")
    text.append(ask.say(f"  log {size:,} records", f"  审计 {size:,} 条"))
    at = moment(audit["cosigned_at"]) or "—"
    words = (f", cosigned {cosigned:,} ({at})", f"，会签 {cosigned:,}（{at}）")
    text.append(ask.say(*words))
    return text


def _title(code: str) -> Any:
    known = {cls.code: cls.title for cls in all_errors()}
    return known.get(code, FepError.title)
