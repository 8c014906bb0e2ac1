# SPDX-License-Identifier: Apache-2.0
"""``policy.toml`` as a person writes it; ``load`` judges it.

Purposes: 辽阳办法 article 16 (行政依据, 工作参考, 数据校核, 业务协同).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from agent.lookup.policy.pattern import LONGEST
from agent.model.treatment import MaskKind
from agent.wire.lookup import ITEMS, Op

UsePurpose = Literal[
    "administrative_basis", "work_reference", "data_verification", "collaboration"
]

TREATMENTS = ("show", "verify", *(f"mask:{kind}" for kind in MaskKind))
"""What may stand in ``fields``."""

MOST_GRANTS = 1000
MOST_CONSUMERS = 1000
MOST_FIELDS = 1000
MOST_KEYS = 8


Consumer = Annotated[str, Field(pattern=r"^[0-9A-Z]{18}$")]
"""A department by its unified social credit code."""


class Part(BaseModel):
    """A table of the policy: no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Purpose(Part):
    """A purpose (用途), and what the legal basis (依据) of a request must look like.

    Args:
        purpose: one of the four.
        basis: RE2 pattern; it must match the whole of the basis, which is ASCII.
    """

    purpose: UsePurpose
    basis: Annotated[str, Field(min_length=1, max_length=LONGEST)]


class Validity(Part):
    """The days on which a grant holds, in ``agent.timezone``; both are included."""

    first: Annotated[date | None, Field(alias="from")] = None
    last: Annotated[date | None, Field(alias="to")] = None


class Grant(Part):
    """One grant (授权).

    Args:
        id: stands in every answer and every audit record that follows from it.
        consumers: unified social credit codes of the asking departments.
        resource: code of a resource with ``lookup = true``.
        ops: ``get`` 查询, ``verify`` 核验, ``exists`` 是否存在.
        keys: items by which a row is asked for; all of them, exactly, and no other.
        purposes: each purpose once.
        fields: item -> ``show``, ``verify`` or ``mask:<kind>``.
        max_items: most items of one request.
        valid: without it the grant has no end.
        note: for people: who decided, and when.
    """

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
    consumers: Annotated[
        tuple[Consumer, ...],
        Field(strict=False, min_length=1, max_length=MOST_CONSUMERS),
    ]
    resource: Annotated[str, Field(max_length=256)]
    ops: Annotated[tuple[Op, ...], Field(strict=False, min_length=1, max_length=3)]
    keys: Annotated[
        tuple[Annotated[str, Field(max_length=63)], ...],
        Field(strict=False, min_length=1, max_length=MOST_KEYS),
    ]
    purposes: Annotated[
        tuple[Purpose, ...], Field(strict=False, min_length=1, max_length=4)
    ]
    fields: Annotated[
        Mapping[str, Annotated[str, Field(json_schema_extra={"enum": [*TREATMENTS]})]],
        Field(max_length=MOST_FIELDS),
    ] = {}
    max_items: Annotated[int, Field(ge=1, le=ITEMS)] = 100
    valid: Validity = Validity()
    note: Annotated[str, Field(max_length=4000)] = ""


class Document(Part):
    """The whole file; without grants everything is refused."""

    grants: Annotated[
        tuple[Grant, ...], Field(strict=False, max_length=MOST_GRANTS)
    ] = ()
