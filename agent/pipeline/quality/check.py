# SPDX-License-Identifier: Apache-2.0
"""Pages of a source to rows that may be sent.

Rules

1. A row is sent (``u``) with its values unchanged, or withheld with one reason: the
   first that holds, a doubtful key before all, then item by item in catalog order.
2. A withheld row whose key is good leaves as ``k``: the centre keeps its last version.
   Without a good key, or when the key stood in an earlier row, nothing of it leaves.
3. Of rows with equal keys, also across pages, the first counts; the later ones are
   ``duplicate_key``. A key that falls back in the order is ``key_order`` (see there).
4. A rule's severity is ``warn`` (sent and counted), ``quarantine`` or ``halt`` (the run
   stops). A value that its type cannot carry is always quarantined.
5. Neither errors nor counts hold a value of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from agent.errors import QualityHalt, SecrecyMarker, SourceTypeChanged
from agent.model.batch import Quality, Rows
from agent.model.item import ItemType
from agent.model.job import BoundItem
from agent.model.withheld import Cause, Withheld
from agent.pipeline.quality import reasons
from agent.pipeline.quality.order import KeyOrder
from agent.pipeline.quality.rules import judge, marked
from agent.values.columns import Column, Mask, canonical, truth
from agent.values.encoding import repaired
from agent.values.typed import typed
from agent.values.zone import Zone
from agent.wire.arrow import schema_of


@dataclass(frozen=True)
class Checked:
    """A page after the checks.

    Args:
        rows: ``_op`` and the items in exact wire types; ``u`` and ``k``, in order.
        counts: rows by operation.
        quality: read, quarantined (with and without ``k``) and skipped (always 0).
        withheld: what the quarantine file holds.
        reasons: reason -> rows withheld for it.
        warnings: rule -> rows that are sent with a warning.
        left: which rows of the page ``rows`` are made of; None: all of them.
    """

    rows: pa.RecordBatch
    counts: Rows
    quality: Quality
    withheld: Withheld
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    left: Mask | None = None


class MarkerFound(SecrecyMarker):
    """:class:`SecrecyMarker` with the page, so that its rows reach the quarantine."""

    def __init__(self, detail: str, checked: Checked) -> None:
        super().__init__(detail)
        self.checked = checked


class RuleHalted(QualityHalt):
    """:class:`QualityHalt` with the page, so that its rows reach the quarantine."""

    def __init__(self, detail: str, checked: Checked) -> None:
        super().__init__(detail)
        self.checked = checked


class Checker:
    """Checks the pages of one run, in order.

    Args:
        items: in the order of the catalog and of a page's columns.
        timezone: IANA name for source times without zone.
        severity: rule -> ``warn``, ``quarantine`` or ``halt``; a rule that is not
            named quarantines, a secrecy marking halts.

    Raises:
        ValueError: no key item, an unknown rule, or a severity that it cannot have.
    """

    def __init__(
        self,
        items: tuple[BoundItem, ...],
        *,
        timezone: str,
        severity: Mapping[str, str],
    ) -> None:
        self._items = items
        self._zone = Zone(timezone)
        self._severity = {reasons.SECRECY_MARKER: "halt", **severity}
        if self._severity[reasons.SECRECY_MARKER] == "warn":
            raise ValueError("a row with a secrecy marking is never sent")
        self._judges = tuple(tuple(judge(r) for r in b.rules) for b in items)
        self._schema = schema_of([bound.item for bound in items])
        keys = [bound.item for bound in items if bound.item.key]
        self._order = KeyOrder(tuple(item.type for item in keys))
        if not keys:
            raise ValueError("no item is a key")
        self._first_key = keys[0].name
        self._ops: Column = pa.array([], pa.string())

    @property
    def schema(self) -> pa.Schema:
        """``_op`` and the items."""
        return self._schema

    def check(self, page: pa.RecordBatch) -> Checked:
        """The rows of the next page.

        Raises:
            MarkerFound: a secrecy marking, unless its severity is ``quarantine``.
            RuleHalted: a rule of severity ``halt`` failed.
            SourceTypeChanged: a column that the catalog's type cannot take.
            SourceError: a rule needs the compiled library, and it is missing.
        """
        if page.num_columns != len(self._items):
            raise SourceTypeChanged(
                f"expected {len(self._items)} columns, got {page.num_columns}"
            )
        notes = _Notes(page.num_rows, self._severity)
        values = [self._column(c, i, notes) for i, c in enumerate(page.columns)]
        return self._finish(values, notes)

    def _column(self, column: Column, at: int, notes: _Notes) -> Column:
        """One item's values; what is wrong with them goes into the notes."""
        bound = self._items[at]
        item = bound.item
        if bound.encoding is not None:
            column = repaired(column, bound.encoding)
        parsed = typed(column, item, self._zone)
        for reason, mask in parsed.faults.items():
            notes.withhold(Cause(reason, item.name), mask, key=item.key)
        if column.null_count and (item.key or bound.required):
            empty = truth(column.is_null())
            if item.key:
                notes.withhold(Cause(reasons.KEY_MISSING, item.name), empty, key=True)
            else:
                notes.judge(Cause(reasons.REQUIRED, item.name), empty)
        if item.type in (ItemType.C, ItemType.M):
            marks = marked(parsed.values)
            if marks is not None:
                notes.judge(Cause(reasons.SECRECY_MARKER, item.name), marks)
        for judged in self._judges[at]:
            for reason, mask in judged(parsed.values).items():
                notes.judge(Cause(reason, item.name), mask)
        return parsed.values

    def _finish(self, values: list[Column], notes: _Notes) -> Checked:
        keys = [v for v, b in zip(values, self._items, strict=True) if b.item.key]
        seen = self._order.follow(keys, notes.bad_key)
        for reason, mask in (
            (reasons.DUPLICATE_KEY, seen.twice),
            (reasons.KEY_ORDER, seen.fallen),
        ):
            notes.withhold(Cause(reason, self._first_key), mask, first=True)
        if notes.cause is None:
            rows = self._batch([self._upserts(notes.size), *values])
            return _checked(rows, notes, keep=0)
        kept = (notes.cause > 0) & ~(notes.bad_key | seen.twice | seen.fallen)
        upsert = pa.array(notes.cause == 0)
        columns = [
            v if b.item.key or not kept.any() else _only_where(upsert, v)
            for v, b in zip(values, self._items, strict=True)
        ]
        columns.insert(0, pc.if_else(upsert, pa.scalar("u"), pa.scalar("k")))
        leaving = (notes.cause == 0) | kept
        if not leaving.all():
            columns = [column.filter(pa.array(leaving)) for column in columns]
        rows = self._batch(columns)
        checked = _checked(rows, notes, keep=int(kept.sum()), left=leaving)
        notes.halt(checked)
        return checked

    def _upserts(self, size: int) -> Column:
        """``u`` for each row; pages are mostly as large as the one before."""
        if len(self._ops) != size:
            self._ops = pa.repeat(pa.scalar("u"), size)
        return self._ops

    def _batch(self, columns: list[Column]) -> pa.RecordBatch:
        arrays = [canonical(column) for column in columns]
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


class _Notes:
    """What was found about the rows of one page."""

    def __init__(self, size: int, severity: Mapping[str, str]) -> None:
        self.size = size
        self.cause: npt.NDArray[np.int64] | None = None
        self.causes: list[Cause] = []
        self.bad_key = np.zeros(size, np.bool_)
        self.warnings: dict[str, Mask] = {}
        self._severity = severity
        self._halting: list[tuple[Cause, int]] = []

    def withhold(
        self, cause: Cause, mask: Mask, *, key: bool = False, first: bool = False
    ) -> None:
        """The rows are not sent; ``first`` decides even where a cause is known."""
        if not mask.any():
            return
        if self.cause is None:
            self.cause = np.zeros(self.size, np.int64)
        if cause not in self.causes:
            self.causes.append(cause)
        new = mask if first else mask & (self.cause == 0)
        self.cause[new] = self.causes.index(cause) + 1
        if key:
            self.bad_key |= mask

    def judge(self, cause: Cause, mask: Mask) -> None:
        """A rule failed for the rows: what its severity says."""
        severity = self._severity.get(cause.reason, "quarantine")
        if severity == "warn":
            known = self.warnings.get(cause.reason)
            self.warnings[cause.reason] = mask if known is None else known | mask
            return
        self.withhold(cause, mask)
        if severity == "halt":
            self._halting.append((cause, int(mask.sum())))

    def halt(self, checked: Checked) -> None:
        """Stop the run if a rule says so; a secrecy marking speaks first.

        Raises:
            MarkerFound: as :meth:`Checker.check`.
            RuleHalted: as :meth:`Checker.check`.
        """
        if not self._halting:
            return
        detail = ", ".join(
            f"{cause.reason} in item {cause.item}: {rows} rows"
            for cause, rows in self._halting
        )
        if any(c.reason == reasons.SECRECY_MARKER for c, _ in self._halting):
            raise MarkerFound(detail, checked)
        raise RuleHalted(detail, checked)


def _only_where(mask: Column, values: Column) -> Column:
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def _checked(
    rows: pa.RecordBatch, notes: _Notes, *, keep: int, left: Mask | None = None
) -> Checked:
    cause = notes.cause
    if cause is None:
        cause = np.zeros(notes.size, np.int64)
    at = np.flatnonzero(cause)
    which = cause[at] - 1
    by_reason: dict[str, int] = {}
    for found, count in zip(notes.causes, np.bincount(which), strict=False):
        by_reason[found.reason] = by_reason.get(found.reason, 0) + int(count)
    warned = {r: int((m & (cause == 0)).sum()) for r, m in notes.warnings.items()}
    return Checked(
        rows=rows,
        counts=Rows(upsert=rows.num_rows - keep, delete=0, keep=keep),
        quality=Quality(read=notes.size, quarantined=len(at), skipped=0),
        withheld=Withheld(at.tolist(), which.tolist(), tuple(notes.causes)),
        reasons={reason: count for reason, count in by_reason.items() if count},
        warnings={rule: count for rule, count in warned.items() if count},
        left=left,
    )
