# SPDX-License-Identifier: Apache-2.0
"""Whatever is done to a log, and whenever it dies, it is as a simple model says."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.audit.events import AdminAction, BatchLeft
from agent.audit.log import NEW, OPEN, OTHER, Evidence, Same
from agent.audit.witness import Witness
from agent.crypto.jose import message_digest
from agent.crypto.tree import leaf_hash
from tests.support.audit_log import (
    CONSUMER,
    Clock,
    Site,
    WitnessDouble,
    decided,
    jti_of,
    naive_root,
    reply_of,
    request_of,
    site,
)
from tests.support.tries import tries

NUMBERS = st.integers(0, 5)
EXP = 1 << 40


class Log(RuleBasedStateMachine):
    """A log beside two dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp(prefix="fep-test-", dir=_memory()))
        self.life = 0
        self.clock, self.double = Clock(), WitnessDouble()
        self.begun: dict[int, str] = {}
        self.open: set[int] = set()
        self.settled: dict[int, int] = {}
        self.batches: set[int] = set()
        self.kinds: list[str] = []
        self._start()

    def _start(self) -> None:
        self.stack = AsyncExitStack()
        entered = self.stack.enter_async_context(
            site(self.folder / str(self.life), clock=self.clock)
        )
        self.site: Site = self.loop.run_until_complete(entered)
        self.kinds.append("audit.started")
        self.witness: Witness = self.site.witness(self.double)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self.loop.close()
        shutil.rmtree(self.folder)

    async def _begin(self, i: int, digest: str) -> object:
        return await self.site.log.begin(CONSUMER, jti_of(i), digest=digest, exp=EXP)

    @rule(i=NUMBERS, other=st.booleans())
    def begin(self, i: int, other: bool) -> None:
        """``other``: another message under the same jti."""
        digest = message_digest(request_of(i + 100 if other else i))
        got = self.loop.run_until_complete(self._begin(i, digest))
        if i not in self.begun:
            assert got == NEW
            self.begun[i] = digest
            self.open.add(i)
        elif self.begun[i] != digest:
            assert got == OTHER
        else:
            assert got == (Same(reply_of(i)) if i in self.settled else OPEN)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        i = data.draw(st.sampled_from(sorted(self.open)))
        log = self.site.log
        day = log.today()
        n = self.loop.run_until_complete(
            log.settle(
                CONSUMER,
                jti_of(i),
                event=decided(i, log.key_for(day), day=day, request=self.begun[i]),
                request=request_of(i),
                reply=reply_of(i),
            )
        )
        assert n == len(self.kinds)
        self.open.remove(i)
        self.settled[i] = n
        self.kinds.append("lookup.decided")

    @rule(seq=st.integers(1, 3))
    def batch(self, seq: int) -> None:
        event = BatchLeft("1/1", 1, seq, "sha256:" + "0" * 64, 1, 0, 0, 9)
        self.loop.run_until_complete(self.site.log.batch_left(event))
        if seq not in self.batches:
            self.kinds.append("batch.left")
        self.batches.add(seq)

    @rule(count=st.integers(1, 300))
    def append(self, count: int) -> None:
        async def many() -> None:
            log = self.site.log
            await asyncio.gather(
                *(log.append(AdminAction(i, "x", None)) for i in range(count))
            )

        self.loop.run_until_complete(many())
        self.kinds += ["admin.action"] * count

    @rule()
    def head(self) -> None:
        self.loop.run_until_complete(self.witness.round())
        assert self.witness.state == "agrees"
        assert self.double.known.size == len(self.kinds)

    @rule()
    def restart(self) -> None:
        self.loop.run_until_complete(self.stack.aclose())
        self._start()

    @rule()
    def die(self) -> None:
        """The files as a killed process leaves them, in another folder."""
        old = self.folder / str(self.life)
        self.life += 1
        shutil.copytree(old, self.folder / str(self.life))
        self.loop.run_until_complete(self.stack.aclose())
        self._start()
        left = {r.jti for r in self.site.log.open_requests()}
        assert left == {jti_of(i) for i in self.open}

    @invariant()
    def as_the_model_says(self) -> None:
        self.loop.run_until_complete(self._check())

    async def _check(self) -> None:
        log = self.site.log
        lines: list[str] = []
        while page := await log.lines(len(lines), 1 << 40):
            lines += page
        assert [json.loads(line)["kind"] for line in lines] == self.kinds
        hashes = [leaf_hash(line.encode()) for line in lines]
        assert log._commit.tree.root() == naive_root(hashes)
        for i, n in self.settled.items():
            assert await log.evidence(n) == Evidence(request_of(i), reply_of(i))


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


TestLog = Log.TestCase
TestLog.settings = settings(tries(25), stateful_step_count=20)
