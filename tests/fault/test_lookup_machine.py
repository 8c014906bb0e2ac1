# SPDX-License-Identifier: Apache-2.0
"""Lookups in any order, under kill -9 of daemon, worker and exchange and a cut line.

A state machine drives real processes; :mod:`tests.support.lookup_book` says what must
hold after every step. The seed is printed; ``FEP_SEED`` repeats the steps, though not
the milliseconds. ``FEP_TRIES=full`` takes more of them.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)

from sandbox.consumer.client import Heard, Question
from tests.support.answering import POLICY
from tests.support.lookup_book import Book
from tests.support.lookup_site import Answer, DoorAsker, Site, person, running_site
from tests.support.postgres import find_programs
from tests.support.tries import FULL

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(find_programs() is None, reason="needs PostgreSQL"),
]

EXAMPLES, STEPS = (20, 25) if FULL else (6, 12)
BUDGET_S = 90.0 if FULL else 25.0
"""Steps that would begin later are left out."""
FRESH_S = 90.0
"""A message is asked again for so long; it is good for 120 s."""
CALM_S = 20.0
"""Longest time until a department answers to which nothing is done."""

PICK = st.integers(0, 99)
"""Which of the messages so far; what is drawn never depends on the time."""
WAYS = st.lists(st.booleans(), min_size=1, max_size=5)
"""For each message of a step its way: the listener, or else the relay."""
MOMENT = st.floats(0.0, 0.04)
"""When to strike after requests were sent, seconds; an answer takes 0.01 or so."""
FLASHES = st.lists(st.floats(0.2, 1.2), max_size=2)
"""Lives that end before or soon after recovery, seconds."""


def _nothing() -> None:
    """There is nothing to release."""


Act = TypeVar("Act", bound=Callable[..., None])


def in_time(act: Act) -> Act:
    """A step that does nothing once the budget is used up, or after a fault: the
    processes remember it, so a repetition would show another one."""

    @wraps(act)
    def step(self: Lookups, **drawn: Any) -> None:
        if time.monotonic() > self.until or self.faults:
            return
        self.steps.append(f"{act.__name__}({drawn})")
        try:
            act(self, **drawn)
        except BaseException as e:
            self.faults.append(e)
            print("steps:", *self.steps, sep="\n  ")  # noqa: T201
            raise

    return cast(Act, step)


class Lookups(RuleBasedStateMachine):
    """See the module. A subclass has the site, the asker and the book."""

    site: ClassVar[Site]
    asker: ClassVar[DoorAsker]
    book: ClassVar[Book]
    until: float
    faults: ClassVar[list[BaseException]]
    numbers: ClassVar[Iterator[int]] = count(1)

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[str] = []
        self.messages: list[tuple[Question, float]] = []
        self.shaken = False
        self.release: Callable[[], object] = _nothing
        """Lets the table be read again."""

    @initialize()
    @in_time
    def begin(self) -> None:
        """Whatever the last example left, there is a daemon and nothing disturbs it."""
        self.site.sandbox.faults()
        if not self.site.alive:
            self._start()

    # --- calm -----------------------------------------------------------------------

    @rule(ways=WAYS)
    @in_time
    def ask(self, ways: list[bool]) -> None:
        """New messages, all at a time."""
        asks = [(self._new(), door) for door in ways]
        for heard in self._calmly(asks):
            if not self.shaken:
                assert heard.reply.status == "ok", heard.reply

    @rule(asks=st.lists(st.tuples(PICK, st.booleans()), min_size=1, max_size=5))
    def ask_again(self, asks: list[tuple[int, bool]]) -> None:
        """Messages that were answered or lost, sealed anew."""
        self._calmly([(self._picked(pick), door) for pick, door in asks])

    @rule(pick=PICK, door=st.booleans())
    @in_time
    def ask_other_bytes(self, pick: int, door: bool) -> None:
        """Another message under an id that was used."""
        jti = self._picked(pick).request.jti
        self._calmly([(self._new(jti=jti), door)])

    @rule(ways=WAYS, impostor=st.booleans())
    @in_time
    def twins(self, ways: list[bool], impostor: bool) -> None:
        """One message several times at once, perhaps beside another of its id."""
        self._calmly(self._twins(ways, impostor=impostor))

    @rule(ways=WAYS)
    @in_time
    def carried_twice(self, ways: list[bool]) -> None:
        """The exchange hands each request over twice."""
        self._faulty(act="duplicate", count=len(ways))
        self._calmly([(self._new(), False) for _ in ways])
        self.site.sandbox.faults()

    @rule(name=st.sampled_from(["show", "mask:name"]))
    @in_time
    def turn(self, name: str) -> None:
        """Another policy from now on; what was answered keeps its reply."""
        self._activate(name)

    # --- under kills ----------------------------------------------------------------

    @rule(ways=WAYS, impostor=st.booleans(), moment=MOMENT, flashes=FLASHES)
    @in_time
    def kill(
        self, ways: list[bool], impostor: bool, moment: float, flashes: list[float]
    ) -> None:
        """kill -9 while requests are on their way."""

        def strike() -> None:
            time.sleep(moment)
            self.site.kill()

        asks = [*self._twins(ways, impostor=impostor), (self._new(), ways[0])]
        self._meanwhile(asks, strike)
        self._reborn(flashes)

    @rule(ways=WAYS, impostor=st.booleans(), answered=st.booleans(), flashes=FLASHES)
    @in_time
    def kill_while_the_source_is_asked(
        self, ways: list[bool], impostor: bool, answered: bool, flashes: list[float]
    ) -> None:
        """kill -9 while it is asked, or at the moment at which it answers."""

        def strike() -> None:
            self._until_asked()
            if answered:
                self.release()
            self.site.kill()

        asks = [*self._twins(ways, impostor=impostor), (self._new(), ways[0])]
        self._meanwhile(asks, strike, held=True)
        self._reborn(flashes)

    @rule(ways=WAYS, name=st.sampled_from(["show", "mask:name"]))
    @in_time
    def turn_meanwhile(self, ways: list[bool], name: str) -> None:
        """Another policy while the source is asked."""
        asks = self._twins(ways, impostor=False)
        self._meanwhile(asks, lambda: self._activate(name), held=True)
        self._calmly(asks)

    @rule(ways=WAYS, flashes=FLASHES)
    @in_time
    def kill_at_the_first_reply(self, ways: list[bool], flashes: list[float]) -> None:
        """Whatever has left by then is in the log."""
        pid = self.site.pid
        self.asker.arrived = lambda: os.kill(pid, signal.SIGKILL)
        try:
            self._meanwhile([(self._new(), door) for door in ways], lambda: None)
        finally:
            self.asker.arrived = lambda: None
        self.site.kill()
        self._reborn(flashes)

    @rule(ways=WAYS, moment=MOMENT)
    @in_time
    def stop(self, ways: list[bool], moment: float) -> None:
        """SIGTERM: what is in flight is answered, then it ends well."""

        def strike() -> None:
            time.sleep(moment)
            assert self.site.agent.stop(signal.SIGTERM) == 0

        self._meanwhile([(self._new(), door) for door in ways], strike)
        assert not self.site.kept().unfinished()
        self._start()

    @rule(ways=WAYS, held=st.booleans(), moment=MOMENT)
    @in_time
    def kill_worker(self, ways: list[bool], held: bool, moment: float) -> None:
        """kill -9 of the process that asks the source; the daemon answers all."""

        def strike() -> None:
            if held:
                self._until_asked()
            time.sleep(moment)
            self.shaken |= self.site.kill_worker()

        asks = self._twins(ways, impostor=False)
        for answer in self._meanwhile(asks, strike, held=held):
            assert isinstance(answer, Heard)

    @rule(ways=WAYS, held=st.booleans(), when=st.sampled_from(["before", "after"]))
    @in_time
    def cut(self, ways: list[bool], held: bool, when: str) -> None:
        """The line to the exchange breaks with a request or a reply on it."""
        self._faulty(act="cut", when=when, count=1)
        asks = [*self._twins(ways, impostor=False), (self._new(), False)]
        self._meanwhile(asks, lambda: time.sleep(0.02), held=held)
        self.site.sandbox.faults()
        self._calmly(asks)

    @rule(ways=WAYS, moment=MOMENT)
    @in_time
    def kill_exchange(self, ways: list[bool], moment: float) -> None:
        """kill -9 of the exchange, which is witness too; its next life agrees."""

        def strike() -> None:
            time.sleep(moment)
            self.site.sandbox.kill()
            self.site.sandbox.start()

        asks = [*self._twins(ways, impostor=False), (self._new(), False)]
        self._meanwhile(asks, strike)
        self._calmly(asks)

    # --- after all ------------------------------------------------------------------

    def teardown(self) -> None:
        """After the budget too: it is short."""
        if self.steps[1:] and not self.faults:
            self.until = time.monotonic() + 60.0
            self.judge()

    @in_time
    def judge(self) -> None:
        """All that is still fresh is asked once more; the log is taken and judged."""
        self.site.sandbox.faults()
        fresh = self._fresh()
        for start in range(0, len(fresh), 8):
            some = fresh[start : start + 8]
            self._calmly([(message, i % 2 > 0) for i, message in enumerate(some)])
        self.book.check_all_answered(fresh)
        self.book.check_export()

    # --- parts ----------------------------------------------------------------------

    def _new(self, **changes: Any) -> Question:
        message = self.asker.message(person(next(self.numbers)), **changes)
        self.messages.append((message, time.monotonic()))
        self.book.asks(message)
        return message

    def _fresh(self) -> list[Question]:
        since = time.monotonic() - FRESH_S
        return [message for message, at in self.messages if at > since]

    def _picked(self, pick: int) -> Question:
        """One of the messages that may be asked again; a new one if all are old."""
        fresh = self._fresh() or [self._new()]
        return fresh[pick % len(fresh)]

    def _twins(
        self, ways: Sequence[bool], *, impostor: bool
    ) -> list[tuple[Question, bool]]:
        message = self._new()
        asks = [(message, door) for door in ways]
        if impostor:
            asks.append((self._new(jti=message.request.jti), ways[0]))
        return asks

    def _activate(self, name: str) -> None:
        self.site.agent.policy(POLICY.replace('name = "show"', f'name = "{name}"'))
        self.site.client.post("/v1/policy/activate", {})

    def _faulty(self, **fault: Any) -> None:
        self.site.sandbox.faults({"kind": "relay", **fault})

    def _meanwhile(
        self,
        asks: Sequence[tuple[Question, bool]],
        act: Callable[[], None],
        *,
        held: bool = False,
    ) -> list[Answer]:
        """Ask, and act before the answers come, perhaps while nobody can read the
        table; what was heard is in the book, and the book is right."""

        def both() -> None:
            act()
            self.release()

        with self.site.paused() if held else nullcontext(_nothing) as self.release:
            answers = self.asker.meanwhile(asks, both)
        for (message, _), answer in zip(asks, answers, strict=True):
            if isinstance(answer, Heard):
                self.book.hears(message, answer)
        self.site.until(lambda: self.site.busy() == 0)
        self.book.check()
        return answers

    def _until_asked(self) -> None:
        """Until the source is asked, if it is at all: an impostor may come first."""
        until = time.monotonic() + 2.0
        while time.monotonic() < until and not self.site.busy():
            time.sleep(0.01)

    def _calmly(self, asks: Sequence[tuple[Question, bool]]) -> list[Heard]:
        """Ask until everybody is answered: the line may be about to come back."""
        found: dict[int, Heard] = {}
        until = time.monotonic() + CALM_S
        while missing := [i for i in range(len(asks)) if i not in found]:
            assert time.monotonic() < until, self.site.agent.tail()
            answers = self._meanwhile([asks[i] for i in missing], lambda: None)
            pairs = zip(missing, answers, strict=True)
            found |= {i: a for i, a in pairs if isinstance(a, Heard)}
        if any(heard.reply.status == "ok" for heard in found.values()):
            self.shaken = False
        return [found[i] for i in range(len(asks))]

    def _reborn(self, flashes: Sequence[float]) -> None:
        self.book.dies()
        for seconds in flashes:
            self.site.flash(seconds)
            self.book.dies()
        self._start()

    def _start(self) -> None:
        self.site.start()
        self.shaken = False
        self.book.check_alive()


def _each_kill(machine: Lookups) -> None:
    """Whatever is drawn later: it is killed at work, in each way."""
    machine.begin()
    ways = [False, True, False, True]
    for answered in (False, True):
        machine.kill_while_the_source_is_asked(
            ways=ways, impostor=not answered, answered=answered, flashes=[]
        )
    machine.kill_at_the_first_reply(ways=[True] * 5, flashes=[0.8])
    machine.twins(ways=ways, impostor=True)
    machine.kill_worker(ways=ways, held=True, moment=0.0)
    machine.teardown()


@contextmanager
def _first_of(faults: list[BaseException]) -> Iterator[None]:
    """What failed first, instead of what a repetition made of it."""
    try:
        yield
    except BaseException:
        if faults:
            raise faults[0] from None
        raise


def test_no_reply_is_unlogged_and_no_request_is_asked_twice() -> None:
    """In whatever order messages come, come again, and processes die."""
    number = int(os.environ.get("FEP_SEED") or random.SystemRandom().randrange(10**6))
    print(f"FEP_SEED={number}")  # noqa: T201 - to repeat what failed
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        here = stack.enter_context(running_site(place))
        who = stack.enter_context(DoorAsker(here))
        kept = Book(here, place)

        @seed(number)
        class Here(Lookups):
            """At this site."""

            site = here
            asker = who
            book = kept
            until = time.monotonic() + BUDGET_S
            faults: ClassVar[list[BaseException]] = []

        with _first_of(Here.faults):
            _each_kill(Here())
            run_state_machine_as_test(
                Here,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    database=None,
                    phases=[Phase.generate],
                    report_multiple_bugs=False,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        print(dict(kept.counts))  # noqa: T201 - so that one sees what was struck
        assert kept.counts["replies"] > 0
