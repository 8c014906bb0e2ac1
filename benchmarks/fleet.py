# SPDX-License-Identifier: Apache-2.0
"""A city's nodes at one exchange, and how they come back after it was away.

::

    scripts/bench fleet --json
    scripts/bench fleet --nodes 500 --real 50 --compress 4 --json
    scripts/bench fleet --real 0 --json

Every node is what the daemon has towards the exchange, the same code: addresses and
circuit, heart with its own key, loop of the directory, loop of the city's repository,
line for lookups. Of --real nodes everything goes over HTTPS, each with a certificate
of its own, to a real reference exchange, a process of its own; of the others it is
answered in memory; if there are no others, by a clock that jumps. The exchange is
killed, and comes back after --away seconds.

steady_per_s    requests a second before, mean
cut_peak_per_s  most tries of one second while it was away
back_peak_per_s most requests of one second from the return on
herd            back_peak_per_s / steady_per_s
fresh_s         from the return until each node has had a beat taken, has fetched
                what it polls, and has its line
refused         requests that the exchange refused, or did not answer, after the return
simulated       what is not as in a city

A request is counted when it begins. A beat, a poll and a look at the repository make a
connection each: between them lies more than the client keeps an idle one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.fleet_air import Nowhere, There
from benchmarks.fleet_node import Node, Place, Request, Seen, Time
from benchmarks.fleet_nodes import Identity, bare, make
from tests.support import jumping_loop
from tests.support.sandbox_process import SandboxProcess

START_S = 60.0
"""The nodes start within so many seconds."""
STEADY_S = 30.0
"""Then it is measured for so long."""
LONGEST_S = 300.0
"""A fleet that is not fresh so long after the return never will be; and no sooner than
a minute by the clock."""
SETTLE_S = 10.0
"""It is watched for so long after all are fresh."""
THREADS = 16

SIMULATED = (
    "No full daemons: of each node the parts that speak to the exchange, all nodes in"
    " one process; no batches and no lookups.",
    "Keys, and the certificates and registrations of nodes with a network, are real and"
    " were made beforehand, without the enrolment.",
    "The poll of the directory asks for the list of commands instead: that of 5,000"
    " nodes has some 10 MB, and the reference exchange builds it anew each time.",
    "The look at the city's repository fetches timestamp.json and verifies nothing.",
    "The exchange is killed: connections end at once and new ones are refused.",
)


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--nodes", type=int, default=5000, help="how many")
    parser.add_argument("--real", type=int, default=500, help="so many by HTTPS")
    parser.add_argument("--away", type=float, default=60.0, help="seconds")
    parser.add_argument("--compress", type=float, default=1.0, help="of all waits")
    asked = parser.parse_args()
    found = measured(
        asked.nodes, asked.real, away_s=asked.away, compress=asked.compress
    )
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<18}{value}")
    return 0


def measured(
    nodes: int, real: int, *, away_s: float, compress: float = 1.0
) -> dict[str, Any]:
    """The figures of one fleet, whose time is ``compress`` times as fast as ours."""
    if real == 0:
        found = jumping_loop.run(partial(_jumped, nodes, away_s))
    else:
        found = _clocked(nodes, real, away_s, compress)
    return {
        "nodes": nodes,
        "real": min(real, nodes),
        "away_s": away_s,
        "compress": compress if real else "jumps",
        **found,
        "simulated": [*_air(nodes - real), *SIMULATED, *_hurried(real, compress)],
    }


async def _jumped(
    nodes: int, away_s: float, clock: Callable[[], float]
) -> dict[str, Any]:
    """A fleet without a network, by a clock that jumps to the next who wakes."""
    return await Story(Nowhere(), Time(1.0, clock), away_s).told(bare(nodes), 0)


def _clocked(nodes: int, real: int, away_s: float, compress: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="fepb", dir="/tmp") as place:
        folder = Path(place)
        fleet = [*make(folder / "exchange", folder, real), *bare(nodes - real)]
        exchange = SandboxProcess(folder / "exchange")
        exchange.start()
        try:
            story = Story(exchange, Time(compress), away_s)
            return asyncio.run(_threaded(story.told(fleet, real)))
        finally:
            if exchange.process is not None:
                exchange.kill()


async def _threaded(story: Awaitable[dict[str, Any]]) -> dict[str, Any]:
    """Looks at the repository block; so many threads do them."""
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS))
    return await story


def _air(nodes: int) -> list[str]:
    if nodes <= 0:
        return []
    return [
        f"{nodes} nodes have no network: the same policy, answered in memory; they make"
        " no load on the exchange."
    ]


def _hurried(real: int, compress: float) -> list[str]:
    if real == 0:
        return ["Nobody waits: where all sleep, the clock jumps to the next who wakes."]
    if compress == 1.0:
        return []
    return [f"Waits are {compress:g} times as short; figures are of the fleet's time."]


class Killed(Place, Protocol):
    """An exchange, as a process."""

    def kill(self) -> None:
        """End it at once."""
        ...

    def start(self) -> None:
        """Start it again."""
        ...


class Story:
    """What happens to a fleet.

    Args:
        exchange: runs.
        clock: of the fleet.
        away_s: so long it is gone.
    """

    def __init__(self, exchange: Killed, clock: Time, away_s: float) -> None:
        self._exchange = exchange
        self._clock = clock
        self._away_s = away_s
        self._seen = Seen(clock)
        self._there = There()

    async def told(self, identities: Sequence[Identity], real: int) -> dict[str, Any]:
        """Start, watch, take the exchange away, bring it back, watch."""
        fleet = [
            Node(
                one,
                self._exchange,
                None if i < real else self._there,
                self._clock,
                self._seen,
            )
            for i, one in enumerate(identities)
        ]
        begun = [
            asyncio.create_task(one.live(random.uniform(0.0, START_S))) for one in fleet
        ]
        try:
            return await self._watched(fleet)
        finally:
            for task in begun:
                task.cancel()
            await asyncio.gather(*begun, return_exceptions=True)

    async def _watched(self, fleet: Sequence[Node]) -> dict[str, Any]:
        clock, seen = self._clock, self._seen
        await clock.sleep(START_S + 5.0)
        steady = await self._seen_for(STEADY_S)
        self._exchange.kill()
        self._there.go()
        away = await self._seen_for(self._away_s)
        for one in fleet:
            one.changed()
        await asyncio.to_thread(self._exchange.start)
        self._there.come()
        back_at = clock.now()
        await self._until_fresh(fleet, back_at)
        mean = len(steady) / STEADY_S
        peak = seen.peak(seen.between(back_at, clock.now()))
        return {
            "steady_per_s": round(mean, 1),
            "steady_peak_per_s": seen.peak(steady),
            "cut_peak_per_s": seen.peak(away),
            "back_peak_per_s": peak,
            "herd": round(peak / mean, 1),
            **self._fresh(fleet, back_at),
        }

    async def _seen_for(self, seconds: float) -> list[Request]:
        began = self._clock.now()
        await self._clock.sleep(seconds)
        return self._seen.between(began, self._clock.now())

    async def _until_fresh(self, fleet: Sequence[Node], since: float) -> None:
        longest_s = max(LONGEST_S, 60.0 * self._clock.compress)
        while self._clock.now() - since < longest_s:
            if all(one.fresh_at(since) is not None for one in fleet):
                break
            await self._clock.sleep(1.0)
        await self._clock.sleep(SETTLE_S)

    def _fresh(self, fleet: Sequence[Node], back_at: float) -> dict[str, Any]:
        found = [one.fresh_at(back_at) for one in fleet]
        fresh = sorted(at - back_at for at in found if at is not None)
        back = self._seen.between(back_at, self._clock.now())
        return {
            "fresh": len(fresh),
            "fresh_p50_s": round(fresh[len(fresh) // 2], 1) if fresh else None,
            "fresh_s": round(fresh[-1], 1) if len(fresh) == len(fleet) else None,
            "refused": sum(not one.good for one in back),
        }


if __name__ == "__main__":
    sys.exit(main())
