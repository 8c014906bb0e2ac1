# SPDX-License-Identifier: Apache-2.0
"""What the daemon answers, put together from the flow's values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from agent.audit.log import Head
from agent.errors import (
    AuditWriteFailed,
    BatchUnknown,
    FepError,
    GateClosed,
    UnknownKey,
)
from agent.local.desk import Desk, Facts, Gauges
from agent.local.lookups import Sight, Way
from agent.pipeline.flow.report import (
    Amount,
    PushStatus,
    ResourceStatus,
    SpoolStatus,
    StreamStatus,
    Trouble,
)
from tests.support import cli_json

NOW = datetime(2026, 11, 21, tzinfo=UTC)
CODE = "101001/000001"
RESOURCE = ResourceStatus(
    resource=CODE,
    state="idle",
    run=None,
    progress=None,
    stream=StreamStatus(0, 0, 0, 0, None),
    waiting=Amount(0, 0),
    stored=Amount(0, 0),
    receipt=None,
    trouble=None,
    balanced=None,
)
STATUS = PushStatus(
    paused=False,
    healthy=True,
    clock_offset_s=None,
    spool=SpoolStatus(0, 1000, 1000, blocked=False),
    resources=(RESOURCE,),
)
FACTS = Facts(
    node="11990100MB0000018H/rsj-fep1",
    aud="yunxi.exchange",
    url=lambda: "https://x",
    names={CODE: "人员基本信息"},
    kept={"9/9": "push is not true", "9/8": "switched off by the centre (groups/g)"},
    barred={"9/8": "switched off by the centre (groups/g)"},
    started_at="2026-11-21T00:00:00Z",
    certificate_not_after=lambda: datetime(2026, 12, 1, tzinfo=UTC),
)
TIMES = [
    {
        "kind": "full",
        "times": "0 2 * * *",
        "next": "2026-11-21T18:00:00Z",
        "waits": None,
    }
]
AT = "2026-11-21T00:00:00Z"
UP = Way(enabled=True, up=True, since=AT)


class Flow:
    """A flow that stands still."""

    def __init__(self, status: PushStatus = STATUS) -> None:
        self._status = status
        self.asked: list[Any] = []

    def status(self) -> PushStatus:
        return self._status

    def resource(self, _resource: str) -> ResourceStatus:
        return self._status.resources[0]

    async def request_pull(
        self,
        resource: str,
        *,
        confirm_deletes: bool = False,
        kind: str = "full",
        report: str | None = None,
    ) -> str:
        self.asked.append((resource, confirm_deletes))
        return "r1"

    async def look(self, run: str) -> Any:
        confirmed = 12 if self.asked[-1][1] else None
        return SimpleNamespace(run=run, deletes_confirmed=confirmed)

    async def wait(self, run: str, *, delivered: bool = False) -> Any:
        raise NotImplementedError

    def pause(self, resource: str | None = None) -> None:
        self.asked.append(("pause", resource))

    def resume(self, resource: str | None = None) -> None:
        self.asked.append(("resume", resource))

    def batches(self, resource: str | None = None, *, limit: int = 1000) -> Any:
        return ()

    def batch(self, resource: str, *, epoch: int, seq: int) -> Any:
        return None


def desk(
    flow: Flow | None = None,
    troubles: Callable[[], list[FepError]] = list,
) -> Desk:
    return Desk(
        flow or Flow(),
        FACTS,
        troubles=troubles,
        lookups=sight(),
        gauges=Gauges(lambda: "", lambda _resource: TIMES),
        now=lambda: NOW,
    )


def sight(way: Way = UP, trouble: FepError | None = None) -> Sight:
    """A lookup side that stands still."""
    counts = SimpleNamespace(
        since=AT, answered=3, denied=1, errors=0, refused=0, repeated=0
    )
    return Sight(
        offered=1,
        relay=lambda: way,
        listener=lambda: Way(enabled=False, up=False, since=AT),
        counts=lambda: counts,
        inside=lambda: 0,
        policy=lambda: {"rev": 1, "activated_at": AT, "draft_differs": False},
        head=lambda: Head("x/audit", 7, 7, AT, 5, AT, None),
        witness=lambda: "agrees",
        troubles=lambda: [] if trouble is None else [trouble],
    )


def test_lookups_are_in_trouble_when_their_line_is_cut() -> None:
    """The line is down with a reason, or something else of that side is wrong."""
    assert sight().status()["healthy"]
    down = Way(True, False, AT, "exchange-unreachable", "cut")
    assert not sight(down).status()["healthy"]
    assert not sight(trouble=AuditWriteFailed("full")).status()["healthy"]


def troubled(code: str) -> Flow:
    trouble = Trouble(code, "d", "2026-11-21T00:00:00Z", None)
    resource = replace(RESOURCE, state="trouble", trouble=trouble)
    return Flow(replace(STATUS, healthy=False, resources=(resource,)))


@pytest.mark.parametrize("flow", [Flow(), troubled("mass-delete"), troubled("new")])
def test_a_status_is_as_documented(flow: Flow) -> None:
    """With and without trouble, of known and unknown code."""
    members = cli_json.sections()["`fep status [RESOURCE]`"]
    assert cli_json.faults(members, desk(flow).status(None)) == []


def test_names_and_days_are_told() -> None:
    """The resource's name for people, and the days that the certificate has left."""
    body = desk().status(None)
    assert body["resources"][0]["name"] == "人员基本信息"
    assert body["agent"]["certificate_days"] == 10


def test_trouble_has_the_next_step_of_its_code() -> None:
    """The remedy comes from the error catalogue, in both languages."""
    body = desk(troubled("mass-delete")).status(CODE)
    assert not body["healthy"]
    assert "--confirm-deletes" in body["resources"][0]["trouble"]["remedy"]["zh"]


def test_what_the_centre_or_the_ceiling_keeps_is_told() -> None:
    """What its own document keeps is no news."""
    body = desk(Flow()).status(None)
    why = "switched off by the centre (groups/g)"
    assert body["barred"] == [{"resource": "9/8", "why": why}]


def test_a_missing_directory_makes_it_unhealthy() -> None:
    """Trouble apart from resources counts too."""
    body = desk(troubles=lambda: [UnknownKey("no directory")]).status(None)
    assert not body["healthy"]
    assert body["troubles"][0]["code"] == "unknown-key"


async def test_a_resource_that_may_not_leave_names_the_gate() -> None:
    """Not unknown: known, and kept back for a reason."""
    with pytest.raises(GateClosed, match="push is not true"):
        await desk().pull("9/9", confirm_deletes=False)


async def test_orders_reach_the_flow() -> None:
    """Pull, pause and resume are passed on as they came."""
    flow = Flow()
    await desk(flow).pull(CODE, confirm_deletes=True)
    desk(flow).pause(CODE)
    desk(flow).resume(None)
    assert flow.asked == [(CODE, True), ("pause", CODE), ("resume", None)]


@pytest.mark.parametrize(("confirm", "number"), [(True, 12), (False, None)])
async def test_a_pull_says_how_many_deletes_are_confirmed(
    confirm: bool, number: int | None
) -> None:
    """The number, not only that there was a word; as docs/cli-json.md has it."""
    body = await desk().pull(CODE, confirm_deletes=confirm)
    assert body == {"run": "r1", "resource": CODE, "deletes_confirmed": number}
    members = cli_json.sections()["`fep pull RESOURCE`"]
    assert cli_json.faults(members, body) == []


def test_a_batch_that_never_was_is_said() -> None:
    """BatchUnknown with its identity."""
    with pytest.raises(BatchUnknown, match="1/7"):
        desk().batch(CODE, epoch=1, seq=7)
