# SPDX-License-Identifier: Apache-2.0
"""Asks of many to few statements: bounds, fairness, and who pays for a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from agent.errors import (
    ConfigInvalid,
    FepError,
    InternalFault,
    SourceBusy,
    SourceFailed,
    SourceLogin,
    SourceText,
    SourceTimeout,
    WorkerDied,
)
from agent.lookup.query import BAD, TWICE, Ask
from agent.lookup.query.gather import FIRST_KEYS, Bounds, Queue, Sources
from agent.lookup.query.process import Seams
from agent.lookup.query.talk import LANES, LARGE, Opening, Shape
from agent.model.job import LINE_CAP
from tests.support.columns import bound

AS_OF = "2026-11-21T08:00:00Z"
ITEMS = (bound("id", "C", 18, key=True), bound("name", "C", 20))
LONG = (bound("id", "C", 18, key=True), bound("note", "M"))


def ask(*keys: str, items: Any = ITEMS, table: str = "person") -> Ask:
    return Ask("hr", (table,), items, ("id",), tuple((k,) for k in keys))


class FakeSource:
    """Answers when it is let; keys that begin with ``x`` are no row.

    Args:
        clock: moved by ``took`` seconds with each statement.
    """

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.open = asyncio.Event()
        self.open.set()
        self.faults: dict[str, FepError] = {}
        self.now = 0.0
        self.key_s = 0.0
        self.limit_s = 3.0
        self.under_way = 0
        self.most_under_way = 0
        self.closed = False

    async def warm(self) -> None: ...

    async def ask(
        self, shape: Shape, keys: Sequence[Sequence[str]], split: Sequence[int]
    ) -> list[tuple[str, Any, int]]:
        self.asked.append([k for (k,) in keys])
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await self.open.wait()
        finally:
            self.under_way -= 1
        took = self.key_s * len(keys)
        self.now += min(took, self.limit_s)
        for (key,) in keys:
            if key in self.faults:
                raise self.faults[key]
        if took > self.limit_s:
            raise SourceTimeout("SQLSTATE 57014")
        found, start = [], 0
        for size in split:
            rows = [self.row(k) for (k,) in keys[start : start + size]]
            found.append((AS_OF, LARGE if LARGE in rows else rows, 100))
            start += size
        return found

    def row(self, key: str) -> Any:
        match key[0]:
            case "x":
                return None
            case "2":
                return True
            case "L":
                return LARGE
        return [key, False]

    async def close(self) -> None:
        self.closed = True
        self.open.set()


def queue_of(source: FakeSource, **bounds: Any) -> Queue:
    return Queue(source, Bounds(**bounds), lambda: source.now)


async def started(*asks: Any) -> list[asyncio.Task[Any]]:
    tasks = [asyncio.create_task(a) for a in asks]
    await asyncio.sleep(0)
    return tasks


async def test_rows_come_back_in_the_order_of_the_keys() -> None:
    """A row, no row, a double key and a faulty value are told apart."""
    found = await queue_of(FakeSource()).fetch(ask("a", "x", "2", "b"))

    assert found.rows == (("a", BAD), None, TWICE, ("b", BAD))
    assert found.as_of == AS_OF


async def test_what_waits_is_gathered_into_one_statement() -> None:
    """While a statement is under way asks of its shape gather for the next."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    tasks = await started(*(queue.fetch(ask(f"a{i}")) for i in range(40)))
    source.open.set()
    found = await asyncio.gather(*tasks)

    assert [len(keys) for keys in source.asked] == [1, 39]
    assert [f.rows[0][0] for f in found] == [f"a{i}" for i in range(40)]


async def test_asks_of_other_shapes_do_not_wait_for_a_slow_one() -> None:
    """Each shape has its statement, up to the lanes of a source."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    tables = [f"t{i}" for i in range(LANES + 3)]
    tasks = await started(*(queue.fetch(ask("a", table=t)) for t in tables))
    await asyncio.sleep(0)
    assert source.under_way == LANES

    source.open.set()
    await asyncio.gather(*tasks)
    assert len(source.asked) == len(tables)
    assert source.most_under_way == LANES


async def test_ten_thousand_asks_are_bounded() -> None:
    """Beyond the bound an ask is refused at once, and nobody loses an answer."""
    source = FakeSource()
    queue = queue_of(source, asks=100)
    source.open.clear()
    tasks = await started(*(queue.fetch(ask(f"a{i}")) for i in range(10_000)))
    await asyncio.sleep(0)
    refused = [t for t in tasks if t.done()]
    assert len(refused) == 9_900
    assert all(isinstance(t.exception(), SourceBusy) for t in refused)

    source.open.set()
    await asyncio.gather(*(t for t in tasks if not t.done()))
    assert (await queue.fetch(ask("a"))).rows[0] is not None


async def test_keys_are_bounded_too() -> None:
    """Few asks with very many keys are too much as well."""
    queue = queue_of(FakeSource(), keys=10)
    await queue.fetch(ask(*"abcdefghij"))
    with pytest.raises(SourceBusy):
        await queue.fetch(ask(*"abcdefghijk"))


async def test_a_cancelled_ask_costs_the_others_nothing() -> None:
    """What nobody waits for is not sent; what was sent with it is answered."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    first, gone, last = await started(
        queue.fetch(ask("a")), queue.fetch(ask("b")), queue.fetch(ask("c"))
    )
    gone.cancel()
    await asyncio.sleep(0)
    source.open.set()

    assert (await first).rows == (("a", BAD),)
    assert (await last).rows == (("c", BAD),)
    assert source.asked == [["a"], ["c"]]


async def test_an_ask_that_is_cancelled_under_way_costs_nothing_either() -> None:
    """Its answer is dropped, and the next statement starts."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    gone, last = await started(queue.fetch(ask("a")), queue.fetch(ask("b")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    source.open.set()

    assert (await last).rows == (("b", BAD),)


async def test_no_answer_in_time_is_a_timeout() -> None:
    """An ask waits no longer than it may, and frees its place."""
    source = FakeSource()
    queue = queue_of(source, wait_s=0.01, asks=1)
    source.open.clear()
    with pytest.raises(SourceTimeout, match=r"no answer for 0\.01 s"):
        await queue.fetch(ask("a"))
    source.open.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert (await queue.fetch(ask("b"))).rows == (("b", BAD),)


async def test_a_poisoned_key_fails_only_its_own_ask() -> None:
    """A gathered statement that fails is repeated for each ask alone."""
    source = FakeSource()
    queue = queue_of(source)
    source.faults["bad"] = SourceText("SQLSTATE 22P05")
    source.open.clear()
    tasks = await started(*(queue.fetch(ask(k)) for k in ("a", "b", "bad", "c")))
    source.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(f, SourceText) for f in found] == [False, False, True, False]
    assert source.asked == [["a"], ["b", "bad", "c"], ["b"], ["bad"], ["c"]]


@pytest.mark.parametrize("fault", [WorkerDied, SourceLogin])
async def test_what_would_fail_again_is_not_repeated(fault: type[FepError]) -> None:
    """A dead worker or a refused login fails all that shared the statement."""
    source = FakeSource()
    queue = queue_of(source)
    source.faults["b"] = fault("told")
    source.open.clear()
    tasks = await started(*(queue.fetch(ask(k)) for k in "abc"))
    source.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(f) for f in found[1:]] == [fault, fault]
    assert source.asked == [["a"], ["b", "c"]]
    assert (await queue.fetch(ask("d"))).rows == (("d", BAD),)


async def test_statements_grow_while_the_source_is_quick() -> None:
    """The first statement has few keys, the next ones up to a thousand."""
    source = FakeSource()
    queue = queue_of(source)
    await queue.fetch(ask(*(f"a{i}" for i in range(1000))))
    await queue.fetch(ask(*(f"a{i}" for i in range(1000))))

    assert [len(k) for k in source.asked] == [FIRST_KEYS, 256, 680, 1000]


async def test_a_table_without_index_is_asked_key_by_key() -> None:
    """When each key takes long, statements get short instead of timing out."""
    source = FakeSource()
    source.key_s = 0.2
    queue = queue_of(source)
    found = await queue.fetch(ask(*(f"a{i}" for i in range(70))))

    assert all(row is not None for row in found.rows)
    assert [len(k) for k in source.asked[:4]] == [FIRST_KEYS, 16, 4, 1]
    assert {len(k) for k in source.asked[3:]} == {1}


async def test_a_key_that_is_too_slow_alone_is_a_timeout() -> None:
    """One key above the source's limit fails, and the next ask is asked."""
    source = FakeSource()
    source.key_s = 5.0
    queue = queue_of(source)
    with pytest.raises(SourceTimeout, match="57014"):
        await queue.fetch(ask("a"))
    source.key_s = 0.0

    assert (await queue.fetch(ask("b"))).rows == (("b", BAD),)


async def test_long_texts_make_short_statements() -> None:
    """What a statement may find fits in memory, whatever the keys are."""
    source = FakeSource()
    await queue_of(source).fetch(ask(*(f"a{i}" for i in range(40)), items=LONG))

    assert max(len(k) for k in source.asked) == 15


async def test_keys_of_4000_letters_do_not_break_the_line() -> None:
    """A thousand of them are cut into statements that fit a line."""
    source = FakeSource()
    queue = queue_of(source)
    found = await queue.fetch(ask(*("\x01" * 4000 for _ in range(1000))))

    assert len(found.rows) == 1000
    most = max(sum(map(len, keys)) for keys in source.asked)
    assert most * 6 < LINE_CAP


async def test_an_answer_beyond_a_line_is_refused_to_who_asked() -> None:
    """An ask whose rows are too long fails alone."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    tasks = await started(*(queue.fetch(ask(k)) for k in ("a", "b", "L", "c")))
    source.open.set()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert [isinstance(f, SourceFailed) for f in found] == [False, False, True, False]


async def test_an_answer_of_another_length_is_a_defect() -> None:
    """Rows are never given to the wrong key: a short answer fails all of it."""
    source = FakeSource()

    async def short(*_: object) -> list[tuple[str, Any, int]]:
        return [(AS_OF, [], 1)]

    source.ask = short  # type: ignore[method-assign]
    with pytest.raises(InternalFault):
        await queue_of(source).fetch(ask("a"))


async def test_closing_fails_what_waits_and_what_comes() -> None:
    """Nobody waits for a source that is closed."""
    source = FakeSource()
    queue = queue_of(source)
    source.open.clear()
    tasks = await started(queue.fetch(ask("a")), queue.fetch(ask("b")))
    await queue.close()
    found = await asyncio.gather(*tasks, return_exceptions=True)

    assert source.closed
    assert isinstance(found[1], WorkerDied)
    with pytest.raises(WorkerDied):
        await queue.fetch(ask("c"))


async def test_shapes_are_forgotten() -> None:
    """A requester that varies its fields without end does not fill the memory."""
    source = FakeSource()
    queue = queue_of(source)
    for i in range(2000):
        await queue.fetch(ask("a", table=f"t{i}"))

    assert len(queue._forms) <= 256


def test_an_ask_shows_no_key() -> None:
    """repr() of an ask, as a log or a traceback would print it, holds no key."""
    assert "110101199003070011" not in repr(ask("110101199003070011"))


async def test_a_renewed_source_ends_what_is_under_way_and_begins_anew() -> None:
    """Other settings: who asked before gets the old worker's answer, the next the new.

    Nothing is dropped in between.
    """
    opened: list[str] = []

    def opening(name: str) -> Opening:
        opened.append(name)
        raise ConfigInvalid(f"settings {len(opened)}")

    sources = Sources(opening, seams=Seams(uniform=lambda low, _high: low))
    for _ in range(2):
        with pytest.raises(SourceFailed, match=f"settings {len(opened) + 1}"):
            await sources.warm("hr")
        await sources.renew("hr")
    await sources.renew("never asked")
    assert opened == ["hr", "hr"]
    await sources.close()


async def test_settled_waits_for_what_is_under_way() -> None:
    """And for what waits behind it."""
    source = FakeSource()
    source.open.clear()
    queue = queue_of(source)
    asks = await started(*(queue.fetch(ask(f"k{n}")) for n in range(3)))
    settled = asyncio.create_task(queue.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    source.open.set()
    await asyncio.wait_for(settled, 60)
    assert len(await asyncio.gather(*asks)) == 3


@pytest.mark.parametrize("keys", [(), (("a",),) * 1001, (("a", "b"),), ((),)])
def test_an_ask_that_no_request_can_make_is_refused(keys: Any) -> None:
    """No key, too many, or keys of another width."""
    with pytest.raises(ValueError, match="expected"):
        Ask("hr", ("person",), ITEMS, ("id",), keys)


async def test_a_short_answer_moves_no_row_to_another_key() -> None:
    """What a broken answer held is asked anew, each ask alone, and counted once."""
    source = FakeSource()
    queue = queue_of(source)
    honest = source.ask

    async def shifted(shape: Shape, keys: Any, split: Any) -> Any:
        found = await honest(shape, keys, split)
        return [(a, rows[:-1], n) for a, rows, n in found] if len(split) > 1 else found

    source.ask = shifted  # type: ignore[method-assign]
    source.open.clear()
    wide = [f"a{i}" for i in range(FIRST_KEYS)]
    tasks = await started(*(queue.fetch(ask(*k)) for k in (["a"], ["b", "c"], wide)))
    source.open.set()
    found = await asyncio.gather(*tasks)

    assert [row[0] for row in found[1].rows] == ["b", "c"]
    assert [row[0] for row in found[2].rows] == wide
