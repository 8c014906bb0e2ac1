# SPDX-License-Identifier: Apache-2.0
"""An HTTP proxy on the way to the exchange."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Proxy:
    """Where it is, and who we are for it. TLS goes through it, end to end.

    Args:
        url: ``http://host:port``.
        user: for its login (Basic), or empty for none.
        password: the same. Never logged.
    """

    url: str
    user: str = ""
    password: str = field(default="", repr=False)

    def headers(self) -> dict[str, str]:
        """What the proxy is told of us (RFC 7617, UTF-8). Never logged."""
        if not self.user:
            return {}
        login = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return {"Proxy-Authorization": f"Basic {login}"}
