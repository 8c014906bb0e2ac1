# SPDX-License-Identifier: Apache-2.0
"""Commands of the exchange: fetched, judged, carried out one after the other, answered.

Rules

1. The exchange is asked only after a hint of a heartbeat's answer; nobody signed that.
2. ``control.commands`` judges. Who may be believed is what the directory says that was
   fetched within its time: a revoked key must not order anything because the exchange
   cannot be reached.
3. A command is put down before it is carried out, so that it never is twice, also if
   the daemon ends meanwhile: what a crash left is answered ``failed: interrupted``.
   The same message again gets the same result, and counts as a replay if the exchange
   had that one.
4. Each has its record in the audit log before anything is done for it, and so has each
   that is refused.
5. Commands hold up nothing: a loop of its own, an end for each, a defect in one ends
   neither the loop nor the daemon.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol, cast

from agent.audit.events import (
    CommandEnded,
    CommandRefused,
    CommandsCrowded,
    CommandTaken,
    ExchangeTrouble,
    Recorded,
    Tell,
)
from agent.control.commands import Here, Judged, Pace, judge
from agent.crypto.jose import Signer
from agent.errors import (
    DirectoryStale,
    ExchangeRefused,
    ExchangeUnreachable,
    FepError,
    InternalFault,
    Interrupted,
    OperatorFault,
    PeerFault,
    UnknownKey,
)
from agent.state.commands import Commands, KeptCommand
from agent.wire import command as wire
from agent.wire.command import Command, Result, Status
from agent.wire.directory import Directory
from agent.wire.grammar import format_time

PATIENCE_S = 120.0
"""So long a command may take, seconds."""
LEAST_S = 5.0
"""Pause between two fetches of the list, at least."""
UNTIMELY = frozenset({"early", "late"})
"""Reasons of a command that is not remembered: it lasts too long, or is over."""


class Line(Protocol):
    """The exchange, as far as commands need it."""

    async def commands(self) -> bytes:
        """The list of commands that wait for this node."""
        ...

    async def command_result(self, result: str) -> None:
        """Bring a signed result."""
        ...

    async def command_bundle(self, jti: str, bundle: bytes) -> None:
        """Bring the bundle that a command asked for."""
        ...


@dataclass(frozen=True)
class Hands:
    """What carries commands out; each raises FepError.

    Args:
        refresh: fetches the directory and what the centre wants.
        run: begins to read a resource.
        reconcile: begins to compare a resource with the centre.
        diagnostics: makes a bundle, at most ``wire.BUNDLE_CAP`` bytes.
    """

    refresh: Callable[[], Awaitable[object]]
    run: Callable[[str], Awaitable[object]]
    reconcile: Callable[[str], Awaitable[object]]
    diagnostics: Callable[[], Awaitable[bytes]]


@dataclass(frozen=True)
class Terms:
    """Whose commands are believed, for whom.

    Args:
        node: who we are.
        aud: our exchange.
        allowed: gives what the department allows now.
        directory: gives everybody's keys; raises UnknownKey, DirectoryStale.
        renew: fetches the directory; raises FepError.
    """

    node: str
    aud: str
    allowed: Callable[[], Collection[str]]
    directory: Callable[[], Directory]
    renew: Callable[[], Awaitable[object]]


@dataclass(frozen=True)
class Books:
    """Where it is put down.

    Args:
        kept: in the state.
        record: appends to the audit log, durable when it returns; raises FepError.
        tell: where events go.
        signer: signs results, of purpose ``sign``.
    """

    kept: Commands
    record: Callable[[Recorded], Awaitable[object]]
    tell: Tell
    signer: Signer


@dataclass(frozen=True)
class Chance:
    """Time.

    Args:
        now: aware UTC.
        clock: monotonic seconds.
        sleep: ``asyncio.sleep``.
    """

    now: Callable[[], datetime]
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]


class CommandLoop:
    """Carries out commands until it is cancelled.

    Args:
        line: the exchange.
        hands: see there.
        terms: see there.
        books: see there.
        chance: see there.

    Attributes:
        wanted: set to have the list fetched.
    """

    def __init__(
        self, line: Line, hands: Hands, terms: Terms, books: Books, chance: Chance
    ) -> None:
        self._line = line
        self._hands = hands
        self._terms = terms
        self._books = books
        self._chance = chance
        self._pace = Pace(chance.clock)
        self._crowded = False
        self.wanted = asyncio.Event()

    async def forever(self) -> None:
        """Finish what an earlier life began; then wait for hints."""
        if await asyncio.to_thread(self._books.kept.untold):
            self.wanted.set()
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            await self.once()
            await self._chance.sleep(max(LEAST_S, self._pace.wait_s()))

    async def once(self) -> None:
        """Tell what became of earlier commands, then take those that wait."""
        try:
            await self._forget()
            await self._catch_up()
            waiting = wire.parse_list(await self._line.commands())
            await self._renewed(waiting)
            await self._take(waiting)
        except (ExchangeUnreachable, DirectoryStale):
            return  # the flow tells what troubles the line; the next hint comes
        except FepError as e:
            self._trouble(e.code, e.detail)
        except Exception as e:  # noqa: BLE001 - a defect here must not stop pushes
            self._trouble(InternalFault.code, f"commands: {type(e).__name__}")

    def _trouble(self, code: str, detail: str) -> None:
        self._books.tell(ExchangeTrouble(None, code, detail, 1, LEAST_S))

    async def _catch_up(self) -> None:
        """Results that the exchange does not have; what has none was interrupted."""
        for found in await asyncio.to_thread(self._books.kept.untold):
            if found.status is None:
                found = self._ended(found, "failed", Interrupted.code)
            await self._answer(found)

    async def _forget(self) -> None:
        before = int(self._chance.now().timestamp()) - wire.REMEMBER_S
        await asyncio.to_thread(self._books.kept.purge, before)

    async def _renewed(self, waiting: Sequence[str]) -> None:
        """A new command key may be in a directory that we do not have yet."""
        for text in waiting[:1]:
            try:
                self._judged(text)
            except UnknownKey:
                await self._terms.renew()
            except PeerFault:
                pass

    async def _take(self, waiting: Sequence[str]) -> None:
        for i, text in enumerate(waiting):
            if not self._pace.take():
                self._crowd(len(waiting) - i)
                return
            await self._one(text)
        self._crowded = False

    def _crowd(self, waiting: int) -> None:
        self.wanted.set()
        if not self._crowded:
            self._crowded = True
            self._books.tell(CommandsCrowded(waiting))

    def _judged(self, text: str) -> Judged:
        terms = self._terms
        here = Here(terms.node, terms.aud, self._chance.now(), terms.allowed())
        return judge(text, terms.directory(), here)

    async def _one(self, text: str) -> None:
        """Judge a command, carry it out or not, and tell the exchange."""
        try:
            found = self._judged(text)
        except DirectoryStale:
            raise
        except PeerFault as e:
            digest = f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
            await self._books.record(CommandRefused(e.code, None, digest, None))
            return
        claims = found.command
        kept = KeptCommand(claims.jti, found.digest, claims.exp)
        known = await asyncio.to_thread(self._note(found), kept)
        if known is not None:
            await self._again(found, known)
        elif found.reason is None:
            await self._answer(await self._done(found, kept))
        else:
            await self._refused(found, found.reason)
            ended = self._ended(kept, "refused", found.reason)
            await self._answer(ended, keep=found.reason not in UNTIMELY)

    def _note(self, found: Judged) -> Callable[[KeptCommand], KeptCommand | None]:
        """What is known of it; one that is not of now is not put down."""
        kept = self._books.kept
        return kept.find if found.reason in UNTIMELY else kept.begin

    async def _again(self, found: Judged, known: KeptCommand) -> None:
        """A ``jti`` that we know: nothing is carried out."""
        if known.digest != found.digest:
            await self._refused(found, "replay")
            return
        if known.told:
            await self._refused(found, "replay")
        if known.status is not None:
            await self._answer(known)

    async def _refused(self, found: Judged, code: str) -> None:
        cmd = found.command.cmd if found.reason != "unknown" else None
        record = CommandRefused(code, cmd, found.digest, found.kid)
        await self._books.record(record)

    async def _done(self, found: Judged, kept: KeptCommand) -> KeptCommand:
        """Carry a command out; what became of it."""
        claims = found.command
        taken = CommandTaken(
            claims.cmd, claims.resource, claims.jti, found.digest, found.kid
        )
        status: Status = "done"
        code = bundle = None
        try:
            await self._books.record(taken)
            async with asyncio.timeout(PATIENCE_S):
                bundle = await self._carry_out(claims)
        except TimeoutError:
            status, code = "failed", Interrupted.code
        except OperatorFault as e:
            status, code = "refused", e.code
        except FepError as e:
            status, code = "failed", e.code
        except Exception:  # noqa: BLE001 - a defect must not end the loop
            status, code = "failed", InternalFault.code
        self._books.tell(CommandEnded(claims.cmd, claims.jti, status, code))
        return self._ended(kept, status, code, bundle)

    async def _carry_out(self, claims: Command) -> str | None:
        """Do it; the digest of the bundle that was handed over, if one was."""
        hands, resource = self._hands, claims.resource or ""
        match claims.cmd:
            case "refresh":
                await hands.refresh()
            case "run":
                await hands.run(resource)
            case "reconcile":
                await hands.reconcile(resource)
            case "diagnostics":
                bundle = await hands.diagnostics()
                await self._line.command_bundle(claims.jti, bundle)
                return f"sha256:{hashlib.sha256(bundle).hexdigest()}"
        return None

    def _ended(
        self,
        kept: KeptCommand,
        status: Status,
        code: str | None,
        bundle: str | None = None,
    ) -> KeptCommand:
        at = format_time(self._chance.now())
        return replace(kept, status=status, code=code, at=at, bundle=bundle)

    async def _answer(self, found: KeptCommand, *, keep: bool = True) -> None:
        """Bring a result to the exchange, and remember that it has it."""
        if keep:
            await asyncio.to_thread(self._books.kept.put, found)
        try:
            await self._line.command_result(self._signed(found))
        except ExchangeRefused as e:
            self._trouble(e.code, e.detail)
            return
        if keep:
            told = replace(found, told=True)
            await asyncio.to_thread(self._books.kept.put, told)

    def _signed(self, found: KeptCommand) -> str:
        result = Result(
            iss=self._terms.node,
            aud=self._terms.aud,
            irt=found.jti,
            status=cast("Status", found.status),
            code=found.code,
            at=found.at or "",
            bundle=found.bundle,
        )
        return self._books.signer.sign(wire.RESULT_TYP, result.payload())
