# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the opener.

Rules

1. It is never needed: whoever asks while it is not up, or loses an answer because it
   dies, opens the request himself.
2. Whatever it sends is bounded and checked; a frame that the protocol does not have
   ends it.
3. It works on one request after the other and blocks until its answer is read, so the
   daemon reads at any time. How much it is sent is bounded by whoever lets lookups in.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

from agent.child.frames import Frame, Frames, Outbox
from agent.child.process import Child, Guard
from agent.crypto.jose import PrivateKey, PublicKey, Unverified, Verified
from agent.crypto.jwe import Sealed
from agent.errors import PeerFault, WorkerDied
from agent.lookup.opener.talk import CAP, Kind, answer_of, ask_body, keys_body

OPENER = (sys.executable, "-I", "-m", "agent.lookup.opener")
"""How it starts; its descriptor number follows."""
GUARD = Guard(rss_bytes=256 * 1024 * 1024, silence_s=30.0)


@dataclass(frozen=True)
class _Asked:
    """What waits for an answer.

    Args:
        answer: set when it is there.
        candidates: keys with which its signature could be checked.
    """

    answer: asyncio.Future[Unverified | Verified]
    candidates: tuple[PublicKey, ...]


class Opener:
    """Opens sealed requests in a process of its own.

    Args:
        keys: our keys of purpose ``decrypt``.
        command: how it starts.
        environ: environment to choose from; None is this process's.
        clock: monotonic seconds.
        guard: when it is given up.

    Raises:
        ValueError: a key of another purpose, which must not leave this process.
    """

    def __init__(
        self,
        keys: Sequence[PrivateKey],
        *,
        command: Sequence[str] = OPENER,
        environ: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        guard: Guard = GUARD,
    ) -> None:
        _refuse_others(keys)
        self._keys = keys
        self._command = command
        self._environ = os.environ if environ is None else environ
        self._clock = clock
        self._guard = guard
        self._numbers = count(1)
        self._waiting: dict[int, _Asked] = {}
        self._outbox: Outbox | None = None

    @property
    def up(self) -> bool:
        """Whether it works now."""
        return self._outbox is not None

    async def open(
        self, sealed: Sealed, candidates: tuple[PublicKey, ...]
    ) -> Unverified | Verified:
        """As :func:`agent.lookup.verify.uncover`.

        Raises:
            MalformedMessage, BadSignature, Undecryptable: as there.
            WorkerDied: it is not up, or died before its answer.
        """
        if self._outbox is None:
            raise WorkerDied("opener: it is not up")
        number = next(self._numbers) & 0xFFFFFFFF
        body = ask_body(sealed, candidates)
        asked = _Asked(asyncio.get_running_loop().create_future(), candidates)
        self._waiting[number] = asked
        self._outbox.put(Kind.ASK, number, body)
        return await asked.answer

    def renew(self, keys: Sequence[PrivateKey]) -> None:
        """Open with these keys from now on, in this process and in later ones.

        Raises:
            ValueError: a key of another purpose.
        """
        _refuse_others(keys)
        self._keys = keys
        if self._outbox is not None:
            self._outbox.put(Kind.KEYS, 0, keys_body(keys))

    async def live(self) -> None:
        """One process, from its start to its end, which is always an error.

        Raises:
            WorkerDied: it ended, or had to be ended.
        """
        child = Child(
            self._command, guard=self._guard, environ=self._environ, clock=self._clock
        )
        await child.start()
        outbox = Outbox(child.put, asyncio.get_running_loop().call_soon)
        outbox.put(Kind.KEYS, 0, keys_body(self._keys))
        try:
            await self._listen(child, outbox)
            raise await child.died()
        finally:
            await child.kill("closed by the daemon")

    async def _listen(self, child: Child, outbox: Outbox) -> None:
        frames = Frames(CAP)
        try:
            while data := await child.take(drained=False):
                for frame in frames.of(data):
                    self._take(frame, outbox)
        except ValueError:
            await child.kill("a message that the protocol does not have")
        finally:
            self._give_up()

    def _give_up(self) -> None:
        """Nobody waits for one that will not answer, however long its end takes."""
        self._outbox = None
        lost, self._waiting = self._waiting, {}
        for asked in lost.values():
            if not asked.answer.done():
                asked.answer.set_exception(WorkerDied("opener: it died"))

    def _take(self, frame: Frame, outbox: Outbox) -> None:
        match frame.kind:
            case Kind.READY:
                self._outbox = outbox
            case Kind.BEAT:
                pass
            case _:
                self._answer(frame)

    def _answer(self, frame: Frame) -> None:
        found = answer_of(frame.kind, frame.body)
        asked = self._waiting.get(frame.number)
        if asked is None:
            raise ValueError("an answer that nobody waits for")
        if isinstance(found, Verified) and all(
            found.kid != key.kid for key in asked.candidates
        ):
            raise ValueError("verified with a key that it was not given")
        del self._waiting[frame.number]
        if asked.answer.done():  # whoever asked has gone
            return
        if isinstance(found, PeerFault):
            asked.answer.set_exception(found)
        else:
            asked.answer.set_result(found)


def _refuse_others(keys: Sequence[PrivateKey]) -> None:
    if any(key.public.purpose != "decrypt" for key in keys):
        raise ValueError("the opener gets keys of purpose decrypt only")
