# SPDX-License-Identifier: Apache-2.0
"""The one screen of the demonstration, and its progress while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal, Protocol

from rich.console import Console, Group
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.table import Table
from rich.text import Text as Styled

from agent.demo.report import GATE_CLOSED, Asked, Pushed, Report, Tampered
from agent.errors import Text
from agent.lookup.policy.words import PURPOSES

Language = Literal["zh", "en"]


class Watch(Protocol):
    """Who is shown what goes on."""

    def step(self, what: Text) -> None:
        """A step began."""
        ...

    def rows(self, name: str, *, read: int, of: int) -> None:
        """A resource's run has read so many of its rows."""
        ...


class Silent:
    """Nobody looks."""

    def step(self, what: Text) -> None:
        """Say nothing."""

    def rows(self, name: str, *, read: int, of: int) -> None:
        """Say nothing."""


class Bars:
    """Progress bars: one line for the step, one for each resource."""

    def __init__(self, progress: Progress, lang: Language) -> None:
        self._progress = progress
        self._lang: Language = lang
        self._step = progress.add_task("", total=None)
        self._tasks: dict[str, TaskID] = {}

    def step(self, what: Text) -> None:
        """Name the step."""
        self._progress.update(self._step, description=pick(what, self._lang) + " …")

    def rows(self, name: str, *, read: int, of: int) -> None:
        """Move a resource's bar."""
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(name, total=of)
        self._progress.update(self._tasks[name], completed=read)


@contextmanager
def bars(console: Console, lang: Language) -> Iterator[Watch]:
    """Progress bars that are gone when the block ends."""
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:,.0f}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bars(progress, lang)


def pick(text: Text, lang: Language) -> str:
    """The sentence in one language."""
    return text.zh if lang == "zh" else text.en


def screen(report: Report, lang: Language, *, codes: Mapping[str, Text]) -> Panel:
    """Everything that a person should see, as one panel.

    Args:
        report: what was found.
        lang: language of the words.
        codes: quarantine code or rule -> what it means.
    """
    say = _say(lang)
    head = say(
        "FEP demonstration: 云溪市人力资源和社会保障局 → exchange (sandbox)",
        "FEP 演示：云溪市人力资源和社会保障局 → 数据交换中心（沙箱）",
    )
    body = Group(
        _flow(report, lang),
        Styled(),
        _proof(report, lang),
        Styled(),
        _withheld(report, lang, codes),
        Styled(),
        _tampering(report, lang),
        Styled(),
        _asking(report, lang),
        Styled(),
        _verdict(report, lang),
    )
    seconds = sum(report.ms.values()) / 1000
    foot = f"{seconds:.1f} s · {report.folder}"
    style = "green" if report.healthy else "red"
    return Panel(body, title=head, subtitle=foot, border_style=style, padding=(0, 1))


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for i, name in enumerate(columns):
        justify: Literal["left", "right"] = "right" if i else "left"
        table.add_column(name, justify=justify, overflow="fold", header_style="dim")
    return table


def _flow(report: Report, lang: Language) -> Table:
    say = _say(lang)
    table = _table(
        say("What was done", "做了什么"),
        say("resource", "资源"),
        say("read", "读取"),
        say("accepted", "通过"),
        say("quarantined", "隔离"),
        say("sent (batches)", "发送（批）"),
        say("receipted", "已回执"),
    )
    for p in report.pushed:
        table.add_row(
            f"{p.code} {p.name}",
            f"{p.read:,}",
            f"{p.accepted:,}",
            f"{p.quarantined:,}",
            f"{_size(p.sent_bytes)} ({p.batches})",
            f"{say('loaded', '已入库')} {p.loaded} {_mark(p.loaded == p.batches)}",
        )
    return table


def _proof(report: Report, lang: Language) -> Table:
    say = _say(lang)
    table = _table(
        say("Source beside centre", "源与中心对照"),
        say("resource", "资源"),
        say("table", "表行数"),
        say("to send", "应有"),
        say("centre", "中心"),
        say("digest here", "源摘要"),
        say("digest there", "中心摘要"),
        "",
    )
    for p in report.pushed:
        table.add_row(
            p.code,
            f"{p.in_source:,}",
            f"{p.source.rows:,}",
            f"{p.centre.rows:,}",
            _short(p.source.digest),
            _short(p.centre.digest),
            _mark(p.equal and p.counts),
        )
    return table


def _withheld(report: Report, lang: Language, codes: Mapping[str, Text]) -> Table:
    say = _say(lang)
    table = Table(
        title=say("What stayed here, and why", "留在本机的数据及原因"),
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    lines: list[tuple[str, str, str]] = []
    flagged, kept = say("sent, flagged", "已发送并提示"), say("not shared", "不予共享")
    for p in report.pushed:
        reasons = _counted(p.reasons, lang, codes)
        lines.append((p.code, say("quarantined", "隔离"), reasons))
        lines.append((p.code, flagged, _counted(p.warnings, lang, codes)))
        items = say(", ", "、").join(p.withheld_items)
        lines.append((p.code, kept, items and say("items: ", "信息项：") + items))
    for k in report.kept:
        rows = say(f": {k.rows:,} rows never read", f"：{k.rows:,} 行，从未读取")
        lines.append((k.code, kept, f"{k.name}{rows} [{k.refused}] {k.basis}"))
    for code, what, words in lines:
        if words:
            table.add_row(code, what, Styled(words))
    return table


def _counted(
    counts: Mapping[str, int], lang: Language, codes: Mapping[str, Text]
) -> str:
    words = (
        f"{pick(codes[code], lang) if code in codes else code} {rows:,}"
        for code, rows in sorted(counts.items(), key=lambda pair: -pair[1])
    )
    return " · ".join(words)


def _tampering(report: Report, lang: Language) -> Styled:
    say = _say(lang)
    lines = [say("A batch altered on its way", "批次在途中被篡改")]
    lines += [_tamper_line(t, lang) for t in report.tampered]
    good = report.after_tamper == "loaded"
    state = say("loaded", "已入库") if good else report.after_tamper
    afterwards = say("the unaltered batch afterwards: ", "随后发送的原批次：")
    lines.append(f"{afterwards}{state} {_mark(good)}")
    text = Styled(lines[0] + "\n", style="italic")
    text.append("\n".join(f"  {line}" for line in lines[1:]), style="not italic")
    return text


def _tamper_line(t: Tampered, lang: Language) -> str:
    say = _say(lang)
    refused, not_refused = (
        say("refused: ", "被拒绝："),
        say("NOT REFUSED: ", "未被拒绝："),
    )
    verdict = refused if t.refused else not_refused
    return f"{pick(t.what, lang)} → {verdict}{t.status} {t.code} {_mark(t.refused)}"


def _asking(report: Report, lang: Language) -> Styled:
    say, log = _say(lang), report.log
    text = Styled(
        say("Another department asks", "其他部门联机查询") + "\n", style="italic"
    )
    held = say(
        f"audit log: {log.records} records, {log.cosigned} cosigned by the exchange;"
        " checked offline",
        f"审计日志：{log.records} 条，中心已会签 {log.cosigned} 条；离线验证",
    )
    found = "—" if log.found is None else str(log.found)
    located = say(
        f"record {log.altered} altered in the copy → found: {found}",
        f"副本第 {log.altered} 条被篡改 → 检出：{found}",
    )
    lines = [
        *(_question(asked, lang) for asked in report.asked),
        f"{held} {_mark(log.good)}",
        f"{located} {_mark(log.found == log.altered)}",
    ]
    text.append("\n".join(f"  {line}" for line in lines), style="not italic")
    return text


def _question(asked: Asked, lang: Language) -> str:
    say = _say(lang)
    words = f"{pick(PURPOSES[asked.purpose], lang)} ({pick(asked.what, lang)})"
    if asked.status != "ok":
        why = ", ".join(asked.reasons)
        return f"{words} → {say('refused: ', '拒绝：')}{why} {_mark(not asked.shown)}"
    shown = " · ".join(f"{title} {text}" for title, text in asked.shown.items())
    return f"{words} → {_mark(bool(asked.masked))} {shown}"


def _verdict(report: Report, lang: Language) -> Styled:
    say = _say(lang)
    if report.healthy:
        text = say(
            "✓ Source = centre + quarantined, digests equal; every answer is on record",
            "✓ 源 = 中心 + 隔离，摘要一致；每次答复均有据可查",
        )
        return Styled(text, style="bold green")
    faults = [p.code for p in report.pushed if not _fine(p)]
    faults += [k.code for k in report.kept if k.refused != GATE_CLOSED]
    faults += [] if report.answers else [say("lookups", "联机查询")]
    faults += [] if report.log.proven else [say("audit log", "审计日志")]
    text = say("✗ The books do not balance: ", "✗ 账目不符：")
    return Styled(text + (", ".join(faults) or "—"), style="bold red")


def _fine(p: Pushed) -> bool:
    return p.counts and p.equal


def _say(lang: Language) -> Callable[[str, str], str]:
    return lambda en, zh: zh if lang == "zh" else en


def _short(digest: str) -> str:
    return digest[:11] + "…"


def _mark(good: bool) -> str:
    return "✓" if good else "✗"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1_000_000 else f"{count / 1e3:.1f} kB"
