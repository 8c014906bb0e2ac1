# SPDX-License-Identifier: Apache-2.0
"""A resource document: one entry of the catalog, after the national guide.

Sources: 《政务信息资源目录编制指南(试行)》 (core metadata), 辽阳办法 articles 8 and 9.
The model only holds what a document says; ``lint`` judges it, ``gate`` decides.
Descriptive texts may be empty here, so that lint can name every gap at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from agent.model.item import ItemType, ShareType

Share = Literal["unconditional", "conditional", "not_shared"]
"""无条件共享, 有条件共享, 不予共享."""

SHARES: Mapping[Share, ShareType] = {
    "unconditional": ShareType.UNCONDITIONAL,
    "conditional": ShareType.CONDITIONAL,
    "not_shared": ShareType.NOT_SHARED,
}

Text = Annotated[str, Field(max_length=4000)]
Texts = Annotated[tuple[Text, ...], Field(strict=False)]


class Part(BaseModel):
    """A table of a document: no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class LegalBasis(Part):
    """Why something is not shared (法律依据)."""

    level: Literal["law", "regulation", "rule", "document"]
    title: Annotated[Text, Field(min_length=1)]
    article: Annotated[Text, Field(min_length=1)]
    url: Text = ""
    valid_until: date | None = None


class SecrecyReview(Part):
    """Who reviewed that nothing secret leaves (保密审查)."""

    reviewer: Annotated[Text, Field(min_length=1)]
    on: date
    document: Text = ""


class Census(Part):
    """The six numbers of the resource census (大普查); GB and 10,000 rows."""

    total_storage_gb: Annotated[float, Field(ge=0)] = 0.0
    total_rows_10k: Annotated[float, Field(ge=0)] = 0.0
    shared_storage_gb: Annotated[float, Field(ge=0)] = 0.0
    shared_rows_10k: Annotated[float, Field(ge=0)] = 0.0
    opened_storage_gb: Annotated[float, Field(ge=0)] = 0.0
    opened_rows_10k: Annotated[float, Field(ge=0)] = 0.0


class CatalogItem(Part):
    """An information item (信息项).

    Args:
        name: as it travels, ``[a-z][a-z0-9_]*``.
        title: the item's name in Chinese.
        share_type: None: as the resource; it may be stricter, never looser.
        sensitivity: how much harm a disclosure does; masks use it.
        rules: quality rules: ``code:gender``, ``code:gender_name``, ``code:ethnicity``,
            ``code:ethnicity_name``, ``code:region``, ``citizen_id``, ``uscc``.
    """

    name: str
    title: Text = ""
    type: Annotated[ItemType, Field(strict=False)]
    length: int | None = None
    scale: int | None = None
    key: bool = False
    required: bool = False
    share_type: Share | None = None
    share_condition: Text = ""
    legal_basis: LegalBasis | None = None
    open_to_public: bool | None = None
    sensitivity: Literal["general", "internal", "personal", "sensitive"] = "general"
    authoritative_source: Text = ""
    rules: Texts = ()
    description: Text = ""


def _path(value: object) -> object:
    """A table's name: ``"public.person"`` or ``["public", "person"]``."""
    return tuple(value.split(".")) if isinstance(value, str) else value


class Binding(Part):
    """Where the rows are (挂接); local, it never leaves.

    Args:
        source: ``[sources.<name>]`` of the settings.
        table: schema-qualified, outermost first.
        columns: item -> column, where their names differ.
        stamp: column that the database itself sets to its clock with every insert and
            update; its values never leave.
        number: column of whole numbers that grow from row to row, where rows are only
            added and nothing else tells the new ones; its values never leave.
        encodings: item -> what its texts really are, where the database calls them
            Latin-1.
    """

    source: Annotated[str, Field(min_length=1)]
    table: Annotated[tuple[str, ...], BeforeValidator(_path), Field(strict=False)]
    columns: Mapping[str, Annotated[str, Field(min_length=1)]] = {}
    stamp: Annotated[str, Field(min_length=1)] | None = None
    number: Annotated[str, Field(min_length=1)] | None = None
    encodings: Mapping[str, Literal["gb18030", "big5", "utf-8"]] = {}


class Resource(Part):
    """A resource document.

    Args:
        push: nothing leaves before a person writes ``true`` here.
        lookup: nothing is answered before a person writes ``true`` here.
        version: grows with every change of the items.
    """

    code: str
    name: Text
    version: Annotated[int, Field(ge=1, lt=2**53)]
    push: bool = False
    lookup: bool = False

    resource_class_path: Texts = ()
    catalog_level: Literal["provincial", "municipal", "own"] = "own"
    base_library: (
        Literal["population", "legal_person", "space", "economy", "licence", "credit"]
        | None
    ) = None
    abstract: Text = ""
    provider_name: Text = ""
    provider_code: Text = ""
    responsible_party: Text = ""
    lead_department: Text = ""
    authoritative_source: Text = ""
    acquisition_mode: (
        Literal["direct", "third_party", "delegated", "system_generated"] | None
    ) = None
    processing_stage: Literal["raw", "process", "result"] = "raw"
    format_category: (
        Literal[
            "file",
            "spreadsheet",
            "database",
            "image",
            "stream",
            "self_describing",
            "interface",
        ]
        | None
    ) = None
    format_type: Text = ""

    share_type: Share
    share_condition: Text = ""
    share_scope: Text = ""
    share_method: Literal["database", "interface", "file", "offline"] | None = None
    share_basis_kind: (
        Literal["basic", "baseline", "identifying", "declared", "decided"] | None
    ) = None
    use_requirements: Text = ""
    legal_basis: LegalBasis | None = None
    open_to_public: bool | None = None
    open_condition: Text = ""

    update_cycle: (
        Literal[
            "realtime",
            "daily",
            "weekly",
            "monthly",
            "quarterly",
            "half_yearly",
            "yearly",
            "other",
        ]
        | None
    ) = None
    update_deadline: Text = ""
    published_on: date | None = None
    related_codes: Texts = ()

    secrecy_level: Literal["unclassified", "confidential", "secret", "top_secret"]
    secrecy_review: SecrecyReview | None = None
    network_zone: Literal["outer", "inner"] = "outer"
    census: Census | None = None

    binding: Binding | None = None
    items: Annotated[tuple[CatalogItem, ...], Field(strict=False)] = ()

    def share_of(self, item: CatalogItem) -> ShareType:
        """What holds for an item: the stricter of its own type and the resource's."""
        own = SHARES[item.share_type or self.share_type]
        return max(own, SHARES[self.share_type], key=lambda share: share.value)

    def shared_items(self) -> tuple[CatalogItem, ...]:
        """Items that are shared under conditions or without, in order."""
        return tuple(
            i for i in self.items if self.share_of(i) is not ShareType.NOT_SHARED
        )

    def column(self, item: CatalogItem) -> str:
        """The source column of an item; its own name unless the binding says more."""
        columns = self.binding.columns if self.binding else {}
        return columns.get(item.name, item.name)
