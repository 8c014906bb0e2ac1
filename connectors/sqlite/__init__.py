# SPDX-License-Identifier: Apache-2.0
"""SQLite 3, read only. Importing this is cheap; pyarrow comes with the first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import Connector
from connectors.lazy import LazyConnector, LookupParts, Parts

SPEC: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["path"],
    "properties": {
        "path": {
            "type": "string",
            "description": "file of the database / 数据库文件路径",
        },
        "encoding": {
            "type": "string",
            "default": "utf-8",
            "description": "of its texts, such as gb18030 / 文本编码，如 gb18030",
        },
    },
}


def _parts() -> Parts:
    from connectors.sqlite import look, session

    return Parts(look.check, look.discover, look.capabilities, session.session)


def _lookup() -> LookupParts:
    from connectors.sqlite import lookup

    return LookupParts(lookup.lookup, lookup.check)


CONNECTOR: Connector = LazyConnector("sqlite", SPEC, _parts, lookup=_lookup)
