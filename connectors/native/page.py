# SPDX-License-Identifier: Apache-2.0
"""Pages of columns that grow in C and become Arrow without a copy.

Source: the Arrow columnar format; ``columns.h`` says who appends and what is bounded.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from connectors.native.loader import library

OK, MEMORY, LARGE, MALFORMED = 0, -1, -2, -3
"""What the functions that append return; 0 and more is theirs to say."""


class Page:
    """Columns for at most so many rows.

    The Arrow arrays of :meth:`batch` keep the page, and with it the buffers, alive.

    Args:
        types: Arrow type of each column.
        most: rows that it has room for.

    Raises:
        MemoryError: it cannot be had.
    """

    def __init__(self, types: Sequence[pa.DataType], most: int) -> None:
        self._types = tuple(types)
        self._free = library().fep_page_free
        layouts = bytes(layout_of(kind) for kind in self._types)
        self.pointer = library().fep_page_new(len(layouts), layouts, most)
        if not self.pointer:
            raise MemoryError

    def __del__(self) -> None:
        if getattr(self, "pointer", None):
            self._free(self.pointer)

    @property
    def rows(self) -> int:
        """Rows so far."""
        return int(library().fep_page_rows(self.pointer))

    @property
    def bytes(self) -> int:
        """Bytes of all values so far."""
        return int(library().fep_page_bytes(self.pointer))

    def batch(self, names: Sequence[str]) -> pa.RecordBatch:
        """What stands in it; nothing may be appended any more.

        Args:
            names: of the columns.
        """
        rows = self.rows
        arrays = [self._array(i, kind, rows) for i, kind in enumerate(self._types)]
        return pa.RecordBatch.from_arrays(arrays, names=list(names))

    def _array(self, i: int, kind: pa.DataType, rows: int) -> pa.Array[Any]:
        found = (ctypes.c_uint64 * 5)()
        library().fep_page_column(self.pointer, i, found)
        valid, offsets, data, size, nulls = found
        bits = pa.foreign_buffer(valid, (rows + 7) // 8, self) if nulls else None
        buffers = [bits]
        if offsets:
            buffers.append(pa.foreign_buffer(offsets, 4 * (rows + 1), self))
        buffers.append(pa.foreign_buffer(data, size, self))
        return pa.Array.from_buffers(kind, rows, buffers, null_count=nulls)


def layout_of(kind: pa.DataType) -> int:
    """The layout of ``columns.h`` that an Arrow type has.

    Raises:
        ValueError: a type with another one.
    """
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        return 0
    if pa.types.is_boolean(kind):
        return 1
    if kind.bit_width in (32, 64, 128):
        return int(kind.bit_width) // 8
    raise ValueError(kind)
