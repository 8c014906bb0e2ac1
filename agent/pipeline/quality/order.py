# SPDX-License-Identifier: Apache-2.0
"""Keys that come twice, found with the memory of one key.

A connector gives rows in an order of the key, equal keys side by side. That holds for
what the source compares, which need not be what travels: a text column that is bound
as a number has ``05`` far from ``5``. So numbers, dates and times have to ascend; a row
that falls back cannot be shown to be new, and is withheld as ``key_order``. Texts
travel as they are compared: for them it is enough that equal ones are neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from agent.model.item import ItemType
from agent.values.columns import Column, Mask, truth

Key = tuple[object, ...]
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Seen:
    """What is wrong with the keys of a page, by row."""

    twice: Mask
    fallen: Mask


class KeyOrder:
    """Follows the keys of a run.

    Args:
        types: of the key items, in order.
    """

    def __init__(self, types: tuple[ItemType, ...]) -> None:
        self._ascend = tuple(kind is not ItemType.C for kind in types)
        self._last: Key | None = None

    def follow(self, keys: list[Column], bad: Mask) -> Seen:
        """Judge the next page.

        Args:
            keys: the key columns.
            bad: rows that have no key.
        """
        twice, fallen = np.zeros(len(bad), np.bool_), np.zeros(len(bad), np.bool_)
        good = np.flatnonzero(~bad) if bad.any() else np.arange(len(bad))
        if not len(good):
            return Seen(twice, fallen)
        if len(good) < len(bad):
            keys = [key.take(good) for key in keys]
        same = self._neighbours(keys)
        if same is None:
            self._one_by_one(keys, good, twice, fallen)
        else:
            twice[good] = same
            self._last = tuple(key[-1].as_py() for key in keys)
        return Seen(twice, fallen)

    def _neighbours(self, keys: list[Column]) -> Mask | None:
        """Rows that repeat the key before them; None if any key falls back."""
        size = len(keys[0])
        same = np.ones(size, np.bool_)
        first: Key = tuple(key[0].as_py() for key in keys)
        same[0] = first == self._last
        if not same[0] and self._falls(first):
            return None
        if _rises(keys[0]):  # as most do, and then nothing else matters
            same[1:] = False
            return same
        for key, ascends in zip(keys, self._ascend, strict=True):
            after, before = key.slice(1), key.slice(0, size - 1)
            if ascends and (same[1:] & truth(pc.less(after, before))).any():
                return None
            same[1:] &= truth(pc.equal(after, before))
        return same

    def _falls(self, key: Key) -> bool:
        """Whether a key lies before the last one that counted."""
        if self._last is None:
            return False
        for new, old, ascends in zip(key, self._last, self._ascend, strict=True):
            if new != old:
                return ascends and bool(new < old)  # type: ignore[operator]
        return False

    def _one_by_one(
        self, keys: list[Column], good: Rows, twice: Mask, fallen: Mask
    ) -> None:
        values = zip(*(key.to_pylist() for key in keys), strict=True)
        for row, key in zip(good.tolist(), values, strict=True):
            if key == self._last:
                twice[row] = True
            elif self._falls(key):
                fallen[row] = True
            else:
                self._last = key


def _rises(key: Column) -> bool:
    """Whether each value is greater than the one before it."""
    rising = pc.less(key.slice(0, len(key) - 1), key.slice(1))
    return pc.all(rising, skip_nulls=False).as_py() is True
