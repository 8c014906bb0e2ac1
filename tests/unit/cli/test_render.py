# SPDX-License-Identifier: Apache-2.0
"""What people see of a status."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent.cli.common import accounts, render
from agent.cli.common.context import Asked
from agent.cli.pull import confirmed
from agent.model.batch import ANY_NUMBER

RUN: dict[str, Any] = {
    "run": "r1",
    "resource": "101001/000001",
    "state": "read",
    "asked_at": "2026-11-21T08:00:00Z",
    "started_at": "2026-11-21T08:00:00Z",
    "ended_at": "2026-11-21T08:00:01.5Z",
    "read": 20000,
    "upsert": 19950,
    "loaded": 19000,
    "in_flight": 950,
    "quarantined": 50,
    "skipped": 0,
    "found": None,
    "reasons": {"required": 40, "key_missing": 10},
    "warnings": {"citizen_id": 7},
    "balanced": True,
    "code": None,
    "detail": None,
}
RESOURCE: dict[str, Any] = {
    "resource": "101001/000001",
    "name": "人员基本信息",
    "state": "waiting",
    "waiting": {"batches": 2, "bytes": 3_400_000},
    "receipt": {
        "epoch": 1,
        "seq": 9,
        "state": "loaded",
        "code": None,
        "at": "2026-11-21T08:00:02Z",
    },
    "trouble": None,
    "run": RUN,
    "progress": None,
    "last_success": None,
    "complete_to": None,
    "lag_s": None,
    "increments": None,
    "ease": None,
    "reconciled": None,
    "recalled": None,
    "schedule": [],
    "accounts": [],
    "stream": {"cause": "first", "opened_at": "2026-11-21T08:00:00Z"},
}
AT = "2026-11-21T08:00:00Z"
UP: dict[str, Any] = {
    "enabled": True,
    "up": True,
    "since": AT,
    "trouble": None,
    "detail": "",
}
LOOKUPS: dict[str, Any] = {
    "healthy": True,
    "offered": 2,
    "relay": UP,
    "listener": {**UP, "enabled": False, "up": False},
    "inside": 3,
    "today": {
        "since": AT,
        "answered": 1204,
        "denied": 7,
        "errors": 1,
        "refused": 2,
        "repeated": 5,
    },
    "policy": {"rev": 4, "activated_at": AT, "draft_differs": True},
    "audit": {
        "origin": "x/audit",
        "size": 4321,
        "checkpoint": 4321,
        "checkpoint_at": AT,
        "cosigned": 4300,
        "cosigned_at": AT,
        "stopped": None,
        "witness": "agrees",
    },
}
BODY: dict[str, Any] = {
    "healthy": True,
    "agent": {"node": "11990100MB0000018H/rsj-fep1"},
    "exchange": {"aud": "yunxi.exchange"},
    "spool": {
        "used": 5_000_000,
        "quota": 4_096_000_000,
        "blocked": False,
        "slowed": False,
        "free": 120_000_000_000,
        "forecast": {"per_day": None, "days": None, "since": None},
    },
    "paused": False,
    "lookups": LOOKUPS,
    "trust": {"enabled": False, "verified_at": None, "expires": None, "versions": {}},
    "troubles": [],
    "barred": [],
    "retention": [],
    "resources": [RESOURCE],
}


EN = Asked(Path("x"), json=False, lang="en")
ZH = Asked(Path("x"), json=False, lang="zh")
UNKNOWN: dict[str, Any] = {
    "name": "resource",
    "ok": None,
    "sign": "=",
    "left": {},
    "right": {},
    "run": "r1",
    "at": None,
    "stale": None,
    "why": "not-loaded",
}
RED: dict[str, Any] = {
    **UNKNOWN,
    "name": "run",
    "ok": False,
    "left": {"read": 20000},
    "right": {"loaded": 18999, "in_flight": 950, "quarantined": 50, "skipped": 0},
    "why": None,
}
COLOURS: Any = {True: "standard", False: None}


def shown(
    body: dict[str, Any], *, lang: Any = "en", ansi: bool = False, width: int = 160
) -> str:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=ansi, color_system=COLOURS[ansi]
    )
    console.print(
        render.status(Asked(Path("x"), json=False, lang=lang), body, width=width)
    )
    return out.getvalue()


def changed(**resource: Any) -> dict[str, Any]:
    return {**BODY, "resources": [{**RESOURCE, **resource}]}


def test_a_resource_is_one_line() -> None:
    """Code, name, state, what waits, counts and the last receipt stand in a row."""
    row = next(x for x in shown(BODY).splitlines() if x.startswith("101001/000001 人"))
    for word in ("sending", "2 (3.4 MB)", "20,000", "19,950", "50", "loaded 1/9"):
        assert word in row


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_a_narrow_screen_crops_nothing(lang: Any) -> None:
    """At 80 columns every code is whole and no cell ends in an ellipsis."""
    text = shown(BODY, lang=lang, width=80)
    assert "…" not in text
    assert "101001/000001" in text
    assert "loaded 1/9" in text or "已入库 1/9" in text
    assert all(cell_len(line) <= 80 for line in text.splitlines())


def test_how_old_the_copy_is_and_what_comes_next_stand_on_one_line() -> None:
    """Progress with its end, age of the centre's copy, next runs and why they wait."""
    body = changed(
        progress={
            "read": 12_000,
            "estimate": 50_000,
            "parts": 1,
            "rate": 1000.4,
            "eta_s": 38.0,
        },
        complete_to=AT,
        lag_s=93_600.0,
        schedule=[
            {"kind": "full", "times": "0 2 * * *", "next": AT, "waits": "busy"},
            {"kind": "deletes", "times": "0 3 * * 0", "next": AT, "waits": None},
        ],
    )
    en = " ".join(shown(body, width=300).split())
    assert "12,000 rows read of about 50,000, 1,000 a second, about 38 s left" in en
    assert "1 d 2 h ago; next full" in en
    assert "(after this run); next deletes" in en
    zh = " ".join(shown(body, lang="zh", width=300).split())
    assert "已过 1 天 2 小时；下次全量" in zh
    assert "（待本次任务结束）；下次删除检查" in zh


COMPARED: dict[str, Any] = {
    "rows": 20_000,
    "centre": 19_990,
    "missing": 12,
    "stale": 7,
    "extra": 2,
    "late": 3,
    "withheld": 0,
    "left": 0,
    "told_by": "frontier",
}


@pytest.mark.parametrize("repaired", [True, False])
def test_what_a_comparison_found_is_told_in_numbers(repaired: bool) -> None:
    """And whether it is repaired."""
    last = {"run": "r1", "at": AT, "found": COMPARED, "repaired": repaired}
    en = " ".join(shown(changed(reconciled=last), width=300).split())
    assert "20,000 rows here, 19,990 there, 12 missing there, 7 different there," in en
    assert "2 only there, 3 changed since the last run; " in en
    assert ("; repaired" in en) == repaired
    assert ("; not repaired" in en) != repaired
    zh = " ".join(shown(changed(reconciled=last), lang="zh", width=300).split())
    assert "中心缺失 12，中心不一致 7，中心多出 2，待增量 3" in zh


def test_a_comparison_without_a_difference_says_so() -> None:
    """In the status and of its run; too many to look at are none such."""
    none = COMPARED | dict.fromkeys(("missing", "stale", "extra", "late"), 0)
    last = {"run": "r1", "at": AT, "found": none, "repaired": True}
    en = shown(changed(reconciled=last), width=300)
    assert "no difference" in en
    assert "repaired" not in en
    many = {**last, "found": none | {"left": 4}, "repaired": False}
    en = shown(changed(reconciled=many), width=300)
    assert "too many to look at all" in en
    assert "no difference" not in en


def test_a_recall_says_whether_it_is_proven() -> None:
    """Nobody need ask the exchange by telephone."""
    body = {"rows": 6490, "since": AT, "proven_at": None}
    en = " ".join(shown(changed(recalled=body, state="recalled"), width=300).split())
    assert "6,490 rows; the exchange has not yet proven it" in en
    body["proven_at"] = AT
    zh = " ".join(
        shown(changed(recalled=body, state="recalled"), lang="zh", width=300).split()
    )
    assert "已撤回" in zh
    assert "签名证明无数据" in zh


def test_what_increments_assume_is_said_with_the_right_that_would_prove_it() -> None:
    """Nothing is said of what is proven."""
    blind = {"method": "stamp", "assumes": ["clock-steps<8s", "max-transaction=600s"]}
    en = " ".join(shown(changed(increments=blind), width=300).split())
    assert "increments assume clock-steps<8s, max-transaction=600s" in en
    assert "GRANT PROCESS ON *.*" in en
    zh = " ".join(shown(changed(increments=blind), lang="zh", width=300).split())
    assert "增量的前提：clock-steps<8s, max-transaction=600s" in zh
    proven = {"method": "xmin", "assumes": []}
    assert "assume" not in shown(changed(increments=proven))
    told = {"method": "stamp", "assumes": ["clock-steps<8s"]}
    assert "GRANT" not in shown(changed(increments=told))


def test_a_source_that_is_read_slower_is_told_with_the_reason() -> None:
    """How slowly, what is beyond which bound, and nothing while it is well."""
    reasons = ["lock_waits=12>5", "no-answer=timeout"]
    body = changed(ease={"share": 0.125, "reasons": reasons, "since": AT})
    en = " ".join(shown(body, width=300).split())
    assert "reading at 12% of its speed" in en
    assert "sessions waiting for locks 12 (bound 5), it does not answer timeout" in en
    zh = " ".join(shown(body, lang="zh", width=300).split())
    assert "读取已放慢至 12%：等待锁的会话 12（界限 5），没有应答 timeout" in zh
    assert "not well" not in shown(BODY)


def test_a_name_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like markup or an emoji code is part of it, and no error."""
    name = "人员[old][/x]:ok:"
    ask = Asked(Path("x"), json=False, lang="en")
    render.show_status(ask, changed(name=name))
    assert name in capsys.readouterr().out


def test_quarantine_is_told_in_words_most_first() -> None:
    """Reasons have their title, their code and their rows."""
    text = shown(BODY, lang="zh")
    assert text.index("[required]: 40") < text.index("[key_missing]: 10")
    assert "主键为空" in text


def test_trouble_comes_with_the_next_step() -> None:
    """Title, detail and remedy in the language asked for."""
    trouble = {
        "code": "exchange-unreachable",
        "detail": "127.0.0.1: refused",
        "title": {"en": "The exchange cannot be reached", "zh": "无法连接交换中心"},
        "remedy": {"en": "Check the line", "zh": "请检查线路"},
    }
    text = shown(changed(trouble=trouble), lang="zh")
    assert "101001/000001 无法连接交换中心 [exchange-unreachable]" in text
    assert "→ 请检查线路" in text


def test_books_that_balance_need_no_word() -> None:
    """The counting equation is shown only when it fails."""
    assert "in flight" not in shown(BODY)


def test_books_that_do_not_balance_are_red() -> None:
    """The equation is printed with ≠ in bold red."""
    text = shown(changed(accounts=[RED, UNKNOWN]), ansi=True)
    line = next(x for x in text.splitlines() if "≠" in x)
    assert line.startswith("\x1b[1;31m")
    assert "read 20,000 ≠ loaded 18,999 + in flight 950 + quarantined 50" in line


@pytest.mark.parametrize(
    ("asked", "words"), [(EN, "not known before it is"), (ZH, "未知")]
)
def test_what_is_not_known_is_neither_green_nor_red(asked: Asked, words: str) -> None:
    """Why it is not known stands in place of numbers."""
    text = accounts.line(asked, "1/1", UNKNOWN)
    assert words in text.plain
    assert text.style == ""


def test_a_resource_that_adds_up_says_how_many_are_old_and_when() -> None:
    """Rows that the centre keeps at an older version, and the time of its count."""
    even = {
        **UNKNOWN,
        "ok": True,
        "left": {"source": 20},
        "right": {"centre": 17, "never_sent": 3, "in_flight": 0},
        "stale": 1,
        "at": AT,
    }
    text = accounts.line(EN, "1/1", even)
    assert "source rows 20 = centre's rows 17 + never sent 3 + in flight 0" in str(text)
    assert "1 at an older version; counted 11-21" in str(text)
    assert text.style == "green"


def test_a_full_spool_is_said() -> None:
    """That reading waits stands in the head."""
    spool = {**BODY["spool"], "blocked": True}
    assert "full: reading waits" in shown({**BODY, "spool": spool})


@pytest.mark.parametrize(
    ("per_day", "days", "words"),
    [
        (None, None, "unknown when full: too little history"),
        (-5, None, "not filling"),
        (3_000_000_000, 39.6, "reading stops in about 40 days at 3.0 GB a day"),
    ],
)
def test_when_the_disk_is_full_is_said(
    per_day: int | None, days: float | None, words: str
) -> None:
    """Or that nobody knows."""
    expected = {"per_day": per_day, "days": days, "since": None}
    spool = {**BODY["spool"], "forecast": expected}
    assert f"disk 120.0 GB free; {words}" in shown({**BODY, "spool": spool})


def test_how_long_things_stay_is_said() -> None:
    """Hours, days, for ever, or by somebody else."""
    rows = (
        ("loaded", 86_400.0 / 2, 5_000_000),
        ("quarantine", 90 * 86_400.0, 0),
        ("receipts", None, 1_500_000),
        ("log", None, None),
    )
    table = [{"what": w, "keep_s": s, "bytes": b, "setting": ""} for w, s, b in rows]
    assert (
        "kept: batches once loaded 12 h (5.0 MB); quarantine 90 d (0 B);"
        " receipts for ever (1.5 MB); log by journald"
    ) in shown({**BODY, "retention": table})


def test_why_a_stream_began_anew_is_said_for_a_week() -> None:
    """What anybody would ask about; a first epoch needs no word."""
    now = datetime.now(UTC)
    for days, told in ((1, True), (8, False)):
        at = (now - timedelta(days=days)).isoformat()
        stream = {"cause": "exchange-restored", "opened_at": at}
        text = shown(changed(stream=stream))
        assert ("the exchange went back to an old copy" in text) is told


def test_a_resource_that_never_ran_is_empty_not_wrong() -> None:
    """No run, no receipt: blank cells."""
    text = shown(changed(run=None, receipt=None, state="idle"))
    assert "idle" in text


def test_sizes_have_units() -> None:
    """Decimal units with one digit."""
    sizes = [render.size(n) for n in (0, 999, 1000, 1_500_000, 2_000_000_000_000)]
    assert sizes == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2000.0 GB"]


@pytest.mark.parametrize(
    ("lang", "number", "words"),
    [
        ("en", 4998, "at most 4,998 keys"),
        ("zh", 4998, "至多删除 4,998 个主键"),
        ("en", ANY_NUMBER, "without a limit, for this run only"),
        ("zh", ANY_NUMBER, "仅限本次任务，不限数量"),
    ],
)
def test_a_confirmation_says_its_number(lang: Any, number: int, words: str) -> None:
    """Who confirms sees how many, in both languages, before anything goes."""
    assert words in confirmed(Asked(Path("x"), False, lang), number)


# --- lookups ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lang", "words"),
    [
        ("en", ("lookups (2 open)", "line up since", "answered 1,204 · denied 7")),
        ("zh", ("联机查询（开放 2 项）", "中继自", "答复 1,204 · 拒绝 7")),
    ],
)
def test_lookups_stand_on_three_lines(lang: Any, words: tuple[str, ...]) -> None:
    """Ways in, what happened today, policy with its draft, log with its witness."""
    text = shown(BODY, lang=lang)
    for wanted in (*words, "4,321", "4,300"):
        assert wanted in text
    assert ("draft" if lang == "en" else "未启用") in text
    assert ("listener" if lang == "en" else "监听") not in text


def test_a_cut_line_says_why() -> None:
    """Since when, and the title of the code."""
    cut = {**UP, "up": False, "trouble": "exchange-unreachable", "detail": "x"}
    text = shown({**BODY, "lookups": {**LOOKUPS, "healthy": False, "relay": cut}})
    assert "down since" in text
    assert "The exchange cannot be reached" in text


def test_a_department_without_lookups_sees_none() -> None:
    """Nothing is offered, no policy was ever activated."""
    none = {**LOOKUPS, "offered": 0}
    none["policy"] = {"rev": 0, "activated_at": None, "draft_differs": True}
    assert "lookups" not in shown({**BODY, "lookups": none})


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_lookups_fit_eighty_columns(lang: Any) -> None:
    """No line is longer; nothing is cropped."""
    text = shown(BODY, lang=lang, width=80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_what_the_city_signed_is_a_line_where_a_root_is_pinned() -> None:
    """Versions can be compared by telephone; without a pinned root there is no line."""
    assert "repository" not in shown(BODY)
    body = {**BODY["trust"], "enabled": True}
    assert "nothing verified yet" in shown({**BODY, "trust": body})
    body |= {"verified_at": AT, "expires": AT, "versions": {"timestamp": 7, "root": 2}}
    assert "root 2, timestamp 7; confirmed" in shown({**BODY, "trust": body})
