# SPDX-License-Identifier: Apache-2.0
"""Quality and quarantine of one run as the worker sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.child.source import source_faults
from agent.errors import FepError
from agent.model.job import Job
from agent.model.run import COMPARING
from agent.pipeline import disk
from agent.pipeline.quality.check import Checked, Checker, MarkerFound, RuleHalted
from agent.pipeline.quarantine import Quarantine

if TYPE_CHECKING:
    import pyarrow as pa

    from agent.values.columns import Mask


@dataclass(frozen=True)
class Sifted:
    """A piece after the quality rules.

    Args:
        rows: accepted rows and rows to keep, in wire types, ``_op`` first.
        reasons: quarantine code -> source rows of this piece.
        warnings: rule name -> rows of this piece that are sent with a warning.
        halt: why the run must stop here, or None.
        left: which rows of the piece ``rows`` are made of; None: all of them.
    """

    rows: pa.RecordBatch
    reasons: Mapping[str, int]
    warnings: Mapping[str, int]
    halt: FepError | None = None
    left: Mask | None = None


class Sieve(Protocol):
    """The quality stage of one run; knows the last key of the piece before."""

    def sift(self, rows: pa.RecordBatch) -> Sifted:
        """Check the next piece and put what is withheld into the quarantine."""
        ...

    def close(self) -> None:
        """Make the quarantine durable."""
        ...


class QualitySieve:
    """The rules of a job's items; what sends no row that it read leaves no quarantine.

    Args:
        job: items, time zone, severities and the quarantine's path.
    """

    def __init__(self, job: Job) -> None:
        self._checker = Checker(job.items, timezone=job.timezone, severity=job.severity)
        keeps = job.kind == "pull" and job.mode not in COMPARING
        self._quarantine = (
            Quarantine(Path(job.quarantine), job.items) if keeps else None
        )

    def sift(self, rows: pa.RecordBatch) -> Sifted:
        """As :meth:`Sieve.sift`.

        Raises:
            SourceTypeChanged: a column that the catalog's type cannot take.
            SourceFailed: the compiled library is missing, which judges some rules.
            SpoolFull, SpoolWriteFailed: the quarantine cannot be written.
        """
        halt: MarkerFound | RuleHalted | None = None
        try:
            with source_faults():
                checked = self._checker.check(rows)
        except (MarkerFound, RuleHalted) as e:
            halt, checked = e, e.checked
        self._keep(rows, checked)
        return Sifted(
            checked.rows, checked.reasons, checked.warnings, halt, checked.left
        )

    def close(self) -> None:
        """As :meth:`Sieve.close`.

        Raises:
            SpoolWriteFailed: the quarantine cannot be synced.
        """
        if self._quarantine is not None:
            try:
                self._quarantine.close()
            except OSError as e:
                raise disk.failed_sync(e, "syncing the quarantine") from e

    def _keep(self, rows: pa.RecordBatch, checked: Checked) -> None:
        if self._quarantine is not None:
            try:
                self._quarantine.write(rows, checked.withheld)
            except OSError as e:
                raise disk.refusal(e, "writing the quarantine") from e
