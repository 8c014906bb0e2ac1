# SPDX-License-Identifier: Apache-2.0
"""One finding of lint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.errors import Text


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        field: where: ``share_condition``, ``items.mobile.length``.
        article: of the rule it breaks, such as ``辽8``.
        severity: ``error`` or ``warning``.
        text: what is expected and what is there, for people.
    """

    field: str
    article: str
    severity: Literal["error", "warning"]
    text: Text


def error(field: str, article: str, en: str, zh: str) -> Finding:
    """A finding that keeps the document from being used."""
    return Finding(field, article, "error", Text(en, zh))


def warning(field: str, article: str, en: str, zh: str) -> Finding:
    """A finding that an inspection would make."""
    return Finding(field, article, "warning", Text(en, zh))
