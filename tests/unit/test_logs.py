# SPDX-License-Identifier: Apache-2.0
"""One call tells a line and a counter."""

from __future__ import annotations

import io
import json
import logging
from datetime import UTC, datetime

import pytest

from agent.audit import events
from agent.audit.events import ExchangeTrouble
from agent.logs import MOST_RECENT, Metrics, Recent, Teller, adopt_libraries

NOW = datetime(2026, 11, 21, 8, 0, 0, 120, tzinfo=UTC)
RECEIPT = events.ReceiptKept(
    resource="330100001/000001", epoch=1, seq=7, state="loaded", code=None
)


def told(event: events.Event, *, level: str = "info") -> tuple[str, Metrics]:
    out, metrics = io.StringIO(), Metrics()
    Teller(out, level=level, now=lambda: NOW, metrics=metrics)(event)
    return out.getvalue(), metrics


def test_an_event_is_one_json_line() -> None:
    """The line holds time, level, the stable name and every field."""
    line, _ = told(RECEIPT)
    assert line.count("\n") == 1
    assert json.loads(line) == {
        "time": "2026-11-21T08:00:00.000120Z",
        "level": "info",
        "event": "receipt.kept",
        "resource": "330100001/000001",
        "epoch": 1,
        "seq": 7,
        "state": "loaded",
        "code": None,
    }


def test_an_event_moves_its_counters() -> None:
    """Telling counts the event and the receipt by resource and state."""
    _, metrics = told(RECEIPT)
    text = metrics.text()
    assert 'fep_events_total{event="receipt.kept"} 1.0' in text
    assert 'fep_receipts_total{resource="330100001/000001",state="loaded"} 1.0' in text


def test_rows_of_a_run_are_counted_by_outcome() -> None:
    """Read, sent and quarantined rows of a run move one counter each."""
    _, metrics = told(
        events.RunEnded(
            resource="a/b", run="r", read=10, upsert=7, quarantined=3, seconds=0.5
        )
    )
    assert 'fep_rows_total{outcome="quarantined",resource="a/b"} 3.0' in metrics.text()


@pytest.mark.parametrize(
    "event",
    [
        events.BatchRegistered(
            resource="a/b", epoch=1, seq=1, upsert=1, delete=0, keep=0, size=9
        ),
        events.ExchangeTrouble(
            resource=None, code="busy", detail="d", attempt=1, wait_s=1.5
        ),
        events.RowsQuarantined(resource="a/b", run="r", reasons={"length": 2}),
    ],
)
def test_each_kind_of_field_can_be_written(event: events.Event) -> None:
    """Numbers, None and mappings all become JSON."""
    line, _ = told(event)
    assert json.loads(line)["event"] == event.name


def test_what_is_below_the_level_is_counted_but_not_written() -> None:
    """log.level = error silences an info line; its counter moves all the same."""
    line, metrics = told(RECEIPT, level="error")
    assert line == ""
    assert 'fep_events_total{event="receipt.kept"} 1.0' in metrics.text()


def test_a_reader_who_is_gone_does_not_stop_the_work() -> None:
    """A broken pipe loses the line; the counter moves."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    metrics = Metrics()
    Teller(Gone(), level="info", now=lambda: NOW, metrics=metrics)(RECEIPT)
    assert "fep_receipts_total" in metrics.text()


def test_a_library_warns_in_the_same_form() -> None:
    """A warning through logging comes out as JSON that names the library."""
    out, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        adopt_libraries(out, now=lambda: NOW)
        logging.getLogger("asyncio").warning("slow: %s", "x")
        logging.getLogger("asyncio").info("not this")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    body = json.loads(out.getvalue())
    assert (body["event"], body["source"], body["text"]) == (
        "library",
        "asyncio",
        "slow: x",
    )


def test_of_each_event_the_last_time_is_remembered() -> None:
    """For a diagnostics bundle: by name and code, whatever is written; bounded."""
    recent = Recent()
    for minute in range(3):
        at = datetime(2026, 11, 21, 8, minute, tzinfo=UTC)
        recent.note(ExchangeTrouble(None, "busy", "x", 1, 1.0), at)
    recent.note(RECEIPT, NOW)
    assert recent.view()[0] == {
        "event": "exchange.trouble",
        "code": "busy",
        "count": 3,
        "last": "2026-11-21T08:02:00.000000Z",
    }
    for number in range(2 * MOST_RECENT):
        recent.note(ExchangeTrouble(None, f"c{number}", "x", 1, 1.0), NOW)
    assert len(recent.view()) == MOST_RECENT
