# SPDX-License-Identifier: Apache-2.0
"""PostgreSQL 10 and newer. Importing this is cheap; the first call loads drivers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import Connector
from connectors.lazy import Feel, LazyConnector, LookupParts, Parts

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


def _parts() -> Parts:
    from connectors.postgres import check, discover, session

    return Parts(check.check, discover.discover, session.capabilities, session.session)


def _lookup() -> LookupParts:
    from connectors.postgres import lookup

    return LookupParts(lookup.lookup, lookup.check)


def _feel() -> Feel:
    from connectors.postgres import health

    return health.health


CONNECTOR: Connector = LazyConnector(
    "postgres", SPEC, _parts, lookup=_lookup, feel=_feel
)
