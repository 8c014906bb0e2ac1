# SPDX-License-Identifier: Apache-2.0
"""MariaDB and MySQL. Importing this is cheap; the driver comes with the first call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.contract import Connector
from connectors.lazy import Feel, LazyReader, Parts

SPEC: Mapping[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["host", "database", "user"],
    "properties": {
        "host": {
            "type": "string",
            "description": "name, address or socket file / 主机名、地址或套接字文件",
        },
        "port": {"type": "integer", "default": 3306, "minimum": 1, "maximum": 65535},
        "database": {"type": "string", "description": "database / 数据库名"},
        "user": {"type": "string", "description": "read-only account / 只读账号"},
        "password": {"type": "string", "secret": True, "description": "口令"},
        "sslmode": {
            "enum": ["disable", "prefer", "require", "verify-ca", "verify-full"],
            "default": "prefer",
        },
        "sslrootcert": {
            "type": "string",
            "description": "file of the server's CA / 服务器 CA 证书文件",
        },
        "encoding": {
            "type": "string",
            "description": "what columns declared latin1 really hold, such as gb18030"
            " / 声明为 latin1 的字段的实际编码，如 gb18030",
        },
    },
}


def _parts() -> Parts:
    from connectors.mysql import check, discover, session

    return Parts(check.check, discover.discover, session.capabilities, session.session)


def _feel() -> Feel:
    from connectors.mysql import health

    return health.health


CONNECTOR: Connector = LazyReader("mysql", SPEC, _parts, feel=_feel)
