# SPDX-License-Identifier: Apache-2.0
"""What a run tells of its source's health, for status and log."""

from __future__ import annotations

from agent.audit.events import HealthHidden, SourceRecovered, SourceSlowed
from agent.model.job import Slowed
from agent.pipeline.flow.lane import Lane
from agent.pipeline.flow.report import Ease


def heard(lane: Lane, run: str, said: Slowed) -> None:
    """One event when reading slows down and one when it is at full speed again.

    What nobody may see is told once, as long as it stays so; it is no trouble.
    """
    if said.hidden != lane.hidden:
        lane.hidden = said.hidden
        if said.hidden:
            lane.parts.tell(HealthHidden(lane.resource, said.hidden))
    before = lane.ease
    if said.share >= 1.0:
        lane.ease = None
        if before is not None:
            lane.parts.tell(SourceRecovered(lane.resource, run))
    else:
        since = lane.stamp() if before is None else before.since
        lane.ease = Ease(said.share, said.reasons, since)
        if before is None:
            lane.parts.tell(SourceSlowed(lane.resource, run, said.reasons))
    lane.bell.ring()
