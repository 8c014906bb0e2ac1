# SPDX-License-Identifier: Apache-2.0
"""SQLite. Importing this module is cheap; pyarrow comes with the first call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from connectors.contract import (
    API,
    Caps,
    Connector,
    Finding,
    FoundTable,
    Limits,
    Session,
    StreamSpec,
)

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


class SqliteConnector:
    """Files of SQLite 3, read only."""

    name = "sqlite"
    api = API

    def spec(self) -> Mapping[str, Any]:
        """See the contract."""
        return SPEC

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        """See the contract."""
        from connectors.sqlite.look import check

        return check(config, streams)

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        """See the contract."""
        from connectors.sqlite.look import discover

        return discover(config)

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        """See the contract."""
        from connectors.sqlite.look import capabilities

        return capabilities(config, stream)

    def open(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[Session]:
        """See the contract."""
        from connectors.sqlite.session import session

        return session(config, limits)


CONNECTOR: Connector = SqliteConnector()
