# SPDX-License-Identifier: Apache-2.0
"""How the daemon tells: one JSON line on stdout and one counter, from one call.

A line is ``{"time", "level", "event", ...fields of the event}``; journald adds the
rest. ``event`` is the stable dotted name of ``agent.audit.events``; ``docs/events.md``
lists them all. Libraries' warnings come out in the same form as ``event = "library"``.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, TextIO

import structlog
from prometheus_client import CollectorRegistry, Counter, generate_latest

from agent.audit import events
from agent.audit.events import Event

LEVELS: Mapping[str, int] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
"""Names that ``log.level`` may have."""
MOST_RECENT = 1024
"""Most pairs of event and code whose last time is remembered."""
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


class Metrics:
    """Counters of what was told, in the Prometheus text format.

    ``fep_events_total{event}`` counts every event; rows, batches and receipts have
    counters of their own by resource.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._events = self._counter("fep_events", "Events told.", "event")
        self._rows = self._counter(
            "fep_rows", "Source rows by outcome.", "resource", "outcome"
        )
        self._batches = self._counter(
            "fep_batches", "Batches registered in the spool.", "resource"
        )
        self._receipts = self._counter(
            "fep_receipts", "Signed receipts kept.", "resource", "state"
        )
        self._trouble = self._counter(
            "fep_exchange_trouble", "Failed requests to the exchange.", "code"
        )

        self._deaths = self._counter(
            "fep_worker_deaths",
            "Worker processes without a result.",
            "resource",
            "code",
        )
        self._lookups = self._counter(
            "fep_lookups", "Lookups decided.", "resource", "status"
        )
        self._refused = self._counter(
            "fep_lookups_refused", "Lookups refused unsigned.", "code"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self._registry)

    def count(self, event: Event) -> None:
        """Move the counters that belong to an event."""
        self._events.labels(event.name).inc()
        match event:
            case events.RunEnded():
                self._rows.labels(event.resource, "read").inc(event.read)
                self._rows.labels(event.resource, "upsert").inc(event.upsert)
                self._rows.labels(event.resource, "quarantined").inc(event.quarantined)
            case events.BatchRegistered():
                self._batches.labels(event.resource).inc()
            case events.WorkerEnded():
                self._deaths.labels(event.resource, event.code).inc()
            case events.ReceiptKept():
                self._receipts.labels(event.resource, event.state).inc()
            case events.ExchangeTrouble():
                self._trouble.labels(event.code).inc()
            case events.LookupDecided():
                resource = event.resource or ""
                self._lookups.labels(resource, event.status).inc()
            case events.LookupRefused():
                for code, count in event.codes.items():
                    self._refused.labels(code).inc(count)
            case _:
                pass

    def text(self) -> str:
        """All counters, as Prometheus reads them."""
        return generate_latest(self._registry).decode()


class Recent:
    """Of each event and code: how often since the start, and when last."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str | None], tuple[int, datetime]] = {}

    def note(self, event: Event, at: datetime) -> None:
        """An event was told."""
        key = (event.name, getattr(event, "code", None))
        known = self._seen.get(key)
        if known is not None or len(self._seen) < MOST_RECENT:
            self._seen[key] = (1 if known is None else known[0] + 1, at)

    def view(self) -> list[dict[str, Any]]:
        """All of them, by name."""
        return [
            {"event": name, "code": code, "count": n, "last": at.strftime(_TIME)}
            for (name, code), (n, at) in sorted(self._seen.items(), key=str)
        ]


class Teller:
    """The real ``tell``: writes the line, moves the counters.

    Args:
        stream: where lines go; stdout under systemd.
        level: lowest level that is written, a key of :data:`LEVELS`.
        now: aware UTC clock.
        metrics: what is counted, whatever the level.

    Attributes:
        recent: when each event was told last.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        level: str,
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._logger_at = partial(_logger, stream, now=now)
        self._now = now
        self.recent = Recent()
        self._metrics = metrics
        self._listeners: list[Callable[[Event], None]] = []
        self.use(level)

    def use(self, level: str) -> None:
        """Write from this level on from now on."""
        self._logger, self._lowest = self._logger_at(level=level), LEVELS[level]

    def listen(self, heard: Callable[[Event], None]) -> None:
        """Let somebody hear every event, whatever the level."""
        self._listeners.append(heard)

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        self._metrics.count(event)
        self.recent.note(event, self._now())
        for heard in self._listeners:
            heard(event)
        if LEVELS[event.heard()] < self._lowest:
            return
        with contextlib.suppress(OSError):  # nobody reads; the work goes on
            self._logger.log(LEVELS[event.heard()], event.name, **event.told())


def adopt_libraries(stream: TextIO, *, now: Callable[[], datetime]) -> None:
    """Write warnings of libraries (``logging``) in the same form."""
    logger = _logger(stream, level="warning", now=now)

    class Adopted(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.log(
                record.levelno, "library", source=record.name, text=record.getMessage()
            )

    root = logging.getLogger()
    root.handlers[:] = [Adopted(level=logging.WARNING)]
    root.setLevel(logging.WARNING)


def _logger(stream: TextIO, *, level: str, now: Callable[[], datetime]) -> Any:
    def stamp(
        _logger: object, method: str, body: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {
            "time": now().strftime(_TIME),
            "level": method,
            "event": body.pop("event"),
            **body,
        }

    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[stamp, structlog.processors.JSONRenderer(ensure_ascii=False)],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        cache_logger_on_first_use=True,
    )
