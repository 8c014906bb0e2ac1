# SPDX-License-Identifier: Apache-2.0
"""Doors to providers, without a network: a line is what the test says it is."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

import pytest

from agent.errors import MalformedMessage
from agent.wire.channel import IN_FLIGHT
from agent.wire.problem import Problem
from sandbox.doors import GOING, REPLACED, Channel, Doors, Peer, Unreached
from sandbox.places import Full, Places

NODE = "11990100MB1234567X/qz1"


@dataclass
class FakeLine:
    """A WebSocket that keeps what is sent."""

    sent: list[str] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    broken: bool = False

    async def send_str(self, data: str) -> None:
        if self.broken:
            raise ConnectionResetError
        self.sent.append(data)

    async def close(self, *, code: int, message: bytes) -> object:
        self.closed.append(code)
        return message

    def abort(self) -> None:
        self.broken = True


def channel(line: FakeLine, node: str = NODE) -> Channel:
    return Channel(Peer(node, "k"), line)


def doors(*channels: Channel, timeout_s: float = 5) -> Doors:
    found = Doors(timeout_s=timeout_s)
    for one in channels:
        found.enter(one)
    return found


async def begun(line: FakeLine, count: int) -> list[str]:
    """The ids of the requests that were sent, once there are so many."""
    while len(line.sent) < count:  # noqa: ASYNC110 - other tasks of this loop send
        await asyncio.sleep(0)
    return [json.loads(text)["id"] for text in line.sent]


def res(key: str, body: str = "x") -> str:
    return json.dumps({"t": "res", "id": key, "body": body})


async def test_each_reply_goes_to_its_request() -> None:
    """Also in another order."""
    line = FakeLine()
    one = channel(line)
    asking = [asyncio.create_task(one.ask(str(i))) for i in range(3)]
    ids = await begun(line, 3)
    for i, key in reversed(list(enumerate(ids))):
        one.take(res(key, f"to {i}"))
    assert [await task for task in asking] == ["to 0", "to 1", "to 2"]


async def test_err_frame_is_a_problem() -> None:
    """With the status that it names."""
    line = FakeLine()
    one = channel(line)
    asking = asyncio.create_task(one.ask("x"))
    (key,) = await begun(line, 1)
    body = {"type": "urn:fep:problem:busy", "status": 429}
    one.take(json.dumps({"t": "err", "id": key, "body": body}))
    found = await asking
    assert isinstance(found, Problem)
    assert (found.code, found.status) == ("busy", 429)


async def test_second_and_foreign_replies_are_ignored() -> None:
    """They are late, or nobody's."""
    line = FakeLine()
    one = channel(line)
    asking = asyncio.create_task(one.ask("x"))
    (key,) = await begun(line, 1)
    one.take(res("999"))
    one.take(res(key, "first"))
    one.take(res(key, "second"))
    assert await asking == "first"
    one.take(res(key, "third"))


@pytest.mark.parametrize("kind", ["req", "nudge"])
def test_providers_only_answer(kind: str) -> None:
    """They do not ask on their channel."""
    body = {"t": kind} | ({"id": "1", "body": "x"} if kind == "req" else {})
    with pytest.raises(MalformedMessage):
        channel(FakeLine()).take(json.dumps(body))


async def test_end_of_the_line_ends_every_wait() -> None:
    """no-channel, at once."""
    line = FakeLine()
    one = channel(line)
    asking = [asyncio.create_task(one.ask("x")) for _ in range(2)]
    await begun(line, 2)
    one.end()
    for task in asking:
        with pytest.raises(Unreached) as lost:
            await task
        assert lost.value.problem.code == "no-channel"


async def test_line_that_is_broken_already() -> None:
    """no-channel instead of a wait."""
    with pytest.raises(Unreached) as lost:
        await channel(FakeLine(broken=True)).ask("x")
    assert lost.value.problem.status == 503


async def test_silence_is_no_answer() -> None:
    """504 after the time, and the place is free again."""
    found = doors(channel(FakeLine()), timeout_s=0)
    for _ in range(IN_FLIGHT + 1):
        with pytest.raises(Unreached) as lost:
            await found.ask(NODE, "x", of="a")
        assert lost.value.problem.code == "no-answer"
    assert found.waiting() == {NODE: 0}


async def test_65th_is_told_to_come_again() -> None:
    """429 busy; other providers are not concerned."""
    line, other = FakeLine(), FakeLine()
    found = doors(channel(line), channel(other, "b"))
    asking = [
        asyncio.create_task(found.ask(NODE, "x", of="a")) for _ in range(IN_FLIGHT)
    ]
    await begun(line, IN_FLIGHT)
    with pytest.raises(Unreached) as full:
        await found.ask(NODE, "x", of="a")
    assert (full.value.problem.code, full.value.problem.status) == ("busy", 429)
    more = asyncio.create_task(found.ask("b", "x", of="a"))
    await begun(other, 1)
    for task in (*asking, more):
        task.cancel()
    await asyncio.wait([*asking, more])
    assert found.waiting() == {NODE: 0, "b": 0}


async def test_one_consumer_does_not_take_every_place() -> None:
    """Who waits gets the next places; the many of the first one are refused."""
    line = FakeLine()
    one = channel(line)
    found = doors(one)

    def ask(of: str) -> asyncio.Task[object]:
        return asyncio.create_task(found.ask(NODE, of, of=of))

    greedy = [ask("greedy") for _ in range(IN_FLIGHT)]
    ids = await begun(line, IN_FLIGHT)
    others = [ask("b"), ask("b"), ask("c")]
    await asyncio.sleep(0)
    with pytest.raises(Unreached) as full:
        await found.ask(NODE, "x", of="greedy")
    assert full.value.problem.code == "busy"
    for key in ids[:2]:
        one.take(res(key))
    await begun(line, IN_FLIGHT + 2)
    asked = [json.loads(text)["body"] for text in line.sent[IN_FLIGHT:]]
    assert asked == ["b", "c"]
    with pytest.raises(Unreached):
        await found.ask(NODE, "x", of="greedy")
    others[1].cancel()
    await asyncio.wait({others[1]})
    one.take(res(ids[2]))
    await asyncio.wait({greedy[2]})
    again = ask("greedy")
    await begun(line, IN_FLIGHT + 3)
    left = [*greedy[3:], *others, again]
    for task in left:
        task.cancel()
    await asyncio.wait(left)
    assert found.waiting() == {NODE: 0}


async def test_half_of_the_places_are_waited_for_and_no_more() -> None:
    """The queue is bounded, and a place that comes to somebody gone goes on."""
    places = Places(4)
    async with places.one("a"), places.one("a"), places.one("a"):
        async with places.one("a"):
            tasks = [asyncio.create_task(places._enter("b")) for _ in range(3)]
            await asyncio.sleep(0)
            done, waiting = await asyncio.wait(tasks, timeout=0)
            assert [type(task.exception()) for task in done] == [Full]
        gone, stays = (task for task in tasks if task in waiting)
        gone.cancel()
        await asyncio.wait({gone, stays})
        assert (gone.cancelled(), stays.exception()) == (True, None)
        assert places.taken == 4


async def test_newer_channel_replaces_the_older() -> None:
    """Which is told so; its late end takes nothing away."""
    old_line, line = FakeLine(), FakeLine()
    old, new = channel(old_line), channel(line)
    found = doors(old, new)
    found.leave(old)
    asking = asyncio.create_task(found.ask(NODE, "x", of="a"))
    (key,) = await begun(line, 1)
    new.take(res(key))
    assert await asking == "x"
    assert old_line.closed == [REPLACED]


async def test_end_closes_every_channel() -> None:
    """1001, and nobody is asked any more."""
    lines = [FakeLine(), FakeLine()]
    found = doors(channel(lines[0]), channel(lines[1], "b"))
    await found.shut()
    assert [line.closed for line in lines] == [[GOING], [GOING]]
    with pytest.raises(Unreached):
        await found.ask(NODE, "x", of="a")


async def test_nudge_forgets_a_broken_line() -> None:
    """The others are nudged all the same."""
    line = FakeLine()
    found = doors(channel(FakeLine(broken=True), "a"), channel(line, "b"))
    await found.nudge()
    assert line.sent == ['{"t":"nudge"}']
    assert set(found.waiting()) == {"b"}
