# SPDX-License-Identifier: Apache-2.0
"""Whether a configuration of the centre is tried, and whether it stays; pure.

Rules (wire.md §6)

1. What is wanted is tried unless it runs already, is older than what was wanted before,
   has failed before, was stopped by the centre, waits for its ring, or a person holds.
   What failed is tried again once the centre says it in another generation.
2. A probation ends well after :attr:`Rules.length_s` when every stream that it changes
   has sent, or had nothing to send, and a heartbeat was taken.
3. Time does not count while the old addresses fail too, and a stream that cannot be
   read yet, such as one whose window is shut, puts the end off; one that is not sent
   any more, such as one that a person pauses, does not.
4. It ends badly when a stream that worked before fails in :attr:`Rules.runs` runs, or
   has failed when the time is over; when the exchange does not take
   :attr:`Rules.beats` heartbeats in a row though the old addresses answer; and when the
   daemon died :attr:`Rules.deaths` times, each within :attr:`Rules.length_s`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, TypeVar

from agent.errors import DaemonDied

V = TypeVar("V")


@dataclass(frozen=True)
class Wish:
    """What the centre wants of this node.

    Args:
        generation: the highest of its documents.
        digest: of the overlay, ``sha256:<hex>``.
        parts: generations of all its documents.
    """

    generation: int
    digest: str
    parts: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Failure:
    """What was tried and given up.

    Args:
        generation: of the overlay.
        digest: of the overlay.
        reason: code of an error.
        detail: what was expected and got.
        at: when, wire grammar.
    """

    generation: int
    digest: str
    reason: str
    detail: str
    at: str


@dataclass(frozen=True)
class Stand:
    """What this node has.

    Args:
        running: digest of the overlay that runs, None for none.
        floor: the highest generation that was ever wanted.
        failed: see there; None if nothing was given up.
    """

    running: str | None
    floor: int
    failed: Failure | None = None


@dataclass(frozen=True)
class Gates:
    """What may keep it.

    Args:
        held_until: a person holds until then, None for no hold.
        opens: when this node's ring opens; None if it is in none.
        halted: generations that the centre has stopped.
    """

    held_until: datetime | None
    opens: datetime | None
    halted: frozenset[int]


Choice = Literal["same", "older", "failed", "halted", "waits", "held", "try"]
"""What is done with a wish: nothing but for ``try``."""


def choose(wish: Wish, stand: Stand, gates: Gates, now: datetime) -> Choice:
    """What is done with a wish.

    Args:
        wish: see there.
        stand: see there.
        gates: see there.
        now: aware UTC.
    """
    found: Choice = "try"
    if wish.generation < stand.floor:
        found = "older"
    elif wish.digest == stand.running:
        found = "same"
    elif stand.failed is not None and _same(wish, stand.failed):
        found = "failed"
    elif gates.halted & (wish.parts | {wish.generation}):
        found = "halted"
    elif gates.opens is None or now < gates.opens:
        found = "waits"
    elif gates.held_until is not None and now < gates.held_until:
        found = "held"
    return found


def _same(wish: Wish, failed: Failure) -> bool:
    return (wish.generation, wish.digest) == (failed.generation, failed.digest)


# --- probation --------------------------------------------------------------------


@dataclass(frozen=True)
class Rules:
    """Bounds of a probation.

    Args:
        length_s: its least length, seconds.
        runs: failed runs of one stream.
        beats: heartbeats in a row that were not taken.
        deaths: of the daemon.
    """

    length_s: float = 600.0
    runs: int = 2
    beats: int = 3
    deaths: int = 3


@dataclass(frozen=True)
class Trial:
    """A probation as it stands.

    Args:
        generation: of the overlay on probation.
        digest: of the overlay on probation.
        watched: streams that it changes and that worked before.
        awaited: those of them that are to send; a stream without times is not.
        sent: those that have sent since, or had nothing to send.
        failures: stream -> ids of its runs that failed since it last sent.
        why: stream -> code and detail of its last failure.
        taken: a heartbeat was taken since.
        lost: heartbeats in a row that were not, though the old addresses answer.
        dark: neither the new addresses nor the old ones answer.
        deaths: of the daemon since it began.
        passed_s: time that counts, seconds.
    """

    generation: int
    digest: str
    watched: frozenset[str] = frozenset()
    awaited: frozenset[str] = frozenset()
    sent: frozenset[str] = frozenset()
    failures: Mapping[str, frozenset[str]] = field(default_factory=dict)
    why: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    taken: bool = False
    lost: int = 0
    dark: bool = False
    deaths: int = 0
    passed_s: float = 0.0

    @property
    def waits_for(self) -> frozenset[str]:
        """Streams that have not sent yet."""
        return self.awaited - self.sent


@dataclass(frozen=True)
class Sent:
    """A run that began since has delivered everything, or found no change."""

    resource: str


@dataclass(frozen=True)
class Gone:
    """A stream is not sent any more: gone, paused, recalled, or without times."""

    resource: str


@dataclass(frozen=True)
class Failed:
    """A run that began since has failed for a reason that settings can make.

    Args:
        resource: of the stream.
        run: id of the run.
        code: of the error.
        detail: of the error.
    """

    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class Taken:
    """The exchange took a heartbeat."""


@dataclass(frozen=True)
class Lost:
    """The exchange did not take a heartbeat.

    Args:
        code: of the error.
        detail: of the error.
        old: whether the old addresses answer.
    """

    code: str
    detail: str
    old: bool


@dataclass(frozen=True)
class Died:
    """The daemon began again without having been stopped."""


@dataclass(frozen=True)
class Lived:
    """The daemon has lived as long as a probation is: it does not die of it."""


@dataclass(frozen=True)
class Passed:
    """So many seconds have gone by."""

    seconds: float


Happening = Sent | Gone | Failed | Taken | Lost | Died | Lived | Passed


@dataclass(frozen=True)
class Good:
    """It stays."""


@dataclass(frozen=True)
class Revert:
    """It goes.

    Args:
        reason: code of an error.
        detail: what was expected and got.
    """

    reason: str
    detail: str


Verdict = Good | Revert | None
"""None: it goes on."""

DIED = DaemonDied.code
"""Reason of a revert after which the daemon was not asked any more."""


def step(trial: Trial, happened: Happening, rules: Rules) -> tuple[Trial, Verdict]:
    """The probation after something happened, and whether it has ended.

    Args:
        trial: before.
        happened: one thing.
        rules: see there.
    """
    after = _after(trial, happened)
    return after, _judged(after, rules)


def _after(trial: Trial, happened: Happening) -> Trial:
    found = trial
    match happened:
        case Sent(resource):
            found = _sent(trial, resource)
        case Gone(resource):
            found = replace(trial, awaited=trial.awaited - {resource})
        case Failed(resource) if resource in trial.watched:
            found = _failed(trial, happened)
        case Taken():
            found = replace(trial, taken=True, lost=0, dark=False)
        case Lost(code, detail, old):
            why = {**trial.why, "": (code, detail)}
            lost = trial.lost + 1 if old else 0
            found = replace(trial, lost=lost, dark=not old, why=why)
        case Died():
            found = replace(trial, deaths=trial.deaths + 1)
        case Lived():
            found = replace(trial, deaths=0)
        case Passed(seconds) if not trial.dark:
            found = replace(trial, passed_s=trial.passed_s + max(0.0, seconds))
    return found


def _sent(trial: Trial, resource: str) -> Trial:
    return replace(
        trial,
        sent=trial.sent | {resource} & trial.awaited,
        failures=_without(trial.failures, resource),
        why=_without(trial.why, resource),
    )


def _failed(trial: Trial, failed: Failed) -> Trial:
    resource = failed.resource
    runs = trial.failures.get(resource, frozenset()) | {failed.run}
    return replace(
        trial,
        sent=trial.sent - {resource},
        failures={**trial.failures, resource: runs},
        why={**trial.why, resource: (failed.code, failed.detail)},
    )


def _judged(trial: Trial, rules: Rules) -> Verdict:
    if trial.deaths >= rules.deaths:
        return Revert(DIED, f"the daemon died {trial.deaths} times")
    if trial.lost >= rules.beats:
        code, detail = trial.why[""]
        return Revert(code, f"heartbeat: {detail}; the old address answers")
    over = trial.passed_s >= rules.length_s
    for resource, runs in sorted(trial.failures.items()):
        if over or len(runs) >= rules.runs:
            code, detail = trial.why[resource]
            return Revert(code, f"{resource}: {detail}")
    if over and trial.taken and not trial.dark and not trial.waits_for:
        return Good()
    return None


def _without(found: Mapping[str, V], key: str) -> dict[str, V]:
    return {name: value for name, value in found.items() if name != key}
