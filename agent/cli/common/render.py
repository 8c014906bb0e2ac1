# SPDX-License-Identifier: Apache-2.0
"""Tables for people; imported only when nobody asked for JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from agent.cli.common import accounts, comparing, lookups, trusting
from agent.cli.common.context import Asked
from agent.cli.common.language import pick
from agent.errors import all_errors
from agent.pipeline.quality.reasons import TITLES

Body = Mapping[str, Any]

PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe."""

WIDE = 120
"""Columns from which a resource and its name stand on one line."""

_STATES = {
    "idle": ("idle", "空闲", "green"),
    "running": ("reading", "读取中", "cyan"),
    "waiting": ("sending", "发送中", "cyan"),
    "held": ("held", "待处理", "yellow"),
    "paused": ("paused", "已暂停", "yellow"),
    "recalled": ("recalled", "已撤回", "yellow"),
    "trouble": ("trouble", "异常", "red"),
    "queued": ("queued", "排队", "cyan"),
    "reading": ("reading", "读取中", "cyan"),
    "read": ("read", "已读取", "green"),
    "failed": ("failed", "失败", "red"),
    "interrupted": ("interrupted", "已中断", "yellow"),
    "stored": ("stored", "已存储", "cyan"),
    "loaded": ("loaded", "已入库", "green"),
    "rejected": ("rejected", "已驳回", "red"),
    "dropped": ("dropped", "已放弃", "yellow"),
}


def console() -> Console:
    """Where people look; wide when it goes into a file or a pipe.

    Names and details are shown as they are: no markup, no emoji codes.
    """
    width = None if sys.stdout.isatty() else PIPE_WIDTH
    return Console(highlight=False, markup=False, emoji=False, width=width)


def show_run(ask: Asked, body: Body) -> None:
    """A run on some lines."""
    console().print(Group(*_run(ask, body)))


def show_status(ask: Asked, body: Body) -> None:
    """The whole status once."""
    out = console()
    out.print(status(ask, body, width=out.width))


def status(ask: Asked, body: Body, *, width: int) -> RenderableType:
    """The whole status as one thing to print on so many columns."""
    resources = _resources(ask, body["resources"], width=width)
    answers = lookups.lines(ask, body["lookups"], moment=moment)
    city = trusting.lines(ask, body["trust"], moment=moment)
    notes = (*_disk(ask, body), *_notes(ask, body))
    return Group(_head(ask, body), resources, *answers, *city, *notes)


def _head(ask: Asked, body: Body) -> Text:
    agent, spool = body["agent"], body["spool"]
    good = body["healthy"]
    text = Text("● ", "green" if good else "red")
    text.append(
        ask.say("healthy", "正常") if good else ask.say("not healthy", "不正常")
    )
    text.append(f"  {agent['node']} → {body['exchange']['aud']}  ", "default")
    used = f"{size(spool['used'])} / {size(spool['quota'])}"
    text.append(ask.say(f"spool {used}", f"待发目录 {used}"), "default")
    if spool["blocked"]:
        text.append(ask.say("  full: reading waits", "  已满，暂停读取"), "red")
    if spool["slowed"]:
        text.append(
            ask.say("  nearly full: reading slows", "  将满，放慢读取"), "yellow"
        )
    if body["paused"]:
        text.append(ask.say("  everything is paused", "  已全部暂停"), "yellow")
    return text


def _disk(ask: Asked, body: Body) -> Iterator[Text]:
    """When the disk will be full, and how long what is on it stays."""
    spool, expected = body["spool"], body["spool"]["forecast"]
    free = ask.say(
        f"disk {size(spool['free'])} free", f"磁盘剩余 {size(spool['free'])}"
    )
    rate, days = expected["per_day"], expected["days"]
    if rate is None:
        when = ask.say(
            "unknown when full: too little history", "何时写满未知：历史不足"
        )
    elif days is None:
        when = ask.say("not filling", "占用未增长")
    else:
        when = ask.say(
            f"reading stops in about {days:,.0f} days at {size(rate)} a day",
            f"按每天 {size(rate)} 增长，约 {days:,.0f} 天后停止读取",
        )
    soon = days is not None and days < SOON_DAYS
    yield Text(f"{free}{ask.say('; ', '；')}{when}", "yellow" if soon else "default")
    kept = [_kept(ask, row) for row in body["retention"]]
    if kept:
        yield Text(ask.say("kept: ", "保留：") + ask.say("; ", "；").join(kept))


def _kept(ask: Asked, row: Body) -> str:
    name = ask.say(*_KEPT.get(row["what"], (row["what"], row["what"])))
    if row["what"] == "log":
        return f"{name} {ask.say('by journald', '由 journald 管理')}"
    seconds = row["keep_s"]
    long = ask.say("for ever", "永久")
    if seconds is not None:
        days, hours = divmod(round(seconds / 3600), 24)
        long = ask.say(f"{days} d", f"{days} 天") if not hours else ""
        long = long or ask.say(f"{seconds / 3600:g} h", f"{seconds / 3600:g} 小时")
    used = "" if row["bytes"] is None else f" ({size(row['bytes'])})"
    return f"{name} {long}{used}"


def _resources(ask: Asked, resources: Sequence[Body], *, width: int) -> Table:
    heads = ask.say(
        "resource|state|waiting|last run|read|sent|quarantined|last receipt",
        "资源|状态|待发|上次任务|读取|发送|隔离|最新回执",
    )
    table = _table(heads, right=(4, 5, 6))
    if width < WIDE:  # the name goes below the code, which is never cut
        table.columns[0].width = len("101001/000001")
    for r in resources:
        table.add_row(*_row(ask, r))
    return table


def _table(heads: str, *, right: Sequence[int] = ()) -> Table:
    """Columns parted by bars; a narrow screen folds cells and crops none."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads.split("|")):
        table.add_column(
            head, justify="right" if i in right else "left", overflow="fold"
        )
    return table


def _row(ask: Asked, r: Body) -> list[RenderableType]:
    run, waiting = r["run"], r["waiting"]
    counts = ["", "", ""]
    if run is not None:
        counts = [f"{run[k]:,}" for k in ("read", "upsert", "quarantined")]
    return [
        f"{r['resource']} {r['name']}",
        state(ask, r["state"]),
        f"{waiting['batches']} ({size(waiting['bytes'])})"
        if waiting["batches"]
        else "",
        moment(run and (run["ended_at"] or run["started_at"] or run["asked_at"])),
        *counts,
        receipt(ask, r["receipt"]),
    ]


def _notes(ask: Asked, body: Body) -> Iterator[Text]:
    """What needs a word: troubles with their next step, quarantine, wrong counts."""
    for trouble in body["troubles"]:
        yield from _trouble(ask, "", trouble)
    for one in body["barred"]:
        mark = ask.say("is not sent", "不推送")
        yield Text(f"{one['resource']} {mark}: {one['why']}", "yellow")
    for r in body["resources"]:
        yield from _times(ask, r)
        yield from comparing.lines(ask, r, moment=moment)
        yield from _begun(ask, r)
        if r["trouble"] is not None:
            yield from _trouble(ask, r["resource"], r["trouble"])
        run = r["run"]
        if run is not None and run["reasons"]:
            mark = ask.say("quarantined: ", "隔离原因：")
            why = ask.say(", ", "，").join(_reasons(ask, run["reasons"]))
            yield Text(f"{r['resource']} {mark}{why}", "yellow")
        for one in r["accounts"]:
            if one["ok"] is False:
                yield accounts.line(ask, r["resource"], one)


_CAUSES = {
    "spool-lost": (
        "what waited on this machine was lost: it was read again",
        "本机待发数据丢失，已重新读取",
    ),
    "restored": (
        "this machine's state went back to an old copy: everything was read again",
        "本机状态恢复为旧备份，已全部重新读取",
    ),
    "exchange-restored": (
        "the exchange went back to an old copy: what it had lost was sent again",
        "交换中心恢复为旧备份，已重新发送其丢失的数据",
    ),
    "rekeyed": (
        "what waited under a key that is over was sealed anew, or read again",
        "待发数据所用密钥已失效，已重新封装或重新读取",
    ),
    "cloned": (
        "another machine sent as this node, until a person chose this one",
        "曾有另一台机器以本节点身份发送，现由人工指定本机",
    ),
    "regained": (
        "another node owned it for a while: everything was read again",
        "该资源曾归其他节点，现已收回并全部重新读取",
    ),
}
CAUSE_DAYS = 7
"""So long after an epoch was begun its cause is shown."""
_KEPT = {
    "loaded": ("batches once loaded", "已入库批次"),
    "stored": ("batches only stored", "仅收妥批次"),
    "receipts": ("receipts", "签名回执"),
    "quarantine": ("quarantine", "隔离记录"),
    "evidence": ("evidence of lookups", "查询证据"),
    "log": ("log", "日志"),
}
SOON_DAYS = 14
"""A disk that is full within these is worth a look."""
_KINDS = {
    "full": ("full", "全量"),
    "incremental": ("changes", "增量"),
    "deletes": ("deletes", "删除检查"),
    "reconcile": ("comparison", "对账"),
}
_BLIND = "max-transaction="
"""Assumed where the account may not see the transactions of others."""
_WAITS = {
    "paused": ("paused", "已暂停"),
    "busy": ("after this run", "待本次任务结束"),
    "halted": ("rejected: pull first", "被驳回，须先处理"),
    "given-up": ("its worker died: resume first", "抽取进程多次异常，须先恢复"),
    "recalled": ("recalled", "已撤回"),
    "window": ("outside of its window", "未到允许时段"),
}


def _times(ask: Asked, r: Body) -> Iterator[Text]:
    """How far a run is, how old the centre's copy is, and when the next run begins."""
    found = []
    if r["progress"] is not None:
        found.append(progress(ask, r["progress"]))
    if r["ease"] is not None:
        found.append(_eased(ask, r["ease"]))
    if r["lag_s"] is not None:
        since, lag = moment(r["complete_to"]), span(ask, r["lag_s"])
        found.append(
            ask.say(f"complete to {since}, {lag} ago", f"完整至 {since}，已过 {lag}")
        )
    if r["increments"] is not None and r["increments"]["assumes"]:
        found.append(_assumed(ask, r["increments"]["assumes"]))
    for due in r["schedule"]:
        kind = ask.say(*_KINDS[due["kind"]])
        words = ask.say(f"next {kind} ", f"下次{kind} ") + moment(due["next"])
        if due["waits"]:
            why = ask.say(*_WAITS[due["waits"]])
            words += ask.say(f" ({why})", f"（{why}）")
        found.append(words)
    if found:
        yield Text(f"{r['resource']} {ask.say('; ', '；').join(found)}")


def _begun(ask: Asked, r: Body) -> Iterator[Text]:
    """Why the stream had to begin anew, for some days."""
    from datetime import UTC, datetime, timedelta

    cause, at = r["stream"]["cause"], r["stream"]["opened_at"]
    if cause not in _CAUSES:
        return
    if datetime.now(UTC) - datetime.fromisoformat(at) < timedelta(days=CAUSE_DAYS):
        words = ask.say(*_CAUSES[cause])
        yield Text(f"{r['resource']} {moment(at)} {words} [{cause}]", "yellow")


_FEELINGS = {
    "busy": ("share of its sessions at work", "活动会话占比"),
    "lock_waits": ("sessions waiting for locks", "等待锁的会话"),
    "replica_lag_s": ("replica behind, seconds", "复制延迟（秒）"),
    "no-answer": ("it does not answer", "没有应答"),
}


def _eased(ask: Asked, ease: Body) -> str:
    """How slowly a source is read, and why."""
    told = []
    for reason in ease["reasons"]:
        name, _, values = reason.partition("=")
        en, zh = _FEELINGS.get(name, (name, name))
        value, _, bound = values.partition(">")
        words = ask.say(en, zh) + f" {value}"
        if bound:
            words += ask.say(f" (bound {bound})", f"（界限 {bound}）")
        told.append(words)
    why, share = ask.say(", ", "，").join(told), f"{ease['share']:.0%}"
    return ask.say(
        f"reading at {share} of its speed, for the source is not well: {why}",
        f"数据源状况不良，读取已放慢至 {share}：{why}",
    )


def _assumed(ask: Asked, assumes: Sequence[str]) -> str:
    """What increments rely on, and which right would make it needless."""
    told = ", ".join(assumes)
    words = ask.say(f"increments assume {told}", f"增量的前提：{told}")
    if any(one.startswith(_BLIND) for one in assumes):
        words += ask.say(
            " (GRANT PROCESS ON *.* would prove the length of transactions:"
            " `fep source check`)",
            "（授予 PROCESS 权限后可核实事务时长：`fep source check`）",
        )
    return words


def progress(ask: Asked, seen: Body) -> str:
    """How far a run is."""
    words = ask.say(f"{seen['read']:,} rows read", f"已读 {seen['read']:,} 行")
    if seen["estimate"] is not None:
        about = f"{seen['estimate']:,}"
        words += ask.say(f" of about {about}", f"，共约 {about} 行")
    if seen["rate"] is not None:
        words += ask.say(
            f", {seen['rate']:,.0f} a second", f"，每秒 {seen['rate']:,.0f} 行"
        )
    if seen["eta_s"] is not None:
        left = span(ask, seen["eta_s"])
        words += ask.say(f", about {left} left", f"，约剩 {left}")
    return words


def _trouble(ask: Asked, of: str, trouble: Body) -> Iterator[Text]:
    title = trouble["title"][ask.lang]
    yield Text(f"{of + ' ' if of else ''}{title} [{trouble['code']}]", "red")
    yield Text(f"  {trouble['detail']}")
    yield Text(f"  → {trouble['remedy'][ask.lang]}")


def equation(ask: Asked, run: Body) -> Text:
    """The counting equation of a run, red when it does not hold."""
    names = ask.say(
        "read|loaded|in flight|quarantined|skipped|given up",
        "读取|入库|在途|隔离|跳过|放弃",
    ).split("|")
    keys = ("read", "loaded", "in_flight", "quarantined", "skipped", "lost")
    shown = [(n, k) for n, k in zip(names, keys, strict=True) if k != "lost" or run[k]]
    left, *right = [f"{n} {run[k]:,}" for n, k in shown]
    sign, style = ("=", "green") if run["balanced"] else ("≠", "bold red")
    return Text(f"{run['resource']}: {left} {sign} {' + '.join(right)}", style)


def _run(ask: Asked, run: Body) -> Iterator[Text]:
    head = Text(f"{run['resource']}  {run['run']}  ")
    yield head.append_text(state(ask, run["state"]))
    if run["balanced"] is not None:
        yield equation(ask, run)
    if run["found"] is not None:
        yield comparing.found(ask, run["found"])
    for why in _reasons(ask, run["reasons"]):
        yield Text(f"  {ask.say('quarantined', '隔离')} {why}", "yellow")
    for why in _reasons(ask, run["warnings"]):
        yield Text(f"  {ask.say('warning', '警告')} {why}", "yellow")
    if run["code"]:
        yield from _failure(ask, run)


def _failure(ask: Asked, run: Body) -> Iterator[Text]:
    """Why a run ended early, and what to do."""
    for cls in all_errors():
        if cls.code == run["code"]:
            yield Text(f"  {pick(cls.title, ask.lang)} [{run['code']}]", "red")
            yield Text(f"  {run['detail']}")
            yield Text(f"  → {pick(cls.remedy, ask.lang)}")
            return
    yield Text(f"  {run['code']}: {run['detail']}", "red")


def _reasons(ask: Asked, counts: Mapping[str, int]) -> Iterator[str]:
    """Codes in words with their rows, most first."""
    for code, rows in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        title = TITLES.get(code)
        words = code if title is None else f"{pick(title, ask.lang)} [{code}]"
        yield f"{words}: {rows:,}"


def batches(ask: Asked, found: Sequence[Body]) -> Table:
    """Batches of the spool, oldest first."""
    heads = ask.say(
        "resource|epoch|seq|state|rows|size|sealed|file",
        "资源|纪元|序号|状态|行数|大小|封装时间|文件",
    )
    table = _table(heads, right=(1, 2, 4, 5))
    for b in found:
        table.add_row(
            b["resource"],
            str(b["epoch"]),
            str(b["seq"]),
            state(ask, b["state"]),
            f"{sum(b['rows'].values()):,}",
            size(b["size"]),
            moment(b["sealed_at"]),
            ask.say("purged", "已清理") if b["gone"] else b["path"].rpartition("/")[2],
        )
    return table


def receipts(ask: Asked, found: Sequence[Body]) -> Table:
    """Receipts, oldest first."""
    heads = ask.say(
        "epoch|seq|state|code|rows|signed|kept", "纪元|序号|状态|代码|行数|签署|保存"
    )
    table = _table(heads, right=(0, 1, 4))
    for r in found:
        table.add_row(
            str(r["epoch"]),
            str(r["seq"]),
            state(ask, r["state"]),
            r["code"] or "",
            "" if r["rows"] is None else f"{sum(r['rows'].values()):,}",
            moment(r["at"]),
            moment(r["kept_at"]),
        )
    return table


def pairs(found: Mapping[str, Any]) -> Table:
    """Names and values, nested names with dots; exact texts are left to JSON."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, value in _flat(found):
        if name.endswith(".jws"):
            continue
        table.add_row(name, "-" if value is None else str(value))
    return table


def _flat(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            for i, entry in enumerate(value):
                yield from _flat({str(i): entry}, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def state(ask: Asked, name: str) -> Text:
    """A state in words and colour."""
    en, zh, style = _STATES.get(name, (name, name, "default"))
    return Text(ask.say(en, zh), style)


def receipt(ask: Asked, found: Body | None) -> Text:
    """A receipt in few words."""
    if found is None:
        return Text("")
    text = state(ask, found["state"])
    code = f" {found['code']}" if found["code"] else ""
    return text.append(f" {found['epoch']}/{found['seq']}{code} {moment(found['at'])}")


def moment(text: str | None) -> str:
    """A wire time in the local zone of the terminal."""
    if not text:
        return ""
    from datetime import datetime

    return f"{datetime.fromisoformat(text).astimezone():%m-%d %H:%M:%S}"


def span(ask: Asked, seconds: float) -> str:
    """A length of time for people: its two largest units."""
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return ask.say(f"{days} d {h} h", f"{days} 天 {h} 小时")
    if hours:
        return ask.say(f"{h} h {m} min", f"{h} 小时 {m} 分")
    if m:
        return ask.say(f"{m} min {s} s", f"{m} 分 {s} 秒")
    return ask.say(f"{s} s", f"{s} 秒")


def size(count: int) -> str:
    """Bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return ""
