# SPDX-License-Identifier: Apache-2.0
"""When a run is due: the only module that knows APScheduler.

Pure: the clock and chance are arguments. Of the library only the arithmetic of cron is
used. Its own scheduler reads the machine's clock and sleeps on the monotonic one, so a
clock that is set would be noticed at the end of a long sleep, and no test could move
it; here a due moment is kept and compared with the clock at every look.

Rules

1. A due moment stays due until a run begins, however late that is: the daemon was
   down, the resource paused or busy, the window shut. Many missed moments are one run.
2. The next moment is counted from the beginning of a run, so runs never pile up.
3. A kept moment that is later than any that could be counted from now was kept by a
   clock that has been set back: it is counted anew. What began within the last hour by
   the old clock is not begun again.
4. Other times, or another time zone, are counted anew from now; what was due stays due.
5. Windows hold back what reads a whole table; a run that has begun may end outside.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger  # type: ignore[import-untyped]

from agent.model.windows import bounds, inside

OFF = "off"
"""In place of times: never by itself."""

EXPECTED = (
    'off, "every 30m" (m, h or d; at least 1m, at most 366d), or five fields of cron'
    ' such as "0 2 * * *", with a day of the month or of the week, not both'
)

BACK = timedelta(hours=1)
"""So far back a clock may be set without anything being begun twice."""

_EVERY = re.compile(r"every ([1-9][0-9]{0,4})(m|h|d)")
_VALUE = "(?:[0-9]{1,2}|[a-z]{3})"
_FIELD = re.compile(rf"(\*|{_VALUE}(-{_VALUE})?)(/[1-9][0-9]?)?")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST = timedelta(days=366)
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)
_MICRO = timedelta(microseconds=1)


def period(text: str) -> timedelta | None:
    """The length of ``every 30m``, or None if the text is no such thing.

    Raises:
        ValueError: it is one, and too long.
    """
    found = _EVERY.fullmatch(text)
    if found is None:
        return None
    length = int(found[1]) * _UNITS[found[2]]
    if length > _LONGEST:
        raise ValueError(EXPECTED)
    return length


def check_times(text: str) -> str:
    """The text, if it is ``off`` or says when.

    Raises:
        ValueError: neither; the message is what is expected.
    """
    if text != OFF and period(text) is None:
        _trigger(text, "UTC")
    return text


@dataclass(frozen=True)
class Plan:
    """The times of one kind of run of one resource.

    Args:
        times: ``every …`` or five fields of cron.
        zone: IANA name that cron and windows are meant in.
        windows: when a run may begin, as texts; none: at any time.
        jitter_s: a moment is put off by up to so much, so that not every node reads
            and sends at the same second.
    """

    times: str
    zone: str
    windows: tuple[str, ...] = ()
    jitter_s: float = 0.0

    @property
    def key(self) -> str:
        """Changes when the moments do; windows change none."""
        return f"{self.times}|{self.zone}|{self.jitter_s:g}"

    def after(self, moment: datetime) -> datetime:
        """The first moment later than this one, without jitter."""
        length = period(self.times)
        if length is not None:
            return moment + length
        trigger = _trigger(self.times, self.zone)
        found: datetime = trigger.get_next_fire_time(None, moment + _MICRO)
        return found.astimezone(UTC)

    def opening(self, moment: datetime) -> datetime:
        """The moment itself inside a window, else when the next window opens."""
        if not self.windows:
            return moment
        local = moment.astimezone(ZoneInfo(self.zone))
        return min(_opening(window, local) for window in self.windows)


@dataclass(frozen=True)
class Due:
    """What is kept of a plan, over restarts.

    Args:
        plan: key of the plan that the moment was counted by.
        at: from then on a run is due.
        begun: when the last scheduled run began; None before the first.
    """

    plan: str
    at: datetime
    begun: datetime | None = None


Draw = Callable[[float, float], float]
"""``random.uniform``."""


def first(plan: Plan, *, now: datetime, begun: datetime | None, draw: Draw) -> Due:
    """The first moment of a plan that nothing is kept of.

    Args:
        plan: see there.
        now: aware UTC.
        begun: when the last run of this kind began by other ways, or None. What goes by
            a period and has never run is due at once; cron waits for its moment.
        draw: for the jitter.
    """
    length = period(plan.times)
    if length is None:
        at = plan.after(now)
    elif begun is None:
        at = now
    else:
        at = min(begun, now) + length
    return Due(plan.key, _late(plan, at, draw))


def looked(plan: Plan, kept: Due, *, now: datetime, draw: Draw) -> Due:
    """What is due by the clock of now; the kept one unless clock or plan changed."""
    if kept.at <= now:
        return kept if kept.plan == plan.key else Due(plan.key, kept.at, kept.begun)
    base = now
    if kept.begun is not None and now < kept.begun <= now + BACK:
        base = kept.begun
    latest = plan.after(base) + timedelta(seconds=plan.jitter_s)
    if kept.plan == plan.key and kept.at <= latest:
        return kept
    return Due(plan.key, _late(plan, plan.after(base), draw), kept.begun)


def begun(plan: Plan, *, now: datetime, draw: Draw) -> Due:
    """What is due next once a run has begun now."""
    return Due(plan.key, _late(plan, plan.after(now), draw), now)


def _late(plan: Plan, moment: datetime, draw: Draw) -> datetime:
    return moment + timedelta(seconds=draw(0.0, plan.jitter_s) if plan.jitter_s else 0)


def _opening(window: str, local: datetime) -> datetime:
    """When a window is next open at or after a local time, in UTC."""
    clock, (opens, _) = local.time(), bounds(window)
    if inside(window, clock):
        return local.astimezone(UTC)
    day = local.date() + timedelta(days=1 if clock >= opens else 0)
    return datetime.combine(day, opens, local.tzinfo).astimezone(UTC)


@lru_cache(maxsize=1024)
def _trigger(text: str, zone: str) -> CronTrigger:
    """The trigger of five fields of cron.

    Days of the week are those of cron (0 and 7 are Sunday); the library counts from
    Monday. It wants both days to fit where cron wants one of them, so only one may be
    given.

    Raises:
        ValueError: they are not five fields, or name a day that never comes.
    """
    fields = text.lower().split(" ")
    if len(fields) != 5 or not all(_is_field(field) for field in fields):
        raise ValueError(EXPECTED)
    minute, hour, day, month, weekday = fields
    if day != "*" and weekday != "*":
        raise ValueError(EXPECTED)
    try:
        trigger = CronTrigger(
            minute=minute,
            hour=hour,
            day=day,
            month=month,
            day_of_week=_weekdays(weekday),
            timezone=ZoneInfo(zone),
        )
    except ValueError:
        raise ValueError(EXPECTED) from None
    if trigger.get_next_fire_time(None, _SOME_DAY) is None:
        raise ValueError(EXPECTED)
    return trigger


def _is_field(field: str) -> bool:
    return all(_FIELD.fullmatch(part) for part in field.split(","))


def _weekdays(field: str) -> str:
    """Days of the week by their names, one by one."""
    if field == "*":
        return field
    days: list[str] = []
    for part in field.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        if span == "*":
            low, high = "0", "6"
        start, end = _weekday(low), _weekday(high or low)
        end += 7 if end < start else 0
        days += [_DAYS[n % 7] for n in range(start, end + 1, int(step or 1))]
    return ",".join(dict.fromkeys(days))


def _weekday(text: str) -> int:
    if text in _DAYS:
        return _DAYS.index(text)
    if text.isdecimal() and int(text) <= 7:
        return int(text)
    raise ValueError(EXPECTED)
