# SPDX-License-Identifier: Apache-2.0
"""What becomes of an item's value in an answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class MaskKind(StrEnum):
    """How a value is masked (脱敏); ``agent.lookup.mask`` says what each one keeps."""

    NAME = "name"
    CITIZEN_ID = "citizen_id"
    CITIZEN_ID_STRICT = "citizen_id_strict"
    MOBILE = "mobile"
    LANDLINE = "landline"
    BANK_CARD = "bank_card"
    ADDRESS = "address"
    EMAIL = "email"
    YEAR = "year"
    PLATE = "plate"
    HIDE = "hide"


@dataclass(frozen=True)
class Treatment:
    """What a grant allows of an item.

    Args:
        use: ``show``: its value, and comparing with it; ``mask``: its masked value
            only, since comparing would give the rest away guess by guess; ``verify``:
            comparing only.
        mask: the kind of mask; only with ``mask``.
    """

    use: Literal["show", "mask", "verify"]
    mask: MaskKind | None = None

    def __post_init__(self) -> None:
        if (self.use == "mask") is not (self.mask is not None):
            raise ValueError(f"{self.use}: expected a kind with a mask and only there")

    @property
    def given(self) -> bool:
        """Whether ``get`` may answer with it, masked or not."""
        return self.use != "verify"

    @property
    def compared(self) -> bool:
        """Whether ``verify`` may compare with it."""
        return self.use != "mask"
