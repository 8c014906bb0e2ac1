# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from agent.demo.report import Asked, Checked, Kept, Pushed, Report, Tally, Tampered
from agent.demo.screen import Language, bars, screen
from agent.errors import Text
from agent.pipeline.quality.reasons import TITLES

PERSONS = Pushed(
    code="101001/000001",
    name="人员基本信息",
    share="2",
    in_source=20_000,
    read=20_000,
    accepted=19_987,
    quarantined=13,
    reasons={"bad_date": 4, "too_long": 9},
    warnings={"citizen_id": 100},
    batches=2,
    sent_bytes=1_234_567,
    loaded=2,
    source=Tally(19_987, "ab" * 16),
    centre=Tally(19_987, "ab" * 16),
    withheld_items=("手机号码",),
)
CASES = Kept("307013/000006", "仲裁案件", 40, "gate-closed", "《某法》第一条")
FLIPPED = Tampered(Text("a bit", "一个比特"), 422, "bad-digest", "")
ALLOWED = Asked(
    what=Text("a case", "办案"),
    consumer="11990100MB0000027F/ybj-fep1",
    resource="101001/000001",
    purpose="administrative_basis",
    status="ok",
    reasons=(),
    rule="ybj-person-get",
    shown={"姓名": "张**", "人员状态": None},
    masked=("姓名",),
)
REFUSED = replace(
    ALLOWED,
    purpose="work_reference",
    status="denied",
    reasons=("purpose",),
    rule=None,
    shown={},
    masked=(),
)
LOG = Checked("/tmp/x/audit-log", 16, 15, good=True, altered=14, found=14)
GOOD = Report(
    folder="/tmp/x",
    rows=20_000,
    reused=False,
    pushed=(PERSONS,),
    kept=(CASES,),
    tampered=(FLIPPED,),
    after_tamper="loaded",
    asked=(ALLOWED, REFUSED),
    log=LOG,
    ms={"build": 1500, "push": 2000},
)


def drawn(report: Report, lang: Language = "en", width: int = 100) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(screen(report, lang, codes=TITLES))
    return out.getvalue()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_screen_shows_both_sides_and_reasons(lang: Language) -> None:
    """Counts, reasons, digests of both sides, refusals and what was never sent."""
    text = drawn(GOOD, lang)
    for wanted in ("20,000", "19,987", "1.2 MB (2)", "abababababa…", "bad-digest"):
        assert wanted in text
    assert TITLES["too_long"][lang == "zh"] + " 9" in text
    assert "手机号码" in text
    assert "[gate-closed]" in text
    assert "3.5 s" in text


def test_screen_fits_eighty_columns() -> None:
    """Nothing is wider than a plain terminal, and no digest is broken in two."""
    text = drawn(GOOD, "zh", 80)
    assert "abababababa…" in text


WRONG = {
    "a row is missing at the centre": replace(
        GOOD, pushed=(replace(PERSONS, centre=Tally(19_986, "ab" * 16)),)
    ),
    "a row differs": replace(
        GOOD, pushed=(replace(PERSONS, centre=Tally(19_987, "cd" * 16)),)
    ),
    "rows were never read": replace(GOOD, pushed=(replace(PERSONS, in_source=20_001),)),
    "a batch has no receipt": replace(GOOD, pushed=(replace(PERSONS, loaded=1),)),
    "nothing was pushed": replace(GOOD, pushed=()),
    "a closed resource was pulled": replace(
        GOOD, kept=(replace(CASES, refused="accepted"),)
    ),
    "an altered batch was taken": replace(
        GOOD, tampered=(replace(FLIPPED, status=201, code="accepted"),)
    ),
    "the true batch got stuck": replace(GOOD, after_tamper="waiting"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_books_that_do_not_balance_are_red(fault: str) -> None:
    """One wrong count, digest or missing refusal makes the whole report unhealthy."""
    report = WRONG[fault]
    assert not report.healthy
    assert report.as_dict()["healthy"] is False
    assert "do not balance" in drawn(report)


def test_good_report_is_healthy_and_says_so() -> None:
    """A report in which everything fits is healthy, in words and in JSON."""
    body = GOOD.as_dict()
    assert (GOOD.healthy, body["healthy"]) == (True, True)
    assert (body["pushed"][0]["counts"], body["pushed"][0]["equal"]) == (True, True)
    assert body["tampered"][0]["what"] == {"en": "a bit", "zh": "一个比特"}
    assert "do not balance" not in drawn(GOOD)


def test_progress_shows_steps_and_rows() -> None:
    """A bar for each resource moves with its rows."""
    out = io.StringIO()
    terminal = {"TERM": "xterm", "COLUMNS": "100"}
    console = Console(file=out, force_terminal=True, width=100, _environ=terminal)
    with bars(console, "zh") as watch:
        watch.step(Text("Reading", "读取"))
        watch.rows("人员基本信息", read=10, of=20)
        watch.rows("人员基本信息", read=20, of=20)
    assert "读取 …" in out.getvalue()
    assert "人员基本信息" in out.getvalue()


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_screen_shows_an_answer_a_refusal_and_the_log(lang: Language) -> None:
    """Masked fields, the reason, and where the altered record was found."""
    text = drawn(GOOD, lang)
    for wanted in ("姓名 张**", "purpose", "16", "15", "14"):
        assert wanted in text


@pytest.mark.parametrize(
    "change",
    [
        {"asked": (replace(ALLOWED, masked=()), REFUSED)},
        {"asked": (ALLOWED, replace(REFUSED, status="ok", reasons=()))},
        {"asked": (ALLOWED, replace(REFUSED, shown={"姓名": "张三"}))},
        {"log": replace(LOG, good=False)},
        {"log": replace(LOG, found=None)},
        {"log": replace(LOG, found=13)},
        {"log": replace(LOG, cosigned=0)},
    ],
)
def test_a_lookup_side_that_fails_is_not_healthy(change: dict[str, Any]) -> None:
    """No mask, misuse answered, a log that does not hold or hides a change."""
    report = replace(GOOD, **change)
    assert not report.healthy
    assert "✗" in drawn(report)
