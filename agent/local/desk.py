# SPDX-License-Identifier: Apache-2.0
"""What the local interface answers, put together from the flow and the identity."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from agent import VERSION
from agent.errors import BatchUnknown, FepError, GateClosed, all_errors
from agent.local.lookups import Sight
from agent.local.rejections import explained
from agent.model.run import RunKind

JsonObject = dict[str, Any]


class Push(Protocol):
    """The push flow as people see it; its values are dataclasses."""

    async def request_pull(
        self,
        resource: str,
        *,
        confirm_deletes: bool = False,
        kind: RunKind = "full",
        report: str | None = None,
    ) -> str:
        """Ask for a run; its id."""
        ...

    async def look(self, run: str) -> Any:
        """The report of a run as it is now."""
        ...

    async def wait(self, run: str, *, delivered: bool = False) -> Any:
        """The report of a run once it has ended."""
        ...

    def pause(self, resource: str | None = None) -> None:
        """Stop one resource, or all."""
        ...

    def resume(self, resource: str | None = None) -> None:
        """Go on with one resource, or all."""
        ...

    def status(self) -> Any:
        """How everything stands."""
        ...

    def resource(self, resource: str) -> Any:
        """How one resource stands; raises ResourceUnknown."""
        ...

    def batches(self, resource: str | None = None, *, limit: int = 1000) -> Any:
        """Registered batches, newest first in each resource."""
        ...

    def batch(self, resource: str, *, epoch: int, seq: int) -> Any:
        """One registered batch, or None."""
        ...


@dataclass(frozen=True)
class Facts:
    """What does not change while the daemon runs.

    Args:
        node: who we are.
        aud: the exchange.
        url: gives the address of it that is in use.
        names: resource -> name for people.
        kept: resource -> why the gate is shut for it.
        barred: those of them that only the centre or the ceiling keeps.
        started_at: wire grammar.
        certificate_not_after: gives the end of our certificate, aware UTC.
    """

    node: str
    aud: str
    url: Callable[[], str]
    names: Mapping[str, str]
    kept: Mapping[str, str]
    barred: Mapping[str, str]
    started_at: str
    certificate_not_after: Callable[[], datetime]


NO_TRUST: JsonObject = {
    "enabled": False,
    "verified_at": None,
    "expires": None,
    "versions": {},
}
"""Without a pinned root."""


@dataclass(frozen=True)
class Gauges:
    """What is only read off.

    Args:
        metrics: counters as text.
        times: when a resource is read next, by kind.
        retention: what is kept for how long.
        trust: what the city's TUF repository said last.
    """

    metrics: Callable[[], str]
    times: Callable[[str], Sequence[JsonObject]]
    retention: Callable[[], Sequence[JsonObject]] = tuple
    trust: Callable[[], JsonObject] = lambda: NO_TRUST


class Desk:
    """The :class:`agent.local.server.Operations` of a running daemon.

    Args:
        push: the flow.
        facts: see there.
        troubles: what is wrong apart from the flow, now.
        lookups: how the lookup side stands.
        gauges: see there.
        now: aware UTC.
    """

    def __init__(
        self,
        push: Push,
        facts: Facts,
        *,
        troubles: Callable[[], Sequence[FepError]],
        lookups: Sight,
        gauges: Gauges,
        now: Callable[[], datetime],
    ) -> None:
        self._push = push
        self._facts = facts
        self._troubles = troubles
        self._lookups = lookups
        self._gauges = gauges
        self._now = now

    def version(self) -> JsonObject:
        """Name, version and process id."""
        return {"agent": "fep-agent", "version": VERSION, "pid": os.getpid()}

    def metrics(self) -> str:
        """Counters in the Prometheus text format."""
        return self._gauges.metrics()

    def status(self, resource: str | None) -> JsonObject:
        """How everything, or one resource, stands."""
        facts, push = self._facts, self._push.status()
        troubles = [_named(e.as_dict()) for e in self._troubles()]
        shown = push.resources
        if resource is not None:
            shown = (self._push.resource(resource),)
        lookups = self._lookups.status()
        healthy = all(r.healthy for r in shown) and not troubles
        if resource is None:
            healthy = healthy and push.healthy and lookups["healthy"]
        days = (facts.certificate_not_after() - self._now()).days
        return {
            "healthy": healthy,
            "agent": {
                "node": facts.node,
                "version": VERSION,
                "pid": os.getpid(),
                "started_at": facts.started_at,
                "certificate_days": days,
            },
            "exchange": {
                "aud": facts.aud,
                "url": facts.url(),
                "clock_offset_s": push.clock_offset_s,
            },
            "paused": push.paused,
            "spool": asdict(push.spool),
            "retention": list(self._gauges.retention()),
            "lookups": lookups,
            "trust": self._gauges.trust(),
            "troubles": troubles,
            "barred": [
                {"resource": code, "why": why}
                for code, why in sorted(facts.barred.items())
            ],
            "resources": [self._resource(r) for r in shown],
        }

    def _resource(self, found: Any) -> JsonObject:
        body = asdict(found)
        name = self._facts.names.get(found.resource, "")
        if body["trouble"] is not None:
            body["trouble"] = _named(body["trouble"])
        return {
            "resource": body.pop("resource"),
            "name": name,
            "healthy": found.healthy,
            **body,
            "accounts": list(body["accounts"]),
            "schedule": list(self._gauges.times(found.resource)),
        }

    async def pull(
        self,
        resource: str,
        *,
        confirm_deletes: bool,
        kind: RunKind = "full",
        report: str | None = None,
    ) -> JsonObject:
        """Ask for a run; its id and the number of deletes that it may bring.

        Raises:
            GateClosed: the resource may not leave; it may still be recalled.
            ResourceUnknown, NothingHeld, NothingLoaded, Busy: as the flow says.
        """
        why = self._facts.kept.get(resource)
        if why is not None and kind != "recall":
            raise GateClosed(f"{resource}: {why}")
        run = await self._push.request_pull(
            resource, confirm_deletes=confirm_deletes, kind=kind, report=report
        )
        confirmed = (await self._push.look(run)).deletes_confirmed
        return {"run": run, "resource": resource, "deletes_confirmed": confirmed}

    async def wait(self, run: str, *, delivered: bool) -> JsonObject:
        """The report of a run once it has ended."""
        return asdict(await self._push.wait(run, delivered=delivered))

    def pause(self, resource: str | None) -> None:
        """Stop one resource, or all."""
        self._push.pause(resource)

    def resume(self, resource: str | None) -> None:
        """Go on with one resource, or all."""
        self._push.resume(resource)

    def spool(self, resource: str | None) -> JsonObject:
        """Batches that the state knows, oldest first in each resource."""
        found = list(self._push.batches(resource))
        found.sort(key=lambda v: (v.resource, v.batch.epoch, v.batch.seq))
        return {"batches": [_batch(view, texts=False) for view in found]}

    def batch(self, resource: str, *, epoch: int, seq: int) -> JsonObject:
        """One batch with the exact text of its receipts.

        Raises:
            ResourceUnknown, BatchUnknown: as they say.
        """
        view = self._push.batch(resource, epoch=epoch, seq=seq)
        if view is None:
            raise BatchUnknown(f"{resource} {epoch}/{seq}")
        return _batch(view, texts=True)


def _batch(view: Any, *, texts: bool) -> JsonObject:
    body = asdict(view.batch)
    del body["stream"], body["file"]
    receipts = [dict(_receipt(asdict(r), texts=texts)) for r in view.receipts]
    return {
        "resource": view.resource,
        "epoch": body.pop("epoch"),
        "seq": body.pop("seq"),
        "path": view.path,
        **body,
        **({"manifest": view.line} if texts else {}),
        "receipts": receipts,
    }


def _receipt(body: JsonObject, *, texts: bool) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if name in {"state", "code", "rows", "at", "kept_at", "voucher"} or (
            texts and name == "jws"
        ):
            yield name, value


def _named(trouble: JsonObject) -> JsonObject:
    """A trouble with the title and the next step of its code."""
    if (words := explained(trouble["code"], trouble["detail"])) is not None:
        title, remedy = words.title._asdict(), words.remedy._asdict()
        return {**trouble, "title": title, "remedy": remedy}
    for cls in all_errors():
        if cls.code == trouble["code"]:
            return {
                **trouble,
                "title": cls.title._asdict(),
                "remedy": cls.remedy._asdict(),
            }
    return {
        **trouble,
        "title": FepError.title._asdict(),
        "remedy": FepError.remedy._asdict(),
    }
