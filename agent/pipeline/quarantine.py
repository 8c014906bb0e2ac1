# SPDX-License-Identifier: Apache-2.0
"""Withheld rows, kept on this machine for the people who can correct them.

One file per run, JSON lines, owner-only, made with its first row. It holds personal
data: it never leaves, its name tells only resource and run, and it goes after the days
that the settings allow.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

import pyarrow as pa

from agent.model.job import BoundItem
from agent.model.withheld import Withheld

ROWS_CAP = 100_000
"""Most rows that one run's file holds; the counts of the run stay complete."""


class Quarantine:
    """Writer of one run's file.

    Args:
        path: where the file appears with the first row.
        items: columns of the pages, in order.
        rows_cap: after so many rows one last line ``{"truncated": true}`` is written.
    """

    def __init__(
        self, path: Path, items: tuple[BoundItem, ...], *, rows_cap: int = ROWS_CAP
    ) -> None:
        self._path = path
        self._items = items
        self._left = rows_cap
        self._file: TextIO | None = None

    def write(self, page: pa.RecordBatch, withheld: Withheld) -> None:
        """Append the withheld rows of a page, as the source gave them.

        Raises:
            OSError: the file cannot be made or written.
        """
        if not len(withheld) or not self._left:
            return
        if self._file is None:
            self._file = _create(self._path)
        for line in self._lines(page, withheld):
            self._file.write(line + "\n")
        if not self._left:
            self._file.write('{"truncated": true}\n')
        self._file.flush()

    def close(self) -> None:
        """Make what was written durable."""
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None

    def __enter__(self) -> Quarantine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _lines(self, page: pa.RecordBatch, withheld: Withheld) -> Iterator[str]:
        names = [b.item.name for b in self._items]
        keys = [b.item.name for b in self._items if b.item.key]
        taken = page.take(withheld.rows[: self._left])
        columns = [[_plain(v) for v in _values(column)] for column in taken.columns]
        self._left -= taken.num_rows
        for values, (_, cause) in zip(
            zip(*columns, strict=True), withheld, strict=False
        ):
            row = dict(zip(names, values, strict=True))
            body = {
                "reason": cause.reason,
                "item": cause.item,
                "key": {name: row[name] for name in keys},
                "row": row,
            }
            yield json.dumps(body, ensure_ascii=False)


def _create(path: Path) -> TextIO:
    """A new file; what an earlier try of the same run left is read again anyway."""
    path.unlink(missing_ok=True)
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    return os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8")


def _values(column: Any) -> list[Any]:
    """Text as it is, bytes as they are, everything else as Arrow writes it."""
    if column.type in (pa.string(), pa.binary(), pa.bool_(), pa.int64()):
        return list(column.to_pylist())
    return list(column.cast(pa.string()).to_pylist())


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": base64.b64encode(value).decode()}
    return value
