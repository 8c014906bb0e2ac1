# SPDX-License-Identifier: Apache-2.0
"""What people's commands ask of the exchange that runs in a folder."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp

from agent.errors import ExchangeUnreachable, UsageFault


def ask(folder: Path, method: str, path: str, body: Any = None) -> Any:
    """What the admin's socket of a folder answers, from JSON.

    Raises:
        UsageFault: the exchange says why not.
        ExchangeUnreachable: no exchange serves this folder.
    """
    return asyncio.run(_asked(folder.absolute() / "admin.sock", method, path, body))


async def _asked(socket: Path, method: str, path: str, body: Any) -> Any:
    connector = aiohttp.UnixConnector(str(socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://admin{path}", json=body) as answer,
        ):
            data = await answer.read()
            status = answer.status
    except (aiohttp.ClientError, OSError) as e:
        raise ExchangeUnreachable(f"{socket}: does it run?") from e
    found = json.loads(data) if data.startswith(b"{") else None
    if status >= 300:
        detail = (found or {}).get("detail", data[:200].decode("utf-8", "replace"))
        raise UsageFault(detail)
    return found
