# SPDX-License-Identifier: Apache-2.0
"""Lookups in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from connectors.contract import Limits, LookupSession, SourceError


def lookup(
    config: Mapping[str, Any], limits: Limits
) -> AbstractContextManager[LookupSession]:
    """A session for lookups.

    Raises:
        SourceError: failed: there is none yet.
    """
    raise SourceError("failed", "PostgreSQL answers no lookups yet")
