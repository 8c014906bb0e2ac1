# SPDX-License-Identifier: Apache-2.0
"""The rules of ``health``, for connectors that have it; beside conformance.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from connectors.conformance import BrokenRule, Subject, fails, require
from connectors.contract import FeelingConnector, offers_health

MEASURES = ("busy", "lock_waits", "replica_lag_s")


def a_look_says_numbers_or_what_is_hidden(subject: Subject) -> None:
    """``health`` gives shares, counts and seconds; what it cannot see it names."""
    found = _feeling(subject).health(subject.config)
    for name in MEASURES:
        value = getattr(found, name)
        require(value is None or value >= 0, f"{name} is {value}")
        require(value is None or name not in found.hidden, f"{name} is told and hidden")
    require(found.busy is None or found.busy <= 1, f"busy is {found.busy}")
    unknown = set(found.hidden) - set(MEASURES)
    require(not unknown, f"there is no measure {sorted(unknown)}")


def a_look_that_fails_is_a_source_error(subject: Subject) -> None:
    """A broken source is a SourceError of its kind and tells no secret (rule 5)."""
    feeling = _feeling(subject)
    for kind, config in subject.broken.items():

        def look(config: Mapping[str, Any] = config) -> None:
            feeling.health(config)

        fails(kind, config, look)


def _feeling(subject: Subject) -> FeelingConnector:
    if not offers_health(subject.connector):
        raise BrokenRule("the connector has no health")
    return subject.connector


HEALTH_RULES: tuple[Callable[[Subject], None], ...] = (
    a_look_says_numbers_or_what_is_hidden,
    a_look_that_fails_is_a_source_error,
)
"""All rules; each is a function of a :class:`Subject`."""
