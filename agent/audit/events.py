# SPDX-License-Identifier: Apache-2.0
"""One frozen class per thing worth telling.

Emitting an event writes the log line and moves the counter together, so that neither is
forgotten. A :class:`Recorded` event is an audit record too and goes through
``agent.audit.log``, which does all three once the record is durable. No field ever
holds a personal value: resources, counts, codes, digests and times only, and for a
lookup HMACs and commitments that the day's key alone can explain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

Level = Literal["info", "warning", "error"]


@dataclass(frozen=True)
class Event:
    """Base of all events.

    ``name`` is stable and dotted. Fields named in ``quiet`` stand in the audit record
    only, not in the log line.
    """

    name: ClassVar[str] = "event"
    level: ClassVar[Level] = "info"
    quiet: ClassVar[frozenset[str]] = frozenset()

    def heard(self) -> Literal["debug"] | Level:
        """The level of its log line; :attr:`level` unless it says otherwise."""
        return self.level

    def told(self) -> dict[str, Any]:
        """The fields of its log line."""
        return {n: v for n, v in self.members().items() if n not in self.quiet}

    def members(self) -> dict[str, Any]:
        """All fields in their order; those of an audit record."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


@dataclass(frozen=True)
class Recorded(Event):
    """Base of the events that are audit records: text, integers, lists and maps."""


Tell = Callable[[Event], None]
"""How a part of the daemon tells an event; ``logs.py`` makes the real one."""


@dataclass(frozen=True)
class DaemonReady(Event):
    """Spool and state are recovered; systemd was told READY."""

    name = "daemon.ready"
    version: str
    resources: int


@dataclass(frozen=True)
class DaemonStopping(Event):
    """A signal asked the daemon to stop."""

    name = "daemon.stopping"
    signal: str
    hurried: bool


@dataclass(frozen=True)
class AdminAction(Recorded):
    """Somebody used the local socket to change something, or to see evidence."""

    name = "admin.action"
    uid: int
    action: str
    resource: str | None


@dataclass(frozen=True)
class SecretChanged(Event):
    """A secret's file changed and was read again."""

    name = "secret.changed"
    key: str


@dataclass(frozen=True)
class ConfigReloaded(Event):
    """Changed files hold now.

    Args:
        changed: parts that are not as they were.
        restart: keys that wait for a restart.
    """

    name = "config.reloaded"
    digest: str
    changed: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True)
class ConfigRefused(Event):
    """Changed files have faults; the old settings go on."""

    name = "config.broken"
    level = "error"
    faults: tuple[str, ...]


@dataclass(frozen=True)
class ResourceOpened(Event):
    """The gate lets a resource leave that it did not let before."""

    name = "resource.opened"
    resource: str


@dataclass(frozen=True)
class ResourceClosed(Event):
    """The gate is shut for a resource: nothing of it leaves from now on."""

    name = "resource.closed"
    level = "warning"
    resource: str
    why: str


@dataclass(frozen=True)
class RunStarted(Event):
    """A run of a resource began to read."""

    name = "run.started"
    resource: str
    run: str


@dataclass(frozen=True)
class RunEnded(Event):
    """A run read everything and its last batch is registered."""

    name = "run.ended"
    resource: str
    run: str
    read: int
    upsert: int
    quarantined: int
    seconds: float


@dataclass(frozen=True)
class RunFailed(Event):
    """A run ended early; others go on."""

    name = "run.failed"
    level = "error"
    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class WorkerEnded(Event):
    """The process of a run ended without a result; so many in a row by now."""

    name = "worker.died"
    level = "error"
    resource: str
    run: str
    code: str
    detail: str
    times: int


@dataclass(frozen=True)
class RunHeld(Event):
    """A run waits for a person: mass delete, secrecy marker, changed table, deaths."""

    name = "run.held"
    level = "warning"
    resource: str
    run: str
    code: str
    detail: str


@dataclass(frozen=True)
class FrontierGone(Event):
    """Increments cannot go on from where they were; a full read follows."""

    name = "frontier.lost"
    level = "warning"
    resource: str
    run: str
    detail: str


@dataclass(frozen=True)
class NumberUnfit(Event):
    """A table cannot be followed by its growing number; its rows are compared."""

    name = "number.unfit"
    level = "warning"
    resource: str
    run: str
    detail: str


@dataclass(frozen=True)
class ColumnsChanged(Event):
    """A table was changed at the source, and its resource goes on."""

    name = "source.columns"
    level = "warning"
    resource: str
    changes: tuple[str, ...]


@dataclass(frozen=True)
class SourceSlowed(Event):
    """A source is not well, and the run that reads it goes easy."""

    name = "source.slowed"
    level = "warning"
    resource: str
    run: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class SourceRecovered(Event):
    """The source is well again, and the run reads at full speed."""

    name = "source.recovered"
    resource: str
    run: str


@dataclass(frozen=True)
class HealthHidden(Event):
    """The account may not see these measures of how its source feels."""

    name = "source.health_hidden"
    resource: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class RowsQuarantined(Event):
    """Rows were withheld; the file with the reasons stays on this machine."""

    name = "quarantine.rows"
    level = "warning"
    resource: str
    run: str
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class BatchRegistered(Event):
    """A batch is durable in the spool and may leave."""

    name = "batch.registered"
    resource: str
    epoch: int
    seq: int
    upsert: int
    delete: int
    keep: int
    size: int


@dataclass(frozen=True)
class ReceiptKept(Event):
    """A signed receipt was verified and stored."""

    name = "receipt.kept"
    resource: str
    epoch: int
    seq: int
    state: str
    code: str | None


@dataclass(frozen=True)
class EpochOpened(Event):
    """A stream began a new epoch."""

    name = "stream.epoch"
    level = "warning"
    resource: str
    epoch: int
    reason: str


@dataclass(frozen=True)
class StreamMoved(Recorded):
    """What the exchange has, or we keep, of a stream is not what it should be.

    Args:
        resource: of the stream.
        cause: ``spool-lost``, ``restored``, ``exchange-restored``, ``overtaken`` or
            ``cloned``.
        ours: epoch/seq of the last batch that we know it to have.
        theirs: epoch/seq of the last one that it signed.
    """

    name = "stream.moved"
    level = "error"
    resource: str
    cause: str
    ours: str
    theirs: str


@dataclass(frozen=True)
class BatchesGivenUp(Recorded):
    """Batches that waited are not sent: their resource has left the catalogue.

    Args:
        resource: its code.
        batches: how many.
        size: bytes of their files, which go.
        first: epoch/seq of the first of them.
        last: epoch/seq of the last.
    """

    name = "batches.given_up"
    level = "warning"
    resource: str
    batches: int
    size: int
    first: str
    last: str


@dataclass(frozen=True)
class CatalogSent(Event):
    """The exchange knows this version of a resource's catalog statement."""

    name = "catalog.sent"
    resource: str
    version: int
    digest: str


@dataclass(frozen=True)
class ExchangeTrouble(Event):
    """A request to the exchange failed and will be tried again."""

    name = "exchange.trouble"
    level = "warning"
    resource: str | None
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class EndpointChanged(Event):
    """The exchange is reached by another of its addresses; ``first``: the preferred."""

    name = "exchange.endpoint"
    url: str
    first: bool


@dataclass(frozen=True)
class RowsReturned(Event):
    """Rows of a batch that the exchange rejected were put into quarantine."""

    name = "rows.returned"
    level = "warning"
    resource: str
    epoch: int
    seq: int
    code: str
    rows: int


@dataclass(frozen=True)
class OrphansRemoved(Event):
    """Files that a crash left behind unregistered were deleted at start."""

    name = "spool.orphans"
    files: int


@dataclass(frozen=True)
class SpoolIncomplete(Event):
    """Registered files are not there; what still waited is read again."""

    name = "spool.missing"
    level = "error"
    files: int


@dataclass(frozen=True)
class DigestsRemoved(Event):
    """Digests of resources that have left the catalogue were deleted."""

    name = "digests.removed"
    resources: tuple[str, ...]


@dataclass(frozen=True)
class SpoolBlocked(Event):
    """The spool is full; reading waits."""

    name = "spool.blocked"
    level = "warning"
    used: int
    quota: int


@dataclass(frozen=True)
class BallastChanged(Event):
    """The reserve of the disk was given up, or made again.

    Args:
        held: it is there.
        free: bytes left on the disk.
    """

    name = "disk.reserve"
    level = "warning"
    held: bool
    free: int


@dataclass(frozen=True)
class BatchPurged(Event):
    """A payload was deleted after its receipt; the receipt stays."""

    name = "batch.purged"
    resource: str
    epoch: int
    seq: int


# --- audit records ------------------------------------------------------------------


@dataclass(frozen=True)
class LookupDecided(Recorded):
    """A signed request was answered; the record is durable before the reply leaves.

    Args:
        day: whose key made ``subjects`` and the commitments, ``YYYY-MM-DD``.
        decision_id: uuid7, in the reply too.
        consumer: node that asked, and signed.
        jti: commitment to the id of its request.
        op: ``get``, ``verify`` or ``exists``.
        resource: as this agent knows it; None if the request names one it does not.
        purpose: of the closed list.
        fields: item names that the catalog knows; others are left out.
        items: how many were asked for.
        subjects: HMAC of each item's canonical key under the day's key.
        basis: commitment to the legal basis.
        matter: commitment to the matter, if one was named.
        officer: commitment to the officer's id.
        status: of the reply.
        reasons: of the reply, public codes.
        found: items with a row.
        rev: number of the policy that judged, 0 for none.
        rule: id of the grant that allowed it.
        request: message digest of the request.
        reply: message digest of the reply.
        ms: time that it took, milliseconds.
    """

    name = "lookup.decided"
    quiet = frozenset({"day", "jti", "subjects", "basis", "matter", "officer"})
    day: str
    decision_id: str
    consumer: str
    jti: str
    op: str
    resource: str | None
    purpose: str
    fields: tuple[str, ...]
    items: int
    subjects: tuple[str, ...]
    basis: str
    matter: str | None
    officer: str
    status: str
    reasons: tuple[str, ...]
    found: int
    rev: int
    rule: str | None
    request: str
    reply: str
    ms: int

    def heard(self) -> Literal["debug"] | Level:
        """What went well is in the audit log, and too much for a journal."""
        return "debug" if self.status == "ok" else self.level


@dataclass(frozen=True)
class LookupRefused(Recorded):
    """Requests of a minute that were refused before their signature was known.

    Args:
        since: when the minute began, wire grammar.
        codes: problem code -> requests.
    """

    name = "lookup.refused"
    level = "warning"
    since: str
    codes: Mapping[str, int]


@dataclass(frozen=True)
class BatchLeft(Recorded):
    """A batch is about to leave; once, before its first upload.

    Args:
        digest: message digest of its manifest.
        size: bytes of the file.
    """

    name = "batch.left"
    resource: str
    epoch: int
    seq: int
    digest: str
    upsert: int
    delete: int
    keep: int
    size: int


@dataclass(frozen=True)
class RowsCompared(Recorded):
    """The centre's rows were compared with the source's; before any repair.

    Args:
        rows: rows of the source that would be sent.
        centre: rows of the centre.
        missing: the centre has them not.
        stale: the centre has other values.
        extra: only the centre has them.
        late: they changed after what was sent last.
        withheld: the centre keeps an older version.
        left: buckets that were not looked into.
    """

    name = "rows.compared"
    resource: str
    run: str
    rows: int
    centre: int
    missing: int
    stale: int
    extra: int
    late: int
    withheld: int
    left: int


@dataclass(frozen=True)
class ResourceRecalled(Recorded):
    """The exchange signed that it has no rows of a resource after its recall.

    Args:
        run: that asked the exchange.
        rows: that a person agreed to delete.
    """

    name = "resource.recalled"
    level = "warning"
    resource: str
    run: str
    rows: int


@dataclass(frozen=True)
class ConfigChanged(Recorded):
    """The agent started with other settings or catalog documents than before.

    Args:
        digest: ``sha256:<hex>`` over what was loaded.
    """

    name = "config.changed"
    digest: str


@dataclass(frozen=True)
class CentralApplied(Recorded):
    """A configuration of the centre runs, on probation.

    Args:
        generation: of its documents, the highest.
        digest: of the overlay, ``sha256:<hex>``.
        before: digest of the overlay that ran, empty for none.
    """

    name = "central.applied"
    generation: int
    digest: str
    before: str


@dataclass(frozen=True)
class CentralGood(Recorded):
    """A configuration of the centre has proven itself."""

    name = "central.good"
    generation: int
    digest: str


@dataclass(frozen=True)
class CentralReverted(Recorded):
    """A configuration of the centre failed; the one before runs again.

    Args:
        generation: of its documents, the highest.
        digest: of the overlay that was given up.
        running: digest of the overlay that runs again, empty for none.
        reason: code of an error.
    """

    name = "central.reverted"
    level = "error"
    generation: int
    digest: str
    running: str
    reason: str


@dataclass(frozen=True)
class CentralRefused(Recorded):
    """A configuration of the centre is not applied; what runs goes on.

    Args:
        generation: of its documents, 0 if they cannot be read.
        digest: of the overlay, empty if there is none.
        reason: code of an error.
    """

    name = "central.refused"
    level = "warning"
    generation: int
    digest: str
    reason: str


@dataclass(frozen=True)
class PolicyActivated(Recorded):
    """A policy judges from now on.

    Args:
        rev: its number, counting from 1.
        digest: ``sha256:<hex>`` of its text.
        uid: who activated it.
    """

    name = "policy.activated"
    rev: int
    digest: str
    uid: int


@dataclass(frozen=True)
class KeysChanged(Recorded):
    """Whose keys changed, and which count now.

    Args:
        node: this node, or another whose keys were accepted.
        kids: purpose -> kid of the newest key.
    """

    name = "keys.changed"
    node: str
    kids: Mapping[str, str]


@dataclass(frozen=True)
class EvidenceErased(Recorded):
    """A day's key is destroyed: its evidence, subjects and commitments say no more.

    Args:
        day: ``YYYY-MM-DD``, UTC.
        uid: who asked; None for the retention period.
        records: so many records had evidence.
    """

    name = "evidence.erased"
    level = "warning"
    day: str
    uid: int | None
    records: int


@dataclass(frozen=True)
class AuditStarted(Recorded):
    """The daemon opened the log; whatever came before it had ended.

    Args:
        version: of the agent.
        unfinished: requests that the last life did not answer.
    """

    name = "audit.started"
    version: str
    unfinished: int


@dataclass(frozen=True)
class RolledBack(Recorded):
    """The witness knows a longer log than ours: an old copy was put back.

    Args:
        size: of our log.
        witnessed: size that the witness cosigned last.
    """

    name = "audit.rolled_back"
    level = "error"
    size: int
    witnessed: int


# --- about the audit log itself -----------------------------------------------------


@dataclass(frozen=True)
class AuditStopped(Event):
    """The log takes no more records; lookups are refused until a restart."""

    name = "audit.stopped"
    level = "error"
    code: str
    detail: str


@dataclass(frozen=True)
class AuditCosigned(Event):
    """The witness cosigned a checkpoint of the log."""

    name = "audit.cosigned"
    size: int


@dataclass(frozen=True)
class WitnessTrouble(Event):
    """The witness did not cosign; the log goes on and is offered again."""

    name = "audit.witness"
    level = "warning"
    code: str
    detail: str


# --- lookups, beside their records ----------------------------------------------------


@dataclass(frozen=True)
class LookupRepeated(Event):
    """A request came again and gets the reply that it got before."""

    name = "lookup.repeated"
    consumer: str


@dataclass(frozen=True)
class LookupFailed(Event):
    """A lookup could not be answered: its source, or ``None`` the agent itself."""

    name = "lookup.failed"
    level = "warning"
    resource: str | None
    code: str


@dataclass(frozen=True)
class ReplayAttempt(Event):
    """Another request came under an id that was used: somebody may be forging."""

    name = "lookup.replay"
    level = "error"
    consumer: str


@dataclass(frozen=True)
class ChannelUp(Event):
    """The line over which lookups come is open."""

    name = "channel.up"


@dataclass(frozen=True)
class ChannelDown(Event):
    """The line over which lookups come is cut, and will be opened again."""

    name = "channel.down"
    level = "warning"
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class ListenerUp(Event):
    """The listener for the exchange is open."""

    name = "listener.up"
    port: int


@dataclass(frozen=True)
class ListenerDown(Event):
    """The listener could not be opened, or its process ended; the rest goes on."""

    name = "listener.down"
    level = "error"
    code: str
    detail: str


@dataclass(frozen=True)
class LookupLoopFailed(Event):
    """A loop of the lookup side failed and is begun again; pushes go on."""

    name = "lookup.loop"
    level = "error"
    part: str
    code: str
    detail: str


# --- keys and their life --------------------------------------------------------------


@dataclass(frozen=True)
class CertificateEnds(Event):
    """The certificate should have been renewed, and ends within so many days.

    Args:
        days: 30, 7 or 1; 0 when it has ended.
        not_after: when it ends, wire grammar.
    """

    name = "certificate.ends"
    level = "warning"
    days: int
    not_after: str


@dataclass(frozen=True)
class KeyChangeFailed(Event):
    """A step of an exchange of keys failed; the old ones stay in use.

    Args:
        purposes: of the new keys.
        code: of the error.
        detail: of it.
        attempt: tries in a row that have failed.
        wait_s: pause before the next one, seconds.
    """

    name = "keys.trouble"
    level = "warning"
    purposes: tuple[str, ...]
    code: str
    detail: str
    attempt: int
    wait_s: float


@dataclass(frozen=True)
class PeerBroke(Recorded):
    """A node's keys do not follow from those that we knew; its lookups stop.

    Args:
        node: whose they are.
        known: message digest of its first key statement, as we know it.
        found: that of the directory.
        reason: of the reset, as the directory has it; None: it has none.
    """

    name = "peer.broke"
    level = "error"
    node: str
    known: str
    found: str
    reason: str | None


# --- heartbeat and directory ----------------------------------------------------------


@dataclass(frozen=True)
class DirectoryKept(Event):
    """A new directory takes away what was known; the last good one stays in use.

    Args:
        detail: what is missing in it.
    """

    name = "directory.refused"
    level = "error"
    detail: str


@dataclass(frozen=True)
class TrustVerified(Event):
    """The city's TUF repository said something newer, and it verified.

    Args:
        root: version of its metadata, and so on.
    """

    name = "trust.verified"
    root: int
    timestamp: int
    snapshot: int
    targets: int


@dataclass(frozen=True)
class TrustTrouble(Event):
    """The city's TUF repository could not be verified anew; what was, goes on."""

    name = "trust.trouble"
    level = "warning"
    code: str
    detail: str


@dataclass(frozen=True)
class PeerUnsound(Event):
    """A node's new key statements are not signed as its chain demands.

    Its keys are not used any more; lookups with it fail.
    """

    name = "directory.unsound"
    level = "error"
    node: str


@dataclass(frozen=True)
class HeartbeatRefused(Event):
    """The exchange does not take our heartbeats; told once, not at every beat.

    Args:
        code: the exchange's problem; ``held`` and ``fork`` mean that it saw another
            machine under our name.
    """

    name = "heartbeat.refused"
    level = "warning"
    code: str
    detail: str


@dataclass(frozen=True)
class HeartbeatTaken(Event):
    """The exchange takes our heartbeats again."""

    name = "heartbeat.taken"
