# SPDX-License-Identifier: Apache-2.0
"""Takes what the centre wants: judges it, tries it, lets it stay or goes back.

Rules (wire.md §6)

1. What is wanted is judged whenever it may have changed. Nothing of it holds before all
   of it was merged under the ceiling, can be loaded, its sources were asked, and every
   new address has proven itself by a real request; if it is waited for otherwise than
   before, some address has.
2. What cannot hold is told and tried again after :data:`AGAIN_S`; what failed on
   probation only in another generation.
3. Applying, proving and going back are one rename each (``agent.control.applied``); the
   files are then loaded as if a person had changed them, so that no run is dropped.
4. Going back is never kept from happening: not by the exchange, nor by the audit log,
   nor by files with a fault: then the settings that ran well hold as they were loaded.
   Directory and revocations are none of the configuration and never go back.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict

from agent.audit.events import (
    CentralApplied,
    CentralGood,
    CentralRefused,
    CentralReverted,
    Recorded,
)
from agent.control import probation
from agent.control.applied import Standing
from agent.control.overlay import Overlay
from agent.control.probation import (
    Failure,
    Gates,
    Good,
    Happening,
    Lived,
    Lost,
    Passed,
    Revert,
    Rules,
    Stand,
    Taken,
    Trial,
    Verdict,
    Wish,
)
from agent.control.trust import Verified
from agent.daemon.central_desk import Sight
from agent.daemon.central_parts import Hands, Proves, Seams, Store, Wanted, why
from agent.daemon.touched import Touched, addresses, line, touched
from agent.daemon.trial import Watch
from agent.daemon.work import Board, Work
from agent.errors import (
    ConfigHalted,
    ConfigHeld,
    ConfigReverted,
    ConfigUnfit,
    ConfigWaits,
    EndpointUnproven,
    FepError,
    FilesInvalid,
    SpoolWriteFailed,
)
from agent.settings import Settings
from agent.state.central import KEPT, Turn
from agent.wire.grammar import format_time
from agent.wire.heartbeat import ConfigStand

LOOK_S = 60.0
"""Longest pause between two looks at what the centre wants, seconds."""
PAUSE_S = 1.0
"""Least pause, however often somebody hints."""
TICK_S = 2.0
"""Pause between two looks at a probation."""
AGAIN_S = 300.0
"""So long after it did not fit a configuration is tried again, seconds."""


class Central:
    """Takes what the centre wants, until cancelled.

    Args:
        board: what holds.
        store: see there.
        hands: see there.
        watch: looks at streams.
        prover: asks addresses.
        seams: see there.
    """

    def __init__(
        self,
        board: Board,
        store: Store,
        hands: Hands,
        watch: Watch,
        prover: Proves,
        seams: Seams,
    ) -> None:
        self._board = board
        self._store = store
        self._hands = hands
        self._watch = watch
        self._prover = prover
        self._seams = seams
        self._hint = asyncio.Event()
        self._verified: Verified | None = None
        self._wanted: Wanted | None = None
        self._trouble: FepError | None = None  # why what is wanted does not run
        self._unfit: tuple[str, float] | None = None  # digest, and when it was tried
        self._told: tuple[str, str] = ("", "")
        self._trial: Trial | None = None
        self._good: Work | None = None  # to which a revert would go back
        self._seen: Work | None = None  # what held when that was loaded
        self._leaving = ""  # digest of an overlay that was given up and holds still
        self._at = self._since = seams.clock()
        self._lived = False  # longer than a probation, in this one
        self._beats: list[FepError | None] = []

    # --- what others ask and say ------------------------------------------------------

    def hint(self) -> None:
        """What the centre wants may have changed."""
        self._hint.set()

    async def heard(self, found: Verified) -> None:
        """The centre's repository says another thing."""
        self._verified = found
        self._hint.set()

    def beaten(self, error: FepError | None) -> None:
        """A heartbeat was taken, or was not."""
        if self._trial is not None:
            self._beats.append(error)
            self._hint.set()

    def sight(self) -> Sight:
        """How it stands now."""
        trouble = self._trouble
        return Sight(
            pinned=True,
            wanted=None if self._wanted is None else self._wanted.overlay,
            reason=None if trouble is None else trouble.code,
            detail="" if trouble is None else trouble.detail,
            trial=self._trial,
            length_s=self._board.settings.exchange.probation_s,
        )

    def troubles(self) -> list[FepError]:
        """What a person should know; waiting for a turn, or for a person, is none."""
        quiet = (ConfigHalted, ConfigHeld, ConfigWaits)
        trouble = self._trouble
        return [] if trouble is None or isinstance(trouble, quiet) else [trouble]

    def stand(self) -> ConfigStand:
        """What a heartbeat tells."""
        wanted = None if self._wanted is None else self._wanted.overlay
        running, failed = self._board.work.overlay, self._failed()
        tried = None if self._unfit is None else self._unfit[0]
        return ConfigStand(
            desired=None if wanted is None else wanted.digest,
            running=self._board.work.digest if running is None else running.digest,
            failed=tried or (None if failed is None else failed.digest),
            reason=self._reason(failed),
        )

    def _reason(self, failed: Failure | None) -> str | None:
        if isinstance(self._trouble, ConfigReverted) and failed is not None:
            return failed.reason
        if self._trouble is not None:
            return self._trouble.code
        return next((e.code for e in self._hands.distrust()), None)

    # --- life -------------------------------------------------------------------------

    async def forever(self) -> None:
        """Judge, try, watch.

        Raises:
            SpoolWriteFailed, StateDamaged: the disk or the state refused.
        """
        await self.recover()
        while True:
            self._hint.clear()
            await self.once()
            wait_s = LOOK_S if self._trial is None else TICK_S
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hint.wait(), wait_s)
            await self._seams.sleep(PAUSE_S if self._trial is None else 0.0)

    async def recover(self) -> None:
        """Take up a probation that is open, and put down one that was given up."""
        applied = self._store.applied
        if self._verified is None:
            self._verified = await asyncio.to_thread(self._hands.kept)
        given_up = await asyncio.to_thread(applied.given_up)
        if given_up is not None and not applied.open():
            await self._note_failure(given_up)
        standing = await asyncio.to_thread(applied.standing)
        overlay = applied.running()
        if standing is None or overlay is None:
            return
        await self._remember_begun(standing)
        await self._begin(overlay, frozenset(standing.watched))
        for _ in range(standing.deaths):
            await self._step(probation.Died())

    async def _remember_begun(self, standing: Standing) -> None:
        """The daemon may have died between the files and the history."""
        generation, digest = standing.generation, standing.digest
        begun = Turn(standing.began, "applied", generation, digest)
        turns = await asyncio.to_thread(self._store.rows.turns, KEPT)
        if begun not in turns:
            await self._remember(begun)

    async def once(self) -> None:
        """One look at what is wanted, and at the probation."""
        if self._trial is not None:
            await self._watch_trial()
        else:
            await self._go_back()
        if self._verified is None:
            return
        try:
            found = await asyncio.to_thread(self._hands.wanted, self._verified)
        except FepError as e:
            await self._refuse(None, e)
            return
        self._wanted = found
        await self._judge(found)

    # --- judging ----------------------------------------------------------------------

    async def _judge(self, wanted: Wanted) -> None:
        overlay = wanted.overlay
        if overlay is None:
            self._trouble = self._unfit = None
            return
        floor = await asyncio.to_thread(
            self._store.rows.raise_floor, overlay.generation
        )
        runs = None if self._leaving else self._holds()
        stand = Stand(runs, floor, self._failed())
        gates = Gates(self._store.holding(), wanted.opens, wanted.halted)
        wish = Wish(overlay.generation, overlay.digest, wanted.parts)
        choice = probation.choose(wish, stand, gates, self._seams.now())
        if choice == "try":
            await self._try(overlay)
            return
        self._unfit = None
        self._trouble = why(choice, wish, stand, gates)
        if choice == "older" and self._trouble is not None:
            await self._refuse(overlay, self._trouble)
        elif choice == "same":
            self._told = ("", "")

    async def _still(self, overlay: Overlay) -> bool:
        """Whether it is wanted and nothing keeps it; looking at it took its time."""
        if self._verified is None:
            return False
        wanted = await asyncio.to_thread(self._hands.wanted, self._verified)
        if wanted.overlay is None or wanted.overlay.digest != overlay.digest:
            return False
        stand = Stand(self._holds(), overlay.generation, self._failed())
        gates = Gates(self._store.holding(), wanted.opens, wanted.halted)
        wish = Wish(overlay.generation, overlay.digest, wanted.parts)
        return probation.choose(wish, stand, gates, self._seams.now()) == "try"

    async def _try(self, overlay: Overlay) -> None:
        """Let it run on probation, if it can."""
        now = self._seams.clock()
        if self._unfit is not None:
            digest, at = self._unfit
            if digest == overlay.digest and now - at < AGAIN_S:
                return
        try:
            await self._apply(overlay)
        except FepError as e:
            self._unfit = (overlay.digest, now)
            await self._refuse(overlay, e)
        else:
            self._trouble = self._unfit = None
            self._told = ("", "")

    async def _apply(self, overlay: Overlay) -> None:
        """Look whether it can hold, then let it, if it is still wanted.

        Raises:
            FepError: it cannot; what ran goes on.
        """
        old = self._board.work
        try:
            new = await asyncio.to_thread(self._hands.tried, overlay)
        except FilesInvalid as e:
            raise ConfigUnfit(e.detail) from None
        changes = touched(self._proven(), new)
        watched = await self._watch.working(changes.streams)
        await self._hands.check(new, watched)
        await self._prove(new.settings, changes)
        watched |= self._unproven(new, changes)
        if not await self._still(overlay):
            self._hint.set()
            return
        before = "" if old.overlay is None else old.overlay.digest
        await self._hands.record(
            CentralApplied(overlay.generation, overlay.digest, before)
        )
        await self._hold(overlay, watched)

    def _proven(self) -> Work:
        """What is changed: what ran well last, not what is on probation."""
        if self._trial is None or self._good is None:
            return self._board.work
        return self._good

    def _unproven(self, new: Work, changes: Touched) -> frozenset[str]:
        """Streams that the next probation takes over from this one, if one is open.

        Some may be broken by now by what was tried: they worked before.
        """
        if self._trial is None:
            return frozenset()
        if self._good is not None:
            return self._trial.watched & changes.streams
        return self._trial.watched & {one.resource for one in new.outgoing}

    async def _prove(self, found: Settings, changes: Touched) -> None:
        """Ask what is new of the line.

        Raises:
            EndpointUnproven: a new address, or no address in the time that is given.
        """
        await self._prover.prove(found, changes.addresses)
        if changes.line and not changes.addresses:
            urls = addresses(found)
            if not await self._prover.any(found, urls):
                raise EndpointUnproven(f"none of {', '.join(urls)} in the time given")

    async def _hold(self, overlay: Overlay, watched: frozenset[str]) -> None:
        """Let it hold from now on.

        Raises:
            ConfigUnfit: the files have changed meanwhile; what ran goes on.
        """
        at, applied = format_time(self._seams.now()), self._store.applied
        await asyncio.to_thread(applied.begin, overlay, at=at, watched=watched)
        await self._hands.reloads.look()
        if self._holds() != overlay.digest:
            await asyncio.to_thread(applied.withdraw)
            await self._hands.reloads.look()
            raise ConfigUnfit("the local files changed meanwhile")
        await self._remember(Turn(at, "applied", overlay.generation, overlay.digest))
        await self._begin(overlay, watched)

    async def _refuse(self, overlay: Overlay | None, error: FepError) -> None:
        """Say why what is wanted does not run, once."""
        self._trouble = error
        digest = "" if overlay is None else overlay.digest
        generation = 0 if overlay is None else overlay.generation
        told = (digest, error.code if digest else f"{error.code} {error.detail}")
        if self._told == told:
            return
        self._told = told
        at = format_time(self._seams.now())
        turn = Turn(at, "refused", generation, digest, error.code, error.detail)
        await self._remember(turn)
        await self._record(CentralRefused(generation, digest, error.code))

    # --- probation --------------------------------------------------------------------

    async def _begin(self, overlay: Overlay, watched: frozenset[str]) -> None:
        """A probation begins, or is taken up again."""
        self._good = self._seen = None
        await self._keep_good()
        self._beats.clear()
        await self._watch.begin(watched)
        self._trial = Trial(
            overlay.generation,
            overlay.digest,
            watched=watched,
            awaited=self._watch.awaited(watched),
        )
        self._at = self._since = self._seams.clock()
        self._lived = False

    async def _keep_good(self) -> None:
        """Have at hand what ran well, with the local files that hold now."""
        if self._seen is self._board.work:
            return
        self._seen = self._board.work
        good = await asyncio.to_thread(self._store.applied.good)
        with contextlib.suppress(FepError):  # what was loaded before must do
            self._good = await asyncio.to_thread(self._hands.tried, good)

    async def _watch_trial(self) -> None:
        """See what has happened, and ask for what has not."""
        await self._keep_good()
        at = self._seams.clock()
        passed, self._at = at - self._at, at
        for happened in await self._happened(passed):
            await self._step(happened)
        if self._trial is not None:
            await self._watch.ask(self._trial)

    async def _happened(self, passed_s: float) -> list[Happening]:
        trial, found = self._trial, list[Happening]()
        if trial is None:
            return found
        beats, self._beats = self._beats, []
        for error in beats:
            found.append(Taken() if error is None else await self._lost(error))
        if not self._lived and await self._live_on():
            found.append(Lived())
        return [*found, *self._watch.look(trial), Passed(passed_s)]

    async def _live_on(self) -> bool:
        """Whether the daemon has lived so long that it does not die of it; kept."""
        length_s = self._board.settings.exchange.probation_s
        if self._at - self._since >= length_s:
            with contextlib.suppress(SpoolWriteFailed):  # the next look keeps it
                await asyncio.to_thread(self._store.applied.lived)
                self._lived = True
        return self._lived

    async def _lost(self, error: FepError) -> Lost:
        """A heartbeat that was not taken, and whether the old addresses answer."""
        old, answers = None if self._good is None else self._good.settings, False
        if old is not None and line(old) != line(self._board.settings):
            answers = await self._prover.any(old, addresses(old))
        return Lost(error.code, error.detail, old=answers)

    async def _step(self, happened: Happening) -> None:
        if self._trial is None:
            return
        rules = Rules(length_s=self._board.settings.exchange.probation_s)
        self._trial, verdict = probation.step(self._trial, happened, rules)
        await self._end(self._trial, verdict)

    async def _end(self, trial: Trial, verdict: Verdict) -> None:
        match verdict:
            case Good():
                await self._stay(trial)
            case Revert(reason, detail):
                await self._revert(reason, detail)
            case None:
                pass

    async def _stay(self, trial: Trial) -> None:
        try:
            await asyncio.to_thread(self._store.applied.prove)
        except SpoolWriteFailed:
            return  # the next look ends it
        self._trial = None
        turn = Turn(
            format_time(self._seams.now()), "good", trial.generation, trial.digest
        )
        await asyncio.to_thread(self._store.rows.keep, "failed", None, turn)
        await self._record(CentralGood(trial.generation, trial.digest))

    async def _revert(self, reason: str, detail: str) -> None:
        applied = self._store.applied
        try:
            await asyncio.to_thread(applied.revert, reason, detail)
        except SpoolWriteFailed:
            return  # the next look ends it
        self._trial = None
        self._leaving = self._holds() or ""
        await self._go_back()
        given_up = await asyncio.to_thread(applied.given_up)
        if given_up is not None:
            await self._note_failure(given_up)

    async def _go_back(self) -> None:
        """Have hold what the files of the centre say; rule 4."""
        if not self._leaving:
            return
        await self._hands.reloads.look()
        if self._holds() == self._leaving and self._good is not None:
            await self._hands.reloads.back(self._good)
        if self._holds() != self._leaving:
            self._leaving = ""

    def _holds(self) -> str | None:
        """Digest of the overlay that holds, None for none."""
        found = self._board.work.overlay
        return None if found is None else found.digest

    async def _note_failure(self, given_up: Standing) -> None:
        """Put down that a configuration was given up, unless that is down already."""
        known = self._failed()
        generation, digest = given_up.generation, given_up.digest
        if known is not None and (known.generation, known.digest) == (
            generation,
            digest,
        ):
            return
        reason, detail = given_up.reason or "", given_up.detail
        at = format_time(self._seams.now())
        failure = Failure(generation, digest, reason, detail, at)
        turn = Turn(at, "reverted", generation, digest, reason, detail)
        await asyncio.to_thread(self._store.rows.keep, "failed", asdict(failure), turn)
        running = self._board.work.overlay
        runs = "" if running is None else running.digest
        await self._record(CentralReverted(generation, digest, runs, reason))
        self._trouble = ConfigReverted(f"{reason}: {detail}")

    # --- what is remembered -----------------------------------------------------------

    def _failed(self) -> Failure | None:
        found = self._store.rows.find("failed")
        return None if found is None else Failure(**found)

    async def _remember(self, turn: Turn) -> None:
        await asyncio.to_thread(self._store.rows.note, turn)

    async def _record(self, event: Recorded) -> None:
        """To the audit log; rule 4."""
        try:
            await self._hands.record(event)
        except FepError:
            self._hands.tell(event)  # the log tells and shows that it cannot be written
