# SPDX-License-Identifier: Apache-2.0
"""Looks, before a configuration holds, whether it can: sources, and new addresses."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from datetime import datetime

from agent.catalog.gate import Outgoing
from agent.child.source import stream_of
from agent.control.directory import check_directory
from agent.daemon.work import Work
from agent.errors import (
    ConfigInvalid,
    ConfigUnfit,
    EndpointUnproven,
    OwnFault,
    PeerFault,
    SourceFault,
)
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.pipeline.worker import probe
from agent.settings import Settings

MOST_TOLD = 8
"""Findings that are named, at most."""


async def check_sources(work: Work, resources: Collection[str]) -> None:
    """Ask the sources of these resources whether they can be read.

    Raises:
        ConfigUnfit: one cannot; with what stands in the way.
    """
    by_source: dict[str, list[Outgoing]] = {}
    for one in work.outgoing:
        if one.resource in resources:
            by_source.setdefault(one.source, []).append(one)
    wrong: list[str] = []
    for name, leaving in by_source.items():
        wrong += await _check(work.settings, name, leaving)
    if wrong:
        more = f"; and {len(wrong) - MOST_TOLD} more" if len(wrong) > MOST_TOLD else ""
        raise ConfigUnfit("; ".join(wrong[:MOST_TOLD]) + more)


async def _check(
    found: Settings, source: str, leaving: Iterable[Outgoing]
) -> list[str]:
    streams = [stream_of(o.table, o.items, o.stamp, o.number) for o in leaving]
    try:
        findings = await probe.check(
            found.sources[source].connector, found.source_config(source), streams
        )
    except (SourceFault, OwnFault, ConfigInvalid) as e:
        return [f"{source}: {e.code}: {e.detail}"]
    return [f"{source}: {f.code}: {f.en}" for f in findings if f.severity == "error"]


class Prover:
    """Asks an address for the directory, and verifies who has signed it.

    Args:
        endpoint: who we are, with settings given; its addresses are not asked.
        aud: the exchange that we trust.
        kid: pinned thumbprint of its receipt key.
        now: aware UTC.
    """

    def __init__(
        self,
        endpoint: Callable[[Settings], Endpoint],
        *,
        aud: str,
        kid: str,
        now: Callable[[], datetime],
    ) -> None:
        self._endpoint = endpoint
        self._aud = aud
        self._kid = kid
        self._now = now

    async def prove(self, found: Settings, urls: Iterable[str]) -> None:
        """Ask each of these addresses.

        Args:
            found: the settings under which they shall be used.
            urls: ``https://host[:port]``.

        Raises:
            EndpointUnproven: one is not our exchange; which, and why.
        """
        for url in urls:
            endpoint = replace(self._endpoint(found), url=url, more_urls=())
            try:
                async with Exchange(endpoint, now=self._now) as exchange:
                    text = await exchange.directory()
                check_directory(text, aud=self._aud, kid=self._kid)
            except (PeerFault, ConfigInvalid) as e:
                raise EndpointUnproven(f"{url}: {e.code}: {e.detail}") from e

    async def any(self, found: Settings, urls: Iterable[str]) -> bool:
        """Whether one of these addresses is our exchange."""
        for url in urls:
            try:
                await self.prove(found, (url,))
            except EndpointUnproven:
                continue
            return True
        return False
