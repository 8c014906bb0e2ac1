# SPDX-License-Identifier: Apache-2.0
"""What the demonstration found, as frozen values; ``fep demo --json`` prints them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from agent.errors import GateClosed, Text

GATE_CLOSED = GateClosed.code


@dataclass(frozen=True)
class Tally:
    """Rows of a table and the digest over them (wire.md §2, row digest)."""

    rows: int
    digest: str


@dataclass(frozen=True)
class Pushed:
    """One resource that was pushed.

    Args:
        code: of the resource.
        name: of the resource.
        share: ``"1"`` unconditional, ``"2"`` conditional.
        in_source: rows of the table, counted by the demonstration itself.
        read: rows that the run read.
        accepted: rows that the run sent.
        quarantined: rows that stayed here.
        reasons: quarantine code -> rows.
        warnings: rule -> rows that were sent although they break it.
        batches: batches of the run.
        sent_bytes: bytes of their files.
        loaded: batches of the run with a signed ``loaded`` receipt.
        source: what should be at the centre, read again from the source.
        centre: what the exchange signs that it holds.
        withheld_items: items of the resource that are not shared.
    """

    code: str
    name: str
    share: Literal["1", "2"]
    in_source: int
    read: int
    accepted: int
    quarantined: int
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    batches: int
    sent_bytes: int
    loaded: int
    source: Tally
    centre: Tally
    withheld_items: tuple[str, ...]

    @property
    def counts(self) -> bool:
        """Source rows = centre's rows + quarantined; nothing is in flight any more."""
        return (
            self.in_source == self.read == self.accepted + self.quarantined
            and self.in_source == self.centre.rows + self.quarantined
            and self.batches == self.loaded > 0
        )

    @property
    def equal(self) -> bool:
        """Source and centre have the same rows."""
        return self.source == self.centre


@dataclass(frozen=True)
class Kept:
    """A resource that is not shared; ``refused`` is the code that a pull got."""

    code: str
    name: str
    rows: int
    refused: str
    basis: str


@dataclass(frozen=True)
class Tampered:
    """What the exchange said to an altered batch.

    Args:
        what: which part of the file was altered.
        status: HTTP status.
        code: of the problem document, or ``accepted``.
        detail: of the problem document.
    """

    what: Text
    status: int
    code: str
    detail: str

    @property
    def refused(self) -> bool:
        """It was refused with one of the codes that an altered batch deserves."""
        return self.status == 422 and self.code in {"bad-digest", "bad-signature"}


@dataclass(frozen=True)
class Asked:
    """A question of another department, and its signed answer.

    Args:
        what: what it was asked for.
        consumer: node that asked.
        resource: code.
        purpose: of the closed list.
        status: of the reply.
        reasons: of the reply.
        rule: grant that allowed it.
        shown: title of an item -> text as it was given.
        masked: titles of those that were masked.
    """

    what: Text
    consumer: str
    resource: str
    purpose: str
    status: str
    reasons: tuple[str, ...]
    rule: str | None
    shown: Mapping[str, str | None]
    masked: tuple[str, ...]


@dataclass(frozen=True)
class Checked:
    """The audit log, taken away and checked without the agent.

    Args:
        folder: of the exported log; beside it lies a copy with one record altered.
        records: so many.
        cosigned: so many were cosigned by the exchange.
        good: whether the unaltered log holds.
        altered: number of the record that was altered.
        found: number of the first record that the check calls bad then.
    """

    folder: str
    records: int
    cosigned: int
    good: bool
    altered: int
    found: int | None

    @property
    def proven(self) -> bool:
        """The log holds, and an altered record is found where it stands."""
        return self.good and self.found == self.altered and self.cosigned > 0


@dataclass(frozen=True)
class Report:
    """Everything that one start of the demonstration did.

    Args:
        folder: its work folder.
        rows: persons of the department.
        reused: whether department and enrolment were there already.
        pushed: resources that were pushed, in order of their codes.
        kept: resources that were not.
        tampered: what became of the altered batches.
        after_tamper: receipt of the unaltered batch afterwards.
        asked: lookups of another department, the allowed one first.
        log: the audit log, checked offline.
        ms: step -> how long it took, milliseconds.
    """

    folder: str
    rows: int
    reused: bool
    pushed: tuple[Pushed, ...]
    kept: tuple[Kept, ...]
    tampered: tuple[Tampered, ...]
    after_tamper: str
    asked: tuple[Asked, ...]
    log: Checked
    ms: Mapping[str, int]

    @property
    def healthy(self) -> bool:
        """Counts fit, both sides are equal, alterations and misuse were refused."""
        return (
            bool(self.pushed)
            and all(p.counts and p.equal for p in self.pushed)
            and all(k.refused == GATE_CLOSED for k in self.kept)
            and bool(self.tampered)
            and all(t.refused for t in self.tampered)
            and self.after_tamper == "loaded"
            and self.answers
            and self.log.proven
        )

    @property
    def answers(self) -> bool:
        """The granted purpose got its masked answer, the other one a refusal."""
        allowed, refused = self.asked
        return (
            allowed.status == "ok"
            and len(allowed.masked) > 0
            and (refused.status, refused.reasons) == ("denied", ("purpose",))
            and not refused.shown
        )

    def as_dict(self) -> dict[str, Any]:
        """The documented JSON form."""
        body = asdict(self)
        for line, pushed in zip(body["pushed"], self.pushed, strict=True):
            line |= {"counts": pushed.counts, "equal": pushed.equal}
        for line, one in zip(body["tampered"], self.tampered, strict=True):
            line |= {"what": one.what._asdict(), "refused": one.refused}
        for line, question in zip(body["asked"], self.asked, strict=True):
            line |= {"what": question.what._asdict()}
        body["log"] |= {"proven": self.log.proven}
        return {"healthy": self.healthy, **body}
