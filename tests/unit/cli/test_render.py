# SPDX-License-Identifier: Apache-2.0
"""What people see of a status."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from agent.cli.common import render
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
    "schedule": [],
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
    "spool": {"used": 5_000_000, "quota": 4_096_000_000, "blocked": False},
    "paused": False,
    "lookups": LOOKUPS,
    "troubles": [],
    "resources": [RESOURCE],
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
    run = {**RUN, "loaded": 18999, "balanced": False}
    text = shown(changed(run=run), ansi=True)
    line = next(x for x in text.splitlines() if "≠" in x)
    assert line.startswith("\x1b[1;31m")
    assert "read 20,000 ≠ loaded 18,999 + in flight 950 + quarantined 50" in line


def test_a_full_spool_is_said() -> None:
    """That reading waits stands in the head."""
    spool = {**BODY["spool"], "blocked": True}
    assert "full: reading waits" in shown({**BODY, "spool": spool})


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
