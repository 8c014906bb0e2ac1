# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL. Importing this module is cheap; the drivers come with the first call."""

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
    "required": ["host", "database", "user"],
    "properties": {
        "host": {
            "type": "string",
            "description": "name, address or socket folder / 主机名、地址或套接字目录",
        },
        "port": {"type": "integer", "default": 5432, "minimum": 1, "maximum": 65535},
        "database": {"type": "string", "description": "database / 数据库名"},
        "user": {"type": "string", "description": "read-only account / 只读账号"},
        "password": {"type": "string", "secret": True, "description": "口令"},
        "sslmode": {
            "enum": [
                "disable",
                "allow",
                "prefer",
                "require",
                "verify-ca",
                "verify-full",
            ],
            "default": "prefer",
        },
        "sslrootcert": {
            "type": "string",
            "description": "file of the server's CA / 服务器 CA 证书文件",
        },
        "encoding": {
            "type": "string",
            "default": "utf-8",
            "description": "of a SQL_ASCII database / SQL_ASCII 数据库的实际编码",
        },
    },
}


class PostgresConnector:
    """PostgreSQL 10 and newer, read only."""

    name = "postgres"
    api = API

    def spec(self) -> Mapping[str, Any]:
        """See the contract."""
        return SPEC

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        """See the contract."""
        from connectors.postgres.check import check

        return check(config, streams)

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        """See the contract."""
        from connectors.postgres.discover import discover

        return discover(config)

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        """See the contract."""
        from connectors.postgres.session import capabilities

        return capabilities(config, stream)

    def open(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[Session]:
        """See the contract."""
        from connectors.postgres.session import session

        return session(config, limits)


CONNECTOR: Connector = PostgresConnector()
