# SPDX-License-Identifier: Apache-2.0
"""The line to the exchange: what it brings, and what becomes of it when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from agent.errors import ExchangeUnreachable, FepError, MalformedMessage
from agent.lookup.relay import AT_ONCE_S, Hooks, Relay, Waits
from agent.retry import Backoff
from agent.wire.channel import IN_FLIGHT, Frame, parse
from agent.wire.problem import Problem


class Line:
    """A connection in memory."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[str | BaseException | None] = asyncio.Queue()
        self.sent: list[Frame] = []
        self.cut = False

    async def receive(self) -> str | None:
        found = await self.inbox.get()
        if isinstance(found, BaseException):
            raise found
        return found

    async def send(self, text: str) -> None:
        if self.cut:
            raise ExchangeUnreachable("cut")
        self.sent.append(parse(text))

    def request(self, name: str, body: str = "sealed") -> None:
        self.inbox.put_nowait(Frame("req", name, body).format())


@dataclass
class Exchange:
    """Opens lines one after another, and remembers what it was told."""

    lines: list[Line] = field(default_factory=lambda: [Line() for _ in range(4)])
    refuses: int = 0
    opened: int = 0
    closed: list[tuple[FepError, int, float]] = field(default_factory=list)
    nudges: int = 0
    at: float = 0.0
    slept: list[float] = field(default_factory=list)
    gate: asyncio.Event | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Line]:
        if self.refuses:
            self.refuses -= 1
            raise ExchangeUnreachable("refused")
        yield self.lines[self.opened]

    async def answer(self, text: str) -> str | Problem:
        if self.gate is not None:
            await self.gate.wait()
        return Problem.of("malformed") if text == "bad" else f"reply to {text}"

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await asyncio.sleep(0)

    def note_opened(self) -> None:
        self.opened += 1

    def note_nudge(self) -> None:
        self.nudges += 1

    def relay(self) -> Relay:
        return Relay(
            self.connect,
            Hooks(
                answer=self.answer,
                nudged=self.note_nudge,
                opened=self.note_opened,
                closed=lambda e, n, s: self.closed.append((e, n, s)),
            ),
            Waits(
                backoff=Backoff(1.0, 8.0),
                uniform=lambda _low, high: high,
                sleep=self.sleep,
                clock=lambda: self.at,
            ),
        )


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    """A running line."""
    made = Exchange()
    made.task = asyncio.create_task(made.relay().forever())  # type: ignore[attr-defined]
    await settle()
    yield made
    made.task.cancel()  # type: ignore[attr-defined]
    await asyncio.wait({made.task})  # type: ignore[attr-defined]


async def settle() -> None:
    """Let everything that can happen happen."""
    for _ in range(80):
        await asyncio.sleep(0)


async def test_a_request_is_answered_under_its_id(exchange: Exchange) -> None:
    """A reply or a problem."""
    line = exchange.lines[0]
    line.request("a", "one")
    line.request("b", "bad")
    await settle()
    assert {f.id: f.t for f in line.sent} == {"a": "res", "b": "err"}
    assert next(f.body for f in line.sent if f.id == "a") == "reply to one"
    assert next(f.problem().code for f in line.sent if f.id == "b") == "malformed"


async def test_a_nudge_is_passed_on(exchange: Exchange) -> None:
    """Position and directory are looked at."""
    exchange.lines[0].inbox.put_nowait(Frame("nudge").format())
    await settle()
    assert exchange.nudges == 1


async def test_sixty_four_at_a_time(exchange: Exchange) -> None:
    """The next is told busy at once; afterwards there is room."""
    exchange.gate = asyncio.Event()
    line = exchange.lines[0]
    for n in range(IN_FLIGHT + 1):
        line.request(f"r{n}")
    await settle()
    (told,) = line.sent
    assert (told.id, told.problem().code) == (f"r{IN_FLIGHT}", "busy")
    exchange.gate.set()
    await settle()
    assert len(line.sent) == IN_FLIGHT + 1


@pytest.mark.parametrize(
    "end",
    [
        None,
        ExchangeUnreachable("cut"),
        MalformedMessage("no text"),
        "no frame",
        '{"t":"req"}',
    ],
)
async def test_a_broken_line_is_opened_again(
    exchange: Exchange, end: str | BaseException | None
) -> None:
    """Closed, cut, or with a frame that breaks the format: told, waited, connected."""
    exchange.lines[0].inbox.put_nowait(end)
    await settle()
    assert exchange.opened == 2
    wait_s = AT_ONCE_S[0] if isinstance(end, ExchangeUnreachable) else 1.0
    assert [(n, s) for _, n, s in exchange.closed] == [(1, wait_s)]
    exchange.lines[1].request("a")
    await settle()
    assert [f.id for f in exchange.lines[1].sent] == ["a"]


async def test_waits_grow_and_begin_anew_after_a_good_line() -> None:
    """Doubling up to the cap; a line that lasted a minute was a good one."""
    exchange = Exchange(refuses=4)
    task = asyncio.create_task(exchange.relay().forever())
    await settle()
    assert exchange.slept == [1.0, 2.0, 4.0, 8.0]
    exchange.at += 61
    exchange.lines[0].inbox.put_nowait(None)
    await settle()
    assert exchange.slept[-1] == 1.0
    task.cancel()
    await asyncio.wait({task})


async def test_a_lost_line_takes_its_replies_with_it(exchange: Exchange) -> None:
    """They are not sent on the next one, whose ids are others."""
    exchange.gate = asyncio.Event()
    exchange.lines[0].request("a")
    await settle()
    exchange.lines[0].inbox.put_nowait(ExchangeUnreachable("cut"))
    await settle()
    exchange.gate.set()
    await settle()
    assert exchange.lines[0].sent == exchange.lines[1].sent == []


async def test_a_line_that_takes_no_reply_stops_nothing(exchange: Exchange) -> None:
    """The reading side sees the same end and tells it."""
    exchange.lines[0].cut = True
    exchange.lines[0].request("a")
    await settle()
    exchange.lines[0].cut = False
    exchange.lines[0].request("b")
    await settle()
    assert [f.id for f in exchange.lines[0].sent] == ["b"]


async def test_replies_go_out_as_they_are_ready(exchange: Exchange) -> None:
    """A slow one holds up no other: order is nobody's promise."""
    gate = exchange.gate = asyncio.Event()
    exchange.lines[0].request("slow")
    await settle()
    exchange.gate = None
    exchange.lines[0].request("fast")
    await settle()
    gate.set()
    await settle()
    assert [f.id for f in exchange.lines[0].sent] == ["fast", "slow"]


async def test_an_exchange_that_does_not_read_cannot_hold_up_the_end() -> None:
    """Nor one that asks on and on: waiting for the last answers has its time."""

    class Stuck(Line):
        async def send(self, text: str) -> None:
            await asyncio.Event().wait()

    made = Exchange(lines=[Stuck()])
    relay = made.relay()
    task = asyncio.create_task(relay.forever())
    made.lines[0].request("a")
    await settle()
    async with asyncio.timeout(60):
        await relay.settled(0.05)
        await relay.settled(0)
    task.cancel()
    await asyncio.wait({task})


async def test_a_line_that_held_and_was_cut_is_opened_again_at_once(
    exchange: Exchange,
) -> None:
    """Every few seconds, if need be: lookups must not wait for a minute."""
    for n in range(3):
        exchange.at += 3.0
        exchange.lines[n].inbox.put_nowait(ExchangeUnreachable("cut"))
        await settle()
    assert exchange.slept == [AT_ONCE_S[0]] * 3
    assert [attempt for _, attempt, _ in exchange.closed] == [1, 1, 1]
    assert exchange.opened == 4


async def test_a_goodbye_and_a_refusal_are_followed_by_a_wait(
    exchange: Exchange,
) -> None:
    """Two machines of one name would else throw each other out without end."""
    exchange.at += 3.0
    exchange.refuses = 1
    exchange.lines[0].inbox.put_nowait(None)
    await settle()
    assert exchange.slept == [1.0, 2.0]


async def test_a_line_that_is_not_back_at_once_is_tried_soon(
    exchange: Exchange,
) -> None:
    """Three times, then with waits that grow."""
    exchange.at += 3.0
    exchange.refuses = 4
    exchange.lines[0].inbox.put_nowait(ExchangeUnreachable("cut"))
    await settle()
    assert exchange.slept == [*AT_ONCE_S, 8.0, 8.0]
    assert exchange.opened == 2


async def test_a_line_that_breaks_as_soon_as_it_is_open_is_not_hammered(
    exchange: Exchange,
) -> None:
    """Each time it opens and does not hold, the wait is longer."""
    exchange.lines += [Line(), Line()]
    for n in range(5):
        exchange.lines[n].inbox.put_nowait(ExchangeUnreachable("cut"))
        await settle()
    assert exchange.slept == [*AT_ONCE_S, 8.0, 8.0]


async def test_when_the_exchange_is_back_the_wait_ends() -> None:
    """Something else has reached it: lookups do not wait for their own turn."""

    class Patient(Exchange):
        async def sleep(self, seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.Event().wait()

    made = Patient(refuses=1)
    relay = made.relay()
    task = asyncio.create_task(relay.forever())
    await settle()
    assert (made.opened, made.slept) == (0, [1.0])
    relay.hurry()
    await settle()
    assert made.opened == 1
    task.cancel()
    await asyncio.wait({task})
