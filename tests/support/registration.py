# SPDX-License-Identifier: Apache-2.0
"""A machine before an exchange in this process that lets nobody in by itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from agent.control.enrol import Enrolment, enrol
from agent.control.enrol_line import Target
from agent.control.identity import IdentityFiles
from agent.wire.enrolment import Code
from sandbox.app import exchange
from sandbox.options import Options

NODE = "11990100MB0000018H/rsj-fep1"


class Registration:
    """What the machine has, and what people at the centre do.

    Args:
        folder: the machine's.
        ready: the line of ``sandbox.json``.
    """

    def __init__(self, folder: Path, ready: dict[str, Any]) -> None:
        self.files = IdentityFiles(folder / "state")
        self.admin = ready["admin"]
        self.now = datetime.now(UTC)
        self.steps: list[str] = []
        self.slept: list[float] = []
        self.meanwhile: list[Callable[[], Awaitable[object]]] = []
        self.target = Target(
            node=NODE,
            url=ready["url"],
            aud=ready["aud"],
            ca_sha256=ready["ca_sha256"],
            kid=ready["kid"],
            clock_tolerance_s=300,
            connect_timeout_s=60,
            read_timeout_s=60,
        )

    async def enrol(self, code: Code | None = None, **changes: Any) -> Enrolment:
        """Enrol; at each wait the next of :attr:`meanwhile` happens."""
        self.steps.clear()
        return await enrol(
            replace(self.target, **changes),
            self.files,
            now=lambda: self.now,
            sleep=self._sleep,
            report=self.steps.append,
            code=code,
        )

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        assert self.meanwhile, "nobody will ever approve this"
        await self.meanwhile.pop(0)()

    # --- the centre -----------------------------------------------------------------

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        """A request on the admin's socket; status and JSON."""
        connector = aiohttp.UnixConnector(self.admin)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, f"http://admin{path}", json=body) as answer,
        ):
            data = await answer.read()
            return answer.status, json.loads(data) if data else None

    async def code(self, node: str = NODE) -> Code:
        """A new code."""
        _, body = await self.ask("POST", "/codes", {"nodes": [node], "hours": 72})
        return Code.parse(body["slips"][0]["code"])

    async def pending(self) -> list[dict[str, Any]]:
        """What waits."""
        _, body = await self.ask("GET", "/pending")
        found: list[dict[str, Any]] = body["pending"]
        return found

    async def approve(self) -> None:
        """Approve what waits, as one who compared it with this machine's screen."""
        (found,) = await self.pending()
        said = " ".join(found["words"]["zh"])
        status, body = await self.ask(
            "POST", "/approve", {"node": found["node"], "said": said}
        )
        assert status == 204, body

    async def alarms(self) -> list[str]:
        """Kinds of the alarms."""
        _, body = await self.ask("GET", "/alarms")
        return [alarm["kind"] for alarm in body["alarms"]]

    async def faults(self, *faults: dict[str, Any]) -> None:
        """Replace the switches."""
        status, body = await self.ask("PUT", "/faults", {"faults": list(faults)})
        assert status == 200, body


@asynccontextmanager
async def registration(folder: Path) -> AsyncIterator[Registration]:
    """A machine that a running exchange does not know."""
    async with exchange(Options(folder / "centre")) as line:
        yield Registration(folder, json.loads(line))
