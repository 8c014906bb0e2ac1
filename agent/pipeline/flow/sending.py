# SPDX-License-Identifier: Apache-2.0
"""The sending loop of one stream: position, catalog, batches in order, receipts.

Rules

1. One batch of a stream is offered at a time, in chain order, until a receipt that
   verifies is stored. There is no number of tries after which it is given up. So many
   streams offer one at the same time; then it is the turn of those that wait.
2. Nothing unsigned halts a stream. A problem document changes what is asked next; only
   a signed ``rejected`` stops the stream until a person pulls, or a signed directory
   that gives the resource to another node.
3. The position is asked after a start, after a rest, now and then during one, and
   whenever the exchange says that the chain does not fit: a batch leaves only while its
   signed word is fresh. Only a signed position opens an epoch.
4. A new epoch drops what the old one left unfinished; the source is read again. Only
   what waits under a key that the exchange takes no more is sealed anew instead,
   unless a file of it is damaged. That our state, or the exchange, went back to an old
   copy is in the audit log before. Where a second machine is at work as this node,
   everything waits for a person.
5. The gate may have narrowed while a batch waited. What holds an item that is not
   shared any more, or was read where the ceiling lets nobody read any more, is never
   offered: a new epoch drops it, and its file goes.
6. Nothing leaves before the audit log has a record of it.
7. An answer's date that is far from our clock makes us ask for the position, which is
   signed: if its time is as far, nothing is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial

from agent.audit.events import (
    BatchLeft,
    CatalogSent,
    EpochOpened,
    ExchangeTrouble,
    ReceiptKept,
    StreamMoved,
)
from agent.errors import (
    BadSignature,
    BatchRejected,
    ChainMoved,
    ExchangeRefused,
    ExchangeUnreachable,
    FalseReceipt,
    FepError,
    GateClosed,
    Interrupted,
    NodeCloned,
    NotOwner,
    PeerFault,
    SpoolDamaged,
    SpoolWriteFailed,
    StateDamaged,
)
from agent.model.run import COMPARING
from agent.pipeline.flow import files, judge, rekeying
from agent.pipeline.flow.centre import Centre
from agent.pipeline.flow.errands import Hands
from agent.pipeline.flow.lane import Errand, Lane, defect
from agent.pipeline.flow.returning import give_back
from agent.pipeline.flow.seams import Parts, undivided
from agent.pipeline.flow.slots import Slots
from agent.state import Batch, Count, Epoch, NewReceipt, Run, Stream
from agent.wire.grammar import format_time, parse_time
from agent.wire.position import Position

ASK_POSITION = frozenset({"chain-gap", "stale-epoch", "fork"})
ASK_DIRECTORY = frozenset(
    {"bad-signature", "key-revoked", "not-owner", "wrong-exchange"}
)
ASK_OWNER = frozenset({"not-owner", "not-found"})
"""What the exchange answers where a resource is another node's."""
NOW = 0.0
DAY_S = 24 * 3600.0
_AFTER_HALT: Mapping[str, judge.Cause] = {
    NodeCloned.code: "cloned",
    NotOwner.code: "regained",
}
"""Why an epoch begins when a person ends a halt; all others were rejections."""


class Sending:
    """Sends one stream.

    Args:
        lane: the stream.
        turns: how many streams may offer a batch at the same time, shared by all.
    """

    def __init__(self, lane: Lane, turns: Slots) -> None:
        self._lane = lane
        self._turns = turns
        self._position: Position | None = None
        self._heard_at = 0.0
        self._attempt = 0
        self._to_count: Batch | None = None

    @property
    def _parts(self) -> Parts:
        """Those of now: they may be exchanged while the loop runs."""
        return self._lane.parts

    async def forever(self) -> None:
        """Send until cancelled.

        Raises:
            SpoolWriteFailed: the disk refused; the daemon must end.
            StateDamaged: so must it when its memory is wrong.
        """
        lane = self._lane
        while True:
            lane.sender.begin()
            try:
                rest = await self._step()
            except (SpoolWriteFailed, StateDamaged):
                raise
            except FepError as e:
                await self._after(e)
            except Exception as e:  # noqa: BLE001 - a defect here must not stop others
                await self._after(defect("sending", e))
            else:
                self._attempt = 0
                lane.send_trouble = None
                if rest != NOW:
                    lane.bell.ring()
                    await lane.sender.rest(rest)

    async def _step(self) -> float | None:
        """Do the next thing; how long to rest then, None until there is work."""
        lane = self._lane
        if lane.paused or lane.draining:
            return None
        if lane.errand is not None:
            await self._run(lane.errand)
            return NOW
        stream = await lane.stream()
        if stream.halt_code is not None or stream.head.epoch == 0:
            return await self._begin(stream)
        self._open_gate()
        await self._count()
        if await self._waiting():
            await self._in_turn()
            return NOW
        if await self._placed(stream, self._parts.limits.look_s) is None:
            return NOW
        return await self._poll(stream)

    async def _begin(self, stream: Stream) -> float | None:
        """A stream that is new, or was halted, begins an epoch with a run."""
        if stream.halt_code is not None:
            return await self._unhalt(stream)
        if self._lane.wanted is None:
            return None
        await self._locate(stream)
        return NOW

    async def _waiting(self) -> Sequence[Batch]:
        """The next batch to be offered, if there is one."""
        lane, state = self._lane, self._parts.state
        find = partial(state.batches, lane.stream_id, ("waiting",), limit=1)
        return await undivided(find)

    async def _in_turn(self) -> None:
        """Offer the next batch when it is our turn; it may be another one by then."""
        lane = self._lane
        lane.sender.pause()
        async with self._turns:
            lane.sender.begin()
            waiting, stream = await self._waiting(), await lane.stream()
            halted = stream.halt_code is not None  # while it was the turn of others
            if waiting and not (lane.paused or lane.draining or halted):
                await self._offer(stream, waiting[0])

    async def _placed(self, stream: Stream, most_s: float) -> Position | None:
        """The position that our chain goes on from; None if something has moved.

        Args:
            stream: as it is.
            most_s: so long after the exchange's last signed word it is asked again.
        """
        age_s = self._parts.chance.clock() - self._heard_at
        doubted = self._clock_in_doubt() or age_s >= most_s
        if self._position is not None and not doubted:
            return self._position
        return await self._locate(stream)

    def _clock_in_doubt(self) -> bool:
        offset = self._parts.exchange.clock_offset_s
        return offset is not None and abs(offset) > self._parts.limits.clock_tolerance_s

    def _open_gate(self) -> None:
        if not self._lane.ready:
            self._lane.ready = True
            self._lane.reader.note()

    async def _run(self, errand: Errand) -> None:
        """What a person asked for; who asked is told how it ended."""
        self._lane.errand = None
        hands = Hands(self._lane, self._ask, self._reopen, self._settle_on)
        try:
            answer = await errand.run(hands)
        except (SpoolWriteFailed, StateDamaged) as e:
            _tell(errand, e)
            raise
        except FepError as e:
            if errand.answer.done():  # nobody waits any more: the journal has it
                told = ExchangeTrouble(self._lane.resource, e.code, e.detail, 0, 0.0)
                self._parts.tell(told)
            _tell(errand, e)
        else:
            if not errand.answer.done():
                errand.answer.set_result(answer)

    async def _unhalt(self, stream: Stream) -> float | None:
        """A halted stream goes on when a person has pulled."""
        self._lane.ready = False
        if self._lane.wanted is None:
            return None
        cause = _AFTER_HALT.get(stream.halt_code or "", "rejected")
        await self._reopen(stream, await self._ask(), cause)
        return NOW

    # --- position -----------------------------------------------------------------

    async def _ask(self) -> tuple[Position, str]:
        """The stream's position just now, and the text of it."""
        lane, parts = self._lane, self._parts
        key = lane.key
        nonce = parts.chance.new_nonce()
        text = await parts.exchange.position(key.resource, nonce)
        found = judge.read_position(
            text,
            stream=(key.producer, key.aud, key.resource),
            nonce=nonce,
            keys=parts.keys(),
            now=parts.chance.now(),
            tolerance_s=parts.limits.clock_tolerance_s,
        )
        return found, text

    async def _locate(self, stream: Stream) -> Position | None:
        """Compare the exchange's position with our chain; open an epoch if need be.

        Returns:
            The position, if it is in our chain.
        """
        found, text = await self._ask()
        standing = await undivided(partial(self._standing, stream, found))
        moved = judge.what_moved(standing, found)
        if moved is None:
            self._settle_on(found)
            return found
        if moved == "cloned":
            await self._record(moved, found)
            await self._halt_all(standing, found)
        else:
            await self._reopen(stream, (found, text), moved)
        return None

    def _settle_on(self, found: Position) -> None:
        """The position is in our chain, or our chain goes on from it."""
        self._position = found
        self._heard_at = self._parts.chance.clock()
        self._lane.seen_at = self._lane.stamp()

    async def _record(self, cause: judge.Cause, theirs: Position) -> None:
        """Put into the audit log that either side is not what it was."""
        lane, parts = self._lane, self._parts
        ours = await undivided(partial(parts.state.receipted, lane.stream_id))
        known, told = _place(*ours), _place(theirs.epoch, theirs.seq)
        await parts.record(StreamMoved(lane.resource, cause, known, told))

    async def _halt_all(self, ours: judge.Standing, theirs: Position) -> None:
        """A second machine sends as this node: only a person knows which is to stay."""
        lane, parts = self._lane, self._parts
        error = NodeCloned(
            f"{lane.resource}: this machine's last batch there is"
            f" {_place(*ours.receipted)}, the exchange has"
            f" {_place(theirs.epoch, theirs.seq)} of another one"
        )
        parts.tell(ExchangeTrouble(lane.resource, error.code, error.detail, 0, 0.0))
        halt = partial(parts.state.halt_all, error.code, error.detail, at=lane.stamp())
        # What was wanted before a stream is halted is no word of a person who knows.
        for every in list(lane.every.values()):
            await every.halt(error)
        await undivided(halt)
        for every in list(lane.every.values()):
            await every.halt(error)

    def _standing(self, stream: Stream, found: Position) -> judge.Standing:
        state, head = self._parts.state, stream.head
        waiting = state.batches(stream.id, ("waiting",), limit=1)
        same = state.batch(stream.id, found.epoch, found.seq)
        next_open, chains_to = (head.epoch, head.seq + 1), head.prev
        if waiting:
            next_open = (waiting[0].epoch, waiting[0].seq)
            chains_to = files.before(self._parts, waiting[0])
        return judge.Standing(
            head=head,
            base=state.epoch_base(stream.id, head.epoch),
            at_position=None if same is None else same.digest,
            next_open=next_open,
            chains_to=chains_to,
            given_up=same is not None and same.state == "dropped",
            receipted=state.receipted(stream.id),
            seen=self._lane.seen_at is not None,
        )

    async def _reopen(
        self, stream: Stream, asked: tuple[Position, str], cause: judge.Cause
    ) -> None:
        """Begin a new epoch on the position; what the old one left is read again.

        It is in the audit log before, but where nothing was lost: a stream is new, a
        signed rejection says why, or a person ended what was recorded when found.
        """
        lane, parts = self._lane, self._parts
        found, text = asked
        state = parts.state
        if cause not in judge.TOLD:
            await self._record(cause, found)
        incarnation = await self._incarnation(stream, cause)
        reason = judge.REASONS[cause]
        head = judge.next_head(
            stream.head, found, reason=reason, incarnation=incarnation
        )
        epoch = Epoch(head=head, position=text, at=lane.stamp(), cause=cause)
        lane.reread = True
        await undivided(partial(state.open_epoch, lane.stream_id, epoch))
        lane.damaged = None
        self._settle_on(found)
        parts.tell(EpochOpened(lane.resource, head.epoch, head.reason or reason))
        if lane.reading is not None:
            lane.abort("epoch")
        else:
            await self._read_all()
        lane.changed()

    async def _read_all(self) -> None:
        """What was dropped is read again; a comparison that waits would be in vain."""
        lane = self._lane
        wanted = lane.wanted
        if wanted is not None and wanted.kind in COMPARING:
            lane.wanted = None
            await lane.stop(wanted.run, "interrupted", Interrupted("epoch"))
        if lane.wanted is None:
            await lane.read_again()

    async def _incarnation(self, stream: Stream, cause: judge.Cause) -> str:
        """Of the new epoch: a new one once, for all streams that find the same."""
        state = self._parts.state
        if cause not in judge.NEW_LIFE:
            return await undivided(lambda: state.incarnation)
        fresh = self._parts.chance.new_incarnation()
        ours = stream.head.incarnation
        return await undivided(partial(state.renew_incarnation, fresh, after=ours))

    async def _rekey(self, stream: Stream) -> None:
        """Seal what waits anew by the key in use; else the source is read again."""
        lane, parts = self._lane, self._parts
        found, text = await self._ask()
        standing = await undivided(partial(self._standing, stream, found))
        if judge.what_moved(standing, found) is not None:
            await self._locate(stream)
            return
        await rekeying.cut_reading(lane)
        stream = await lane.stream()
        waiting = await undivided(
            partial(parts.state.batches, lane.stream_id, ("waiting",))
        )
        first = (waiting[0].epoch, waiting[0].seq) if waiting else (0, 0)
        if first <= (found.epoch, found.seq):  # it has come there all the same
            self._settle_on(found)
            return
        try:
            await self._seal_anew(stream, waiting, (found, text))
        except SpoolDamaged as e:
            await self._lost(stream, e)

    async def _seal_anew(
        self, stream: Stream, waiting: Sequence[Batch], asked: tuple[Position, str]
    ) -> None:
        """Move all that waits behind the position.

        Raises:
            SpoolDamaged: a file of it is not what was registered; nothing has moved.
        """
        lane, parts = self._lane, self._parts
        found, text = asked
        await undivided(partial(rekeying.restate, lane, waiting))
        if not await undivided(partial(rekeying.movable, lane, waiting)):
            await self._reopen(stream, asked, "rekeyed")
            return
        incarnation = await self._incarnation(stream, "rekeyed")
        reason = judge.REASONS["rekeyed"]
        head = judge.next_head(
            stream.head, found, reason=reason, incarnation=incarnation
        )
        epoch = Epoch(head=head, position=text, at=lane.stamp(), cause="rekeyed")
        move = partial(rekeying.seal_anew, lane, waiting, epoch=epoch, on=stream.head)
        await undivided(move)
        self._settle_on(found)
        parts.tell(EpochOpened(lane.resource, head.epoch, head.reason or reason))
        lane.changed()

    # --- batches ------------------------------------------------------------------

    async def _offer(self, stream: Stream, batch: Batch) -> None:
        """Bring one batch to a receipt."""
        lane, parts = self._lane, self._parts
        try:
            path = await undivided(partial(files.check, parts, batch))
            await undivided(partial(files.check_gate, lane, batch))
            over = await undivided(partial(rekeying.over, parts, batch))
        except (SpoolDamaged, GateClosed) as e:
            await self._lost(stream, e)
            return
        position = await self._placed(stream, parts.limits.fresh_s)
        if position is None:
            return
        if over and (batch.epoch, batch.seq) > (position.epoch, position.seq):
            await self._rekey(stream)
            return
        await self._send_catalogs()
        identity = lane.batch_id(batch.epoch, batch.seq)
        text = None
        if (batch.epoch, batch.seq) <= (position.epoch, position.seq):
            text = await parts.exchange.receipt(identity)
        lane.sending = True
        try:
            if text is None:
                await parts.record_left(_left(lane.resource, batch))
                text = await parts.exchange.upload(
                    path, batch.size, batch=identity, moved=lane.sender.moved
                )
        except ChainMoved:  # our state is older than the log of what has left
            await self._reopen(stream, await self._ask(), "restored")
            return
        finally:
            lane.sending = False
        if text is None:
            text = await parts.exchange.receipt(identity)
        if text is None:
            raise FalseReceipt(f"{batch.epoch}/{batch.seq}: uploaded, but no receipt")
        await self._keep(batch, self._read(batch, text))

    async def _lost(self, stream: Stream, error: FepError) -> None:
        """What waits cannot leave as it is: the source is read again."""
        lane = self._lane
        lane.damaged = lane.trouble(error, lane.damaged, None)
        told = ExchangeTrouble(lane.resource, error.code, error.detail, 0, 0.0)
        self._parts.tell(told)
        await self._reopen(stream, await self._ask(), "spool-lost")

    async def _send_catalogs(self) -> None:
        """Send the statements that may leave; those of a spent key nobody takes."""
        lane, state = self._lane, self._parts.state
        for catalog in await undivided(partial(state.unsent_catalogs, lane.stream_id)):
            refused = rekeying.unsendable(self._parts, catalog)
            if refused or not files.may_leave(lane, catalog):
                continue
            await self._parts.exchange.put_catalog(catalog.jws)
            await undivided(
                partial(
                    state.mark_catalog,
                    lane.stream_id,
                    catalog.version,
                    sent_at=lane.stamp(),
                )
            )
            self._parts.tell(
                CatalogSent(lane.resource, catalog.version, catalog.digest)
            )

    # --- receipts -----------------------------------------------------------------

    def _read(self, batch: Batch, text: str) -> NewReceipt:
        """A receipt of a batch that verifies, and what vouches for its key."""
        keys = self._parts.keys()
        receipt = judge.read_receipt(
            text,
            batch=self._lane.batch_id(batch.epoch, batch.seq),
            digest=batch.digest,
            keys=keys,
        )
        return NewReceipt(
            epoch=batch.epoch,
            seq=batch.seq,
            state=receipt.state,
            code=receipt.code,
            rows=receipt.rows,
            at=receipt.at,
            jws=text,
            voucher=keys.voucher,
        )

    async def _keep(self, batch: Batch, receipt: NewReceipt) -> None:
        """Store a verified receipt and act on it."""
        lane, parts = self._lane, self._parts
        if receipt.state == "rejected":
            await give_back(lane, batch, receipt.code or "")
        await undivided(
            partial(parts.state.keep_receipt, lane.stream_id, receipt, at=lane.stamp())
        )
        self._heard_at = parts.chance.clock()
        parts.tell(
            ReceiptKept(
                lane.resource, batch.epoch, batch.seq, receipt.state, receipt.code
            )
        )
        if receipt.state == "loaded" and batch.final:
            self._to_count = batch
        if receipt.state == "rejected":
            await lane.halt(
                BatchRejected("a batch of this stream was rejected meanwhile")
            )
            error = BatchRejected(f"{receipt.code}: batch {batch.epoch}/{batch.seq}")
            parts.tell(ExchangeTrouble(lane.resource, error.code, error.detail, 0, 0.0))
        lane.bell.ring()

    async def _poll(self, stream: Stream) -> float | None:
        """Ask for news of what is stored and may be loaded by now."""
        lane, parts = self._lane, self._parts
        batches = await undivided(partial(parts.state.settling, lane.stream_id))
        if not batches:
            return parts.limits.look_s
        oldest = batches[0]
        final = next((b for b in batches if b.final and b.run == oldest.run), oldest)
        receipt = await self._news(final)
        if receipt is None:
            await self._locate(stream)
        if receipt is None or receipt.state == "stored":
            return parts.limits.poll_s
        others = [b for b in batches if b.run == final.run and b != final]
        if receipt.code == "stale-epoch":
            # The final part is only stale; an earlier one says why, and counts.
            await self._keep_news(others)
        await self._keep(final, receipt)
        if receipt.state == "loaded":
            await self._keep_news(others)
        return NOW

    async def _news(self, batch: Batch) -> NewReceipt | None:
        """The newest receipt of a batch, verified."""
        identity = self._lane.batch_id(batch.epoch, batch.seq)
        text = await self._parts.exchange.receipt(identity)
        return None if text is None else self._read(batch, text)

    async def _keep_news(self, batches: Sequence[Batch]) -> None:
        for batch in batches:
            news = await self._news(batch)
            if news is not None and news.state != "stored":
                await self._keep(batch, news)

    async def _count(self) -> None:
        """Ask what the centre holds now that a whole read is loaded; one try.

        Without an answer the equation of the resource is not known, and nothing else
        is wrong. Of reads that only send differences one a day is counted.
        """
        final, self._to_count = self._to_count, None
        if final is None:
            return
        lane, state = self._lane, self._parts.state
        run = await undivided(partial(state.run, final.run))
        before = await undivided(partial(state.count, lane.stream_id))
        if run is None or not _counts(run, before, lane.stamp()):
            return
        try:
            said = await undivided(partial(files.manifest_of, self._parts, final))
            rows, at = await Centre(lane, said.catalog).rows()
        except (PeerFault, SpoolDamaged):
            return
        new = Count(run.id, rows, format_time(datetime.fromtimestamp(at, UTC)))
        await undivided(partial(state.keep_count, lane.stream_id, new))
        lane.bell.ring()

    # --- failures -----------------------------------------------------------------

    async def _after(self, error: FepError) -> None:
        """What a failure asks for, then the wait before the next try."""
        lane, parts = self._lane, self._parts
        self._attempt += 1
        wait_s = parts.backoff.wait_s(self._attempt, parts.chance.uniform)
        if (told := _retry_after(error)) is not None:
            wait_s = min(told, parts.backoff.cap_s)
        if isinstance(error, ExchangeRefused):
            if error.problem in ASK_POSITION:
                self._position = None
            if error.problem == "catalog-unknown":
                await undivided(partial(parts.state.forget_catalogs, lane.stream_id))
        shown = _why(error)
        lane.send_trouble = lane.trouble(shown, lane.send_trouble, wait_s)
        parts.tell(
            ExchangeTrouble(
                lane.resource, shown.code, shown.detail, self._attempt, wait_s
            )
        )
        lane.bell.ring()
        if _keys_in_doubt(error):
            await self._refresh_directory()
            await self._halt_if_given_away()
        await lane.sender.rest(wait_s, patient=True)

    async def _halt_if_given_away(self) -> None:
        """The exchange signed that another node owns the resource: it waits, alone."""
        lane, parts = self._lane, self._parts
        owner = parts.owner(lane.resource)
        if owner is None or owner == lane.key.producer:
            return
        error = NotOwner(f"{lane.resource}: the directory gives it to {owner}")
        halt = partial(
            parts.state.halt,
            lane.stream_id,
            error.code,
            error.detail,
            at=lane.stamp(),
        )
        await undivided(halt)
        lane.send_trouble = None
        await lane.halt(error)

    async def _refresh_directory(self) -> None:
        """Our picture of the exchange's keys may be old; the trouble stays as it is."""
        try:
            await self._parts.refresh_directory()
        except FepError as e:
            self._parts.tell(
                ExchangeTrouble(None, e.code, e.detail, self._attempt, 0.0)
            )


def _counts(run: Run, before: Count | None, now: str) -> bool:
    """Whether a run is worth a count: its read was whole, and the last one is old."""
    if run.kind == "diff" and before is not None:
        return (parse_time(now) - parse_time(before.at)).total_seconds() > DAY_S
    return run.kind in {"full", "diff"}


def _tell(errand: Errand, error: FepError) -> None:
    if not errand.answer.done():
        errand.answer.set_exception(error)


def _place(epoch: int, seq: int) -> str:
    return f"{epoch}/{seq}"


def _left(resource: str, batch: Batch) -> BatchLeft:
    return BatchLeft(
        resource=resource,
        epoch=batch.epoch,
        seq=batch.seq,
        digest=batch.digest,
        upsert=batch.rows.upsert,
        delete=batch.rows.delete,
        keep=batch.rows.keep,
        size=batch.size,
    )


def _why(error: FepError) -> FepError:
    """What was wrong with the exchange before nobody asked it any more."""
    last = error.__cause__ if isinstance(error, ExchangeUnreachable) else None
    return last if isinstance(last, FepError) else error


def _retry_after(error: FepError) -> float | None:
    """Seconds after which another try makes sense, if somebody said so."""
    if isinstance(error, ExchangeRefused | ExchangeUnreachable):
        return error.retry_after
    return None


def _keys_in_doubt(error: FepError) -> bool:
    if isinstance(error, ExchangeRefused):
        return error.problem in ASK_DIRECTORY | ASK_OWNER
    return isinstance(error, BadSignature | FalseReceipt)
