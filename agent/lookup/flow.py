# SPDX-License-Identifier: Apache-2.0
"""The lookup flow: from a sealed request to a sealed reply; here the stages meet.

Rules

1. Order: bounds, header, claims, signature, audience, time, ``(iss, jti)``, policy,
   query, mask, sign, commit, send (wire.md §4). A reply leaves only once its record is
   durable; if the log cannot be written, nothing is answered.
2. One ``(iss, jti)`` is queried at most once, whatever happens: it is durable before
   the source is asked. The same message again gets the same signed reply; one that
   comes meanwhile waits for the first; another message under the same id is denied.
3. What a crash left unfinished is answered ``error: interrupted`` at the next start;
   it is not queried a second time.
4. The policy of the moment of signing counts: a request that was judged by an older one
   is judged again, and while a policy is being activated nothing is signed.
5. Before a signature has verified a refusal is an unsigned problem and a counter, and
   once a minute one record of all of them.
6. A request is worked on to its end even if nobody waits for it any more. So that lines
   which are cut again and again gather no work, there is a bound for these too.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol, TypeAlias

from agent.audit.events import (
    LookupDecided,
    LookupFailed,
    LookupRefused,
    LookupRepeated,
    Recorded,
    ReplayAttempt,
    Tell,
)
from agent.audit.log import OPEN, OTHER, PAST, New, Other, Past, Same
from agent.audit.log import Open as Begun
from agent.catalog.gate import Offer
from agent.crypto import jwe
from agent.crypto.daykey import DayKey
from agent.crypto.jose import PrivateKey, PublicKey, Signer, Unverified, Verified
from agent.crypto.jwe import Parcel, Sealed
from agent.errors import (
    AuditWriteFailed,
    DirectoryStale,
    FepError,
    InternalFault,
    KeyRevoked,
    MalformedMessage,
    PeerFault,
    PeerReset,
    SecrecyMarker,
    SourceFailed,
    UnknownKey,
    WorkerDied,
)
from agent.lookup import mask, record, reply, verify
from agent.lookup.intake import Crowded, Turnstile
from agent.lookup.policy.judge import Active, Allowed, Denied, judge
from agent.lookup.query import BAD, TWICE, Answer, Ask
from agent.lookup.query import Row as Found
from agent.lookup.record import Seen
from agent.lookup.reply import Outcome, Question, Row, Stamp
from agent.lookup.verify import Asked, Clock
from agent.model.marking import marked
from agent.model.treatment import MaskKind
from agent.state.ledger_records import KeptRequest
from agent.wire.directory import Directory
from agent.wire.grammar import format_time
from agent.wire.lookup import REPLY_ROOM, REQUEST_CAP, Reply, Request
from agent.wire.problem import Problem

SUMMARY_S = 60.0
"""Pause between two records of what was refused unsigned, seconds."""
DENIED_KEPT = 16 * 1024
"""Longest signed request that is kept as evidence although it was denied, bytes. Of a
longer one only the digest stays, in its record: nobody who may not look anything up
shall be able to fill the disk."""

Known: TypeAlias = New | Same | Other | Begun | Past


class Log(Protocol):
    """The audit log, as far as lookups use it; all raise AuditWriteFailed."""

    async def append(self, event: Recorded) -> int:
        """Add a record; durable when it returns."""
        ...

    async def begin(self, iss: str, jti: str, *, digest: str, exp: int) -> Known:
        """Put a request down before it is worked on, or say what is known of it."""
        ...

    async def settle(
        self,
        iss: str,
        jti: str,
        *,
        event: LookupDecided,
        request: str | None,
        reply: str,
    ) -> int:
        """Record, evidence and reply of a request, in one transaction."""
        ...

    def open_requests(self) -> Sequence[KeptRequest]:
        """Requests that the last life began and did not answer."""
        ...

    def key_for(self, day: str) -> DayKey:
        """The key of a day."""
        ...


class Sources(Protocol):
    """Where rows come from."""

    async def fetch(self, ask: Ask) -> Answer:
        """Rows by exact keys. Raises SourceFault, OwnFault, Busy."""
        ...


class Opener(Protocol):
    """Opens sealed requests in another process, while that is :attr:`up`."""

    @property
    def up(self) -> bool:
        """Whether it works now."""
        ...

    async def open(
        self, sealed: Sealed, candidates: tuple[PublicKey, ...]
    ) -> Unverified | Verified:
        """As ``verify.uncover``. Raises also WorkerDied."""
        ...


@dataclass(frozen=True)
class Chance:
    """Time and ids.

    Args:
        now: aware UTC.
        today: the date in ``agent.timezone``, by which grants hold.
        clock: monotonic seconds.
        sleep: ``asyncio.sleep``.
        new_id: uuid7 text.
    """

    now: Callable[[], datetime]
    today: Callable[[], date]
    clock: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    new_id: Callable[[], str]


@dataclass(frozen=True)
class Parts:
    """What the flow is made of.

    Args:
        node: who we are.
        signer: our key of purpose ``sign``.
        keys: our keys of purpose ``decrypt`` by kid.
        directory: everybody's keys as they are now; raises UnknownKey without one and
            DirectoryStale if it is too old to say who may ask.
        agreed: whether nothing can be missing in our log: its last life ended well, and
            the witness knows no more, so that no restored copy forgot a request.
        barred: why no lookup may be answered at all, or None.
        renew: fetch the directory again, because a key was not in it or it is too old;
            whether it was done, which is not at every call.
        log: see there.
        sources: see there.
        offers: resource -> what the gate lets be looked up.
        turnstile: see there.
        tell: where events go.
        chance: see there.
        deadline_s: longest time for the source, all items together, seconds.
        at_work: requests being worked on, those for which nobody waits among them.
        opener: opens requests in another process; None if it is done here.
        trusted: refuses a node whose keys do not follow from those that we knew;
            raises PeerReset.
    """

    node: str
    signer: Signer
    keys: Mapping[str, PrivateKey]
    directory: Callable[[], Directory]
    agreed: Callable[[], bool]
    barred: Callable[[], FepError | None]
    renew: Callable[[], Awaitable[bool]]
    log: Log
    sources: Sources
    offers: Mapping[str, Offer]
    turnstile: Turnstile
    tell: Tell
    chance: Chance
    deadline_s: float = 20.0
    at_work: int = 256
    opener: Opener | None = None
    trusted: Callable[[Directory, str], None] = lambda _directory, _node: None


@dataclass
class Counts:
    """What happened on one day.

    Args:
        day: local date.
        since: from when the day was counted, wire grammar.
    """

    day: date
    since: str
    answered: int = 0
    denied: int = 0
    errors: int = 0
    refused: int = 0
    repeated: int = 0


@dataclass(frozen=True)
class _Decided:
    """What was found out about a request before it is signed.

    Args:
        outcome: what to answer, before masks.
        by: the policy that judged; None if none did.
        verdict: of it, if it allowed the request; then the source was asked.
        rows: what the source gave.
        as_of: when.
    """

    outcome: Outcome
    by: Active | None = None
    verdict: Allowed | None = None
    rows: tuple[Row | None, ...] = field(default=(), repr=False)
    as_of: str = ""


class LookupFlow:
    """Answers lookups. Call :meth:`recover` once before the first.

    Args:
        parts: see there.
        policy: the active one.
        started: when the daemon started, aware UTC.
    """

    def __init__(self, parts: Parts, *, policy: Active, started: datetime) -> None:
        self._parts = parts
        self._active = policy
        self._fresh_since: datetime | None = started
        self._running: dict[str, asyncio.Task[str]] = {}  # by digest of the request
        self._signing = asyncio.Event()
        self._signing.set()
        self._draining = False
        self._refused: Counter[str] = Counter()
        self._refused_since = started
        self._counts = self._new_counts()
        self.trouble: FepError | None = None

    async def recover(self) -> int:
        """Answer what the last life left unfinished; how many there were.

        Raises:
            AuditWriteFailed: the log cannot be written.
        """
        unfinished = self._parts.log.open_requests()
        for kept in unfinished:
            question = Question(kept.iss, kept.jti, kept.digest)
            made, text = self._signed(question, Outcome("error", ("interrupted",)))
            day = self._day()
            key = self._parts.log.key_for(day)
            event = record.interrupted(made, text, day=day, key=key)
            await self._parts.log.settle(
                kept.iss, kept.jti, event=event, request=None, reply=text
            )
        return len(unfinished)

    # --- one request ----------------------------------------------------------------

    async def answer(self, text: str) -> str | Problem:
        """The sealed reply to a sealed request, or why there is none.

        Nothing that a peer can send makes it raise.
        """
        if len(text) > REQUEST_CAP:
            return self.refuse(Problem.of("too-large", f"at most {REQUEST_CAP} B"))
        try:
            sealed = jwe.split_sealed(text, cap=REQUEST_CAP, curve=False)
        except MalformedMessage as e:
            return self.refuse(Problem.of("malformed", e.detail))
        found = await self.decided(sealed)
        return found if isinstance(found, Problem) else found.seal()

    async def decided(self, sealed: Sealed) -> Parcel | Problem:
        """As :meth:`answer`, for one who took it apart and seals the reply himself."""
        if self._draining:
            return self.refuse(Problem.of("busy", "the agent is stopping"))
        if (why := self._parts.barred()) is not None:
            return self.refuse(self._unable(why))
        found = await self._admitted(sealed)
        return self.refuse(found) if isinstance(found, Problem) else found

    async def _admitted(self, sealed: Sealed) -> Parcel | Problem:
        try:
            with self._parts.turnstile.entered(sealed.iss, sealed.size):
                return await self._opened(sealed)
        except Crowded as e:
            return Problem("busy", 429 if e.one_peer else 503, "too many lookups")
        except PeerFault as e:
            return problem_of(e)
        except DirectoryStale as e:  # shown by whoever keeps it, as long as it lasts
            return self._unable(e)
        except FepError as e:
            self.trouble = e
        except Exception as e:  # noqa: BLE001 - a defect here must not stop others
            self.trouble = InternalFault(f"lookup: {type(e).__name__}")
        return self._unable(self.trouble)

    def _unable(self, why: FepError) -> Problem:
        self._parts.tell(LookupFailed(None, why.code))
        return Problem.of("busy", "the agent cannot answer now")

    async def _opened(self, sealed: Sealed) -> Parcel:
        message = await self._uncovered(sealed)
        try:
            asked = self._known(sealed, message)
        except (UnknownKey, DirectoryStale):
            if not await self._parts.renew():
                raise
            asked = self._known(sealed, message)
        if asked.reason is None:
            text = await self._once(asked)
        else:
            text = await self._deny(asked, asked.reason)
        to = self._recipient(asked, message.kid)
        return reply.parcel(text, to=to, iss=self._parts.node, aud=asked.request.iss)

    async def _uncovered(self, sealed: Sealed) -> Unverified | Verified:
        """What is inside, opened by the opener or, without one, here."""
        opener = self._parts.opener
        if opener is not None and opener.up:
            with contextlib.suppress(WorkerDied):
                return await opener.open(sealed, self._candidates(sealed.iss))
        return verify.uncover(sealed, keys=self._parts.keys)

    def _candidates(self, iss: str) -> tuple[PublicKey, ...]:
        """Keys with which a request of this consumer can be signed; perhaps none."""
        try:
            return self._parts.directory().node_keys(iss).live
        except FepError:
            return ()  # told by who_asks

    def _known(self, sealed: Sealed, message: Unverified | Verified) -> Asked:
        """Who asks; the reply can be sealed to its node."""
        parts = self._parts
        directory = parts.directory()
        if self._fresh_since is not None and parts.agreed():
            self._fresh_since = None
        asked = verify.who_asks(
            sealed,
            message,
            node=parts.node,
            directory=directory,
            clock=Clock(parts.chance.now(), self._fresh_since),
        )
        parts.trusted(directory, asked.request.iss)
        reply.recipient(directory, asked.request.iss)
        return asked

    def _recipient(self, asked: Asked, kid: str) -> PublicKey:
        """The key for the reply; whoever was revoked meanwhile gets none.

        Raises:
            UnknownKey: the node, or the key that signed the request, is revoked.
            PeerReset: its keys do not follow any more from those that we knew.
        """
        directory, iss = self._parts.directory(), asked.request.iss
        self._parts.trusted(directory, iss)
        directory.node_key(iss, kid, "sign")
        return reply.recipient(directory, iss)

    async def _once(self, asked: Asked) -> str:
        """The signed reply; the same request never runs twice at a time.

        Which of two requests under one id was the first, the log alone says.
        """
        task = self._running.get(asked.digest)
        if task is None:
            if len(self._running) >= self._parts.at_work:
                raise Crowded(one_peer=False)
            task = asyncio.create_task(self._decide(asked))
            self._running[asked.digest] = task
            task.add_done_callback(lambda _: self._running.pop(asked.digest))
        else:
            self._repeated(asked)
        return await asyncio.shield(task)

    async def _decide(self, asked: Asked) -> str:
        request, parts = asked.request, self._parts
        began = parts.chance.clock()
        known = await parts.log.begin(
            request.iss, request.jti, digest=asked.digest, exp=request.exp
        )
        if isinstance(known, Same):
            self._repeated(asked)
            return known.reply
        if known == OTHER:
            return await self._deny(asked, "replay")
        if known == PAST:
            return await self._deny(asked, "time")
        if known == OPEN:
            found = _Decided(Outcome("error", ("interrupted",)))
        else:
            found = await self._judged(request)
        await self._steady()
        while self._outdated(found):
            found = await self._judged(request)
            await self._steady()
        return await self._settled(asked, found, began=began)

    async def _steady(self) -> None:
        """Wait until no policy is being activated."""
        while not self._signing.is_set():
            await self._signing.wait()

    def _outdated(self, found: _Decided) -> bool:
        """Whether a policy that is gone has denied it; the source was not asked."""
        return (
            found.by is not None
            and found.by is not self._active
            and found.verdict is None
        )

    async def _judged(self, request: Request) -> _Decided:
        """Policy, then the source."""
        by = self._active
        verdict = self._judge(request)
        if isinstance(verdict, Denied):
            return _Decided(Outcome("denied", verdict.reasons), by)
        try:
            ask = _ask(request, verdict)
            async with asyncio.timeout(self._parts.deadline_s):
                answer = await self._parts.sources.fetch(ask)
            rows = _rows(request, ask, answer)
        except FepError as e:
            return self._failed(request, by, verdict, e.code)
        except TimeoutError:
            return self._failed(request, by, verdict, "timeout")
        outcome = Outcome("ok", rule=verdict.rule)
        return _Decided(outcome, by, verdict, rows, answer.as_of)

    def _judge(self, request: Request) -> Allowed | Denied:
        parts = self._parts
        today = parts.chance.today()
        return judge(self._active, request, parts.offers, today=today)

    def _failed(
        self, request: Request, by: Active, verdict: Allowed, code: str
    ) -> _Decided:
        self._parts.tell(LookupFailed(request.resource, code))
        outcome = Outcome("error", ("source",), rule=verdict.rule)
        return _Decided(outcome, by, verdict)

    async def _settled(self, asked: Asked, found: _Decided, *, began: float) -> str:
        """Sign what was found by the policy of now, and make it durable.

        From here until the log has taken it nothing waits: the order of records is the
        order of decisions.
        """
        request, parts = asked.request, self._parts
        outcome = self._outcome(request, found)
        made, text = self._signed(_question(asked), outcome)
        if len(text) > REPLY_ROOM:
            parts.tell(LookupFailed(request.resource, "reply-too-large"))
            outcome = Outcome("error", ("source",), rule=outcome.rule)
            made, text = self._signed(_question(asked), outcome)
        await parts.log.settle(
            request.iss,
            request.jti,
            event=record.decided(self._seen(asked, began), made, text),
            request=_kept(asked.text, outcome),
            reply=text,
        )
        self._count(outcome)
        return text

    async def _deny(self, asked: Asked, reason: str) -> str:
        """A refusal that is recorded, but not kept for the request's id."""
        began = self._parts.chance.clock()
        await self._steady()
        if reason == "replay":
            self._parts.tell(ReplayAttempt(asked.request.iss))
        outcome = Outcome("denied", (reason,))
        made, text = self._signed(_question(asked), outcome)
        event = record.decided(self._seen(asked, began), made, text)
        await self._parts.log.append(event)
        self._count(outcome)
        return text

    def _outcome(self, request: Request, found: _Decided) -> Outcome:
        """What is answered, by the policy that is active now."""
        if found.outcome.status != "ok":
            return found.outcome
        verdict: Allowed | Denied | None = found.verdict
        if found.by is not self._active or verdict is None:
            verdict = self._judge(request)
        if isinstance(verdict, Denied):
            return Outcome("denied", verdict.reasons)
        masks: dict[str, MaskKind] = {}
        if request.op == "get":
            masks = {f: t.mask for f, t in verdict.fields.items() if t.mask is not None}
        rows = [_masked(row, masks) for row in found.rows]
        return Outcome(
            "ok",
            results=reply.results_of(request, rows, as_of=found.as_of),
            masked=tuple(masks),
            rule=verdict.rule,
        )

    def _signed(self, question: Question, outcome: Outcome) -> tuple[Reply, str]:
        chance = self._parts.chance
        stamp = Stamp(
            node=self._parts.node,
            jti=chance.new_id(),
            iat=int(chance.now().timestamp()),
            rev=self._active.rev,
            decision_id=chance.new_id(),
        )
        made = reply.compose(question, outcome, stamp)
        return made, reply.sign(made, self._parts.signer)

    def _seen(self, asked: Asked, began: float) -> Seen:
        parts, request = self._parts, asked.request
        day = self._day()
        return Seen(
            request=request,
            digest=asked.digest,
            offer=parts.offers.get(request.resource),
            day=day,
            key=parts.log.key_for(day),
            ms=round((parts.chance.clock() - began) * 1000),
        )

    def _day(self) -> str:
        return self._parts.chance.now().date().isoformat()

    def _repeated(self, asked: Asked) -> None:
        self._today().repeated += 1
        self._parts.tell(LookupRepeated(asked.request.iss))

    # --- counting -------------------------------------------------------------------

    def refused(self, code: str) -> None:
        """Count a refusal that nobody signs, also one that never came so far."""
        self._refused[code] += 1
        self._today().refused += 1

    def refuse(self, problem: Problem) -> Problem:
        """Count and answer such a refusal."""
        self.refused(problem.code)
        return problem

    def _count(self, outcome: Outcome) -> None:
        self.trouble = None
        counts = self._today()
        match outcome.status:
            case "ok":
                counts.answered += 1
            case "denied":
                counts.denied += 1
            case _:
                counts.errors += 1

    def _today(self) -> Counts:
        if self._counts.day != self._parts.chance.today():
            self._counts = self._new_counts()
        return self._counts

    def _new_counts(self) -> Counts:
        chance = self._parts.chance
        return Counts(chance.today(), format_time(chance.now()))

    def counts(self) -> Counts:
        """What happened today, since the daemon started."""
        return self._today()

    @property
    def inside(self) -> int:
        """Lookups that are being answered."""
        return self._parts.turnstile.inside

    async def summarise(self) -> None:
        """Record once a minute what was refused unsigned; until cancelled."""
        while True:
            await self._parts.chance.sleep(SUMMARY_S)
            with contextlib.suppress(AuditWriteFailed):  # the log has told it
                await self.record_refused()

    async def record_refused(self) -> None:
        """One record of all unsigned refusals since the last one, if there are any.

        Raises:
            AuditWriteFailed: the log cannot be written; they are counted on.
        """
        codes, since = self._refused, self._refused_since
        if not codes:
            return
        self._refused, self._refused_since = Counter(), self._parts.chance.now()
        try:
            event = LookupRefused(format_time(since), dict(codes))
            await self._parts.log.append(event)
        except AuditWriteFailed:
            self._refused += codes
            self._refused_since = since
            raise

    # --- life -----------------------------------------------------------------------

    @asynccontextmanager
    async def turning(self) -> AsyncIterator[None]:
        """While the block runs nothing is signed; it activates a policy."""
        self._signing.clear()
        try:
            yield
        finally:
            self._signing.set()

    @property
    def policy(self) -> Active:
        """The active policy."""
        return self._active

    def use(self, policy: Active) -> None:
        """Judge by this policy from now on; call it inside :meth:`turning`."""
        self._active = policy

    async def drain(self, deadline_s: float) -> None:
        """Take nothing new, let what is being answered end."""
        self._draining = True
        tasks = list(self._running.values())
        if tasks:
            await asyncio.wait(tasks, timeout=deadline_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def problem_of(error: PeerFault) -> Problem:
    """The unsigned problem for a fault of what was inside a sealed request.

    It travels in the clear, so it says what kind of fault it is and no more.
    """
    match error:
        case MalformedMessage():
            code = "malformed"
        case KeyRevoked():
            code = "key-revoked"
        case PeerReset():
            code = "held"
        case _:
            code = "bad-signature"
    return Problem.of(code, error.title.en)


def _question(asked: Asked) -> Question:
    return Question(asked.request.iss, asked.request.jti, asked.digest)


def _kept(text: str, outcome: Outcome) -> str | None:
    """The request as evidence; None if its digest in the record must do."""
    return None if outcome.status == "denied" and len(text) > DENIED_KEPT else text


def _ask(request: Request, by: Allowed) -> Ask:
    """What the source is asked: the key items and the fields, nothing else."""
    wanted = {*by.keys, *request.fields}
    items = tuple(bound for bound in by.offer.items if bound.item.name in wanted)
    return Ask(
        source=by.offer.source,
        table=by.offer.table,
        items=items,
        key_items=by.keys,
        keys=tuple(tuple(i.keys[name] for name in by.keys) for i in request.items),
    )


def _rows(request: Request, ask: Ask, answer: Answer) -> tuple[Row | None, ...]:
    """The fields of each item's row.

    Raises:
        SourceFailed: two rows have one key, or a value does not fit its item.
        SecrecyMarker: a value carries a secrecy marking.
    """
    names = [bound.item.name for bound in ask.items]
    wanted = [(name, names.index(name)) for name in request.fields]
    rows: list[Row | None] = []
    for found in answer.rows:
        if found is TWICE:
            raise SourceFailed("two rows have one key")
        rows.append(None if found is None else _row(wanted, found))
    return tuple(rows)


def _row(wanted: Sequence[tuple[str, int]], found: Found) -> Row:
    row: dict[str, str | None] = {}
    for name, at in wanted:
        value = found[at]
        if value is BAD:
            raise SourceFailed("a value does not fit its item")
        if marked(value):
            raise SecrecyMarker(f"item {name} of a row")
        row[name] = value
    return row


def _masked(row: Row | None, masks: Mapping[str, MaskKind]) -> Row | None:
    if row is None or not masks:
        return row
    return {
        name: mask.apply(masks[name], text) if name in masks else text
        for name, text in row.items()
    }
