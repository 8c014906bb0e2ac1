# SPDX-License-Identifier: Apache-2.0
"""kill -9 of the daemon while it answers lookups, in every order that hypothesis finds.

Each request asks for a number of its own, and the source logs every statement with its
parameters: so it is the database that says how often a request was queried. What a
consumer was answered is held against the audit log, which is checked by the file that
imports nothing of ours.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    precondition,
    rule,
    run_state_machine_as_test,
)

from agent.audit import verify_log
from agent.crypto.jose import message_digest
from sandbox.consumer.client import Heard, Question
from tests.support.answering import POLICY, AnsweringAgent, Asker
from tests.support.postgres import Server, find_programs, private_server
from tests.support.sandbox_process import running_sandbox

pytestmark = pytest.mark.fault

FULL = os.environ.get("FEP_FULL") == "1"
EXAMPLES, STEPS = (12, 12) if FULL else (4, 8)
LIFE_S = 120
YOUNG_S = 80.0
"""A question so old is not asked again: it would be out of time."""
MASKED = POLICY.replace('name = "show"', 'name = "mask:name"')
_NUMBER = re.compile(r"9901020[0-9]{11}")


@dataclass
class Party:
    """All processes, and what was asked and answered over all examples."""

    agent: AnsweringAgent
    asker: Asker
    server: Server
    asked: dict[str, Question] = field(default_factory=dict)
    at: dict[str, float] = field(default_factory=dict)
    replies: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    others: set[str] = field(default_factory=set)
    kills: int = 0
    cut: int = 0

    def question(self) -> Question:
        """About a number that nobody was asked for before; every third is known."""
        n = len(self.asked)
        number = f"9901020{n:011d}"
        made = self.asker.question(number, iat=int(time.time()), exp=_end())
        self.asked[number], self.at[number] = made, time.monotonic()
        return made

    def note(self, question: Question, found: object) -> None:
        """Keep a signed answer; what is not signed counts as cut."""
        if not isinstance(found, Heard):
            self.cut += 1
        elif found.reply.reasons != ("time",):  # not kept, and judged anew
            self.replies[question.request.jti].add(found.jws)

    def ask(self, questions: list[Question]) -> None:
        """Ask at the same time and keep what comes."""
        for question, found in zip(
            questions, self.asker.ask_all(questions), strict=True
        ):
            self.note(question, found)

    def queried(self) -> Counter[str]:
        """Number -> statements that had it, as the database logged them."""
        log = (self.server.data / "log").read_text(errors="replace")
        lines = [line for line in log.splitlines() if "arameters: " in line]
        return Counter(n for line in lines for n in _NUMBER.findall(line))


def _end() -> int:
    return int(time.time()) + LIFE_S


@pytest.fixture
def party() -> Iterator[Party]:
    """Everything running, with a policy in force."""
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    people = [
        {"citizen_id": f"9901020{n:011d}", "name": f"人{n}", "birth_date": "1990-01-01"}
        for n in range(0, 3000, 3)
    ]
    with ExitStack() as stack:
        server = stack.enter_context(
            private_server(settings={"log_statement": "'all'"})
        )
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        (folder / "sandbox.toml").write_text("relay_timeout_s = 3\n")
        options = ("--config", str(folder / "sandbox.toml"))
        sandbox = stack.enter_context(running_sandbox(folder / "centre", *options))
        agent = AnsweringAgent(folder / "a", sandbox, people=people, server=server)
        agent.fep("enrol")
        stack.enter_context(agent.running())
        asker = stack.enter_context(Asker(folder / "q", sandbox))
        agent.fep("policy", "activate")
        agent.answering()
        asker.renew()
        yield Party(agent, asker, server)


class Machine(RuleBasedStateMachine):
    """What a consumer, a person and a power cut may do, in any order."""

    party: Party

    @rule(count=st.integers(1, 5))
    def ask(self, count: int) -> None:
        """New questions at the same time."""
        self.party.ask([self.party.question() for _ in range(count)])

    @precondition(lambda self: self.young())
    @rule(data=st.data(), times=st.integers(1, 3))
    def again(self, data: st.DataObject, times: int) -> None:
        """An old question, sealed anew, several times at once."""
        question = data.draw(st.sampled_from(self.young()))
        self.party.ask([self.party.asker.again(question) for _ in range(times)])

    @precondition(lambda self: self.young())
    @rule(data=st.data())
    def other(self, data: st.DataObject) -> None:
        """Another message under a used id."""
        party = self.party
        question = data.draw(st.sampled_from(self.young()))
        jti = question.request.jti
        other = party.asker.question("990102199999999999", jti=jti)
        found = party.asker.ask(other)
        if isinstance(found, Heard) and found.reply.reasons == ("replay",):
            party.others.add(found.jws)

    @rule(count=st.integers(1, 12), after_ms=st.integers(0, 60))
    def kill(self, count: int, after_ms: int) -> None:
        """kill -9 while questions are on their way; then start again."""
        party = self.party
        questions = [party.question() for _ in range(count)]
        asking = threading.Thread(target=party.ask, args=(questions,))
        asking.start()
        time.sleep(after_ms / 1000)
        party.agent.stop(signal.SIGKILL)
        party.kills += 1
        party.agent.start()
        party.agent.answering()
        asking.join()
        party.ask([party.asker.again(q) for q in questions])

    @rule(text=st.sampled_from([POLICY, MASKED]))
    def turn(self, text: str) -> None:
        """Another policy from now on."""
        self.party.agent.policy(text)
        self.party.agent.client().post("/v1/policy/activate", {})

    def young(self) -> list[Question]:
        """Questions that are not out of time."""
        since = time.monotonic() - YOUNG_S
        party = self.party
        return [q for n, q in party.asked.items() if party.at[n] > since]


def test_no_unlogged_answer_and_no_second_query(party: Party) -> None:
    """For any jti: at most one query, one signed reply, and that one is in the log."""

    class Bound(Machine):
        pass

    Bound.party = party
    run_state_machine_as_test(
        Bound,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=(Phase.generate,),  # the processes remember: nothing can be shrunk
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
    machine = Machine()
    machine.party = party
    while party.kills < 3:  # whatever was drawn: it was killed at work
        machine.kill(count=8, after_ms=7 * party.kills + 3)
    records = _exported(party)
    decided = [r for r in records if r["kind"] == "lookup.decided"]
    logged = {r["reply"] for r in decided}
    for replies in party.replies.values():
        assert len(replies) == 1, "two answers to one message"
        assert message_digest(next(iter(replies))) in logged, "an unlogged answer"
    assert {message_digest(text) for text in party.others} <= logged
    answered = Counter(r["jti"] for r in decided if tuple(r["reasons"]) != ("replay",))
    assert max(answered.values()) == 1, "two decisions about one message"
    queried = party.queried()
    assert set(queried) <= set(party.asked)
    assert max(queried.values()) == 1, "a second query for one jti"
    assert queried["990102199999999999"] == 0
    assert len(queried) > 10, "the source's log holds no keys: nothing was proven"


def _exported(party: Party) -> list[dict[str, Any]]:
    """All records, of a log that one file alone finds good."""
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "log")
        party.agent.fep("audit", "export", out)
        done = subprocess.run(
            [sys.executable, "-I", str(verify_log.__file__), out],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    client, found = party.agent.client(), []
    before: dict[str, Any] = {}
    while True:
        page = client.post("/v1/audit/search", {"limit": 1000, **before})
        found += page["records"]
        if page["next"] is None:
            return found
        before = {"before": page["next"]}
