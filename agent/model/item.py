# SPDX-License-Identifier: Apache-2.0
"""Information items (信息项) and the types that their values may have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class ItemType(StrEnum):
    """Data types of the national catalog guide (编制指南); letters as on the wire."""

    C = "C"  # 字符型, text of bounded length
    M = "M"  # 备注型, long text
    N = "N"  # 数值型, decimal of fixed precision and scale
    Y = "Y"  # 货币型, decimal(19, 4)
    I = "I"  # noqa: E741 - 整型, 64-bit integer
    D = "D"  # 日期型, date
    T = "T"  # 日期时间型, instant in UTC, microseconds
    L = "L"  # 逻辑型, boolean
    B = "B"  # 双精度型, 64-bit float
    F = "F"  # 浮点型, 64-bit float
    G = "G"  # 通用型, bytes


class ShareType(StrEnum):
    """The three share types (共享类型), numbered as in the guide."""

    UNCONDITIONAL = "1"
    CONDITIONAL = "2"
    NOT_SHARED = "3"


@dataclass(frozen=True)
class Item:
    """One column as it travels.

    Args:
        name: ``[a-z][a-z0-9_]{0,62}``.
        type: its :class:`ItemType`.
        length: C: most code points; N: precision in digits; else None.
        scale: N: digits after the point; else None.
        key: whether it belongs to the key.
        share: ``"1"`` or ``"2"``; an item that is not shared is never an Item.
    """

    name: str
    type: ItemType
    length: int | None
    scale: int | None
    key: bool
    share: Literal["1", "2"]
