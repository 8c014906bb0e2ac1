# SPDX-License-Identifier: Apache-2.0
"""What a relay between two departments can do to them, for the fault switches.

It sees sealed bodies only, so this is all there is: requests and replies come late,
never, twice, in another order, to somebody else, or with bytes changed.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from agent.crypto.jwe import Sealed, split_sealed
from sandbox.doors import Answer, Unreached
from sandbox.faults import Fault, Faults

ROUTE = "POST /v1/relay"

Ask = Callable[[Sealed], Awaitable[Answer]]
"""A sealed request -> the answer of the node that it is for."""


class Mischief:
    """Requests on their way to a provider, and what the switches do to them.

    Args:
        faults: the switches; kind ``relay``.
        ask: the honest way.
        cut: breaks a node's channel.
    """

    def __init__(self, faults: Faults, ask: Ask, cut: Callable[[str], None]) -> None:
        self._faults = faults
        self._ask = ask
        self._cut = cut
        self._held: list[asyncio.Event] = []
        self._partners: list[tuple[Answer, asyncio.Future[Answer]]] = []
        self._copies: set[asyncio.Task[None]] = set()

    async def carry(self, asked: Sealed) -> Answer:
        """A request to a provider; the first switch that is on strikes it.

        Raises:
            Unreached: as the honest way does.
        """
        fault = self._faults.strike("relay", ROUTE)
        if fault is None:
            return self._after(await self._ask(asked))
        acts = {
            "drop": self._drop,
            "delay": self._delay,
            "duplicate": self._duplicate,
            "reorder": self._reorder,
            "swap": self._swap,
            "cut": self._cut_channel,
            "alter": self._alter,
        }
        return await acts[fault.act](fault, asked)

    def _after(self, answer: Answer) -> Answer:
        """Requests held back may go now; a reply that waits for a partner has one."""
        for held in self._held:
            held.set()
        while self._partners:
            other, waiting = self._partners.pop(0)
            if not waiting.done():
                waiting.set_result(answer)
                return other
        return answer

    async def _drop(self, fault: Fault, asked: Sealed) -> Answer:
        if fault.when == "after":
            await self._ask(asked)
        return await _never()

    async def _delay(self, fault: Fault, asked: Sealed) -> Answer:
        if fault.when == "before":
            await asyncio.sleep(fault.seconds)
            return await self._ask(asked)
        answer = await self._ask(asked)
        await asyncio.sleep(fault.seconds)
        return answer

    async def _duplicate(self, fault: Fault, asked: Sealed) -> Answer:
        """The very body is handed over again, at once or ``seconds`` later."""
        copy = asyncio.create_task(self._again(fault.seconds, asked))
        self._copies.add(copy)
        copy.add_done_callback(self._copies.discard)
        return await self._ask(asked)

    async def _again(self, seconds: int, asked: Sealed) -> None:
        await asyncio.sleep(seconds)
        with contextlib.suppress(Unreached):
            await self._ask(asked)

    async def _reorder(self, _: Fault, asked: Sealed) -> Answer:
        """It waits until a later request has been answered."""
        turn = asyncio.Event()
        self._held.append(turn)
        try:
            await turn.wait()
        finally:
            self._held.remove(turn)
        return await self._ask(asked)

    async def _swap(self, _: Fault, asked: Sealed) -> Answer:
        """Its reply and the next one that comes are exchanged."""
        own = await self._ask(asked)
        partner: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._partners.append((own, partner))
        return await partner

    async def _cut_channel(self, fault: Fault, asked: Sealed) -> Answer:
        """Before: ``seconds`` after the request left. After: with the reply."""
        if fault.when == "after":
            await self._ask(asked)
            self._cut(asked.aud)
            raise Unreached("no-channel", "a fault switch is on")
        asking = asyncio.ensure_future(self._ask(asked))
        try:
            await asyncio.sleep(fault.seconds)
            self._cut(asked.aud)
            return await asking
        finally:
            asking.cancel()

    async def _alter(self, fault: Fault, asked: Sealed) -> Answer:
        if fault.when == "before":
            text = altered(asked.text)
            return await self._ask(split_sealed(text, cap=len(text)))
        answer = await self._ask(asked)
        return altered(answer) if isinstance(answer, str) else answer


def altered(text: str) -> str:
    """A sealed body with one character of its ciphertext changed."""
    head, dot, tag = text.rpartition(".")
    last = head[-2]
    return head[:-2] + ("A" if last != "A" else "B") + head[-1] + dot + tag


async def _never() -> Answer:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")
