# SPDX-License-Identifier: Apache-2.0
"""A machine that is enrolled at an exchange of this process, and changes its keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp

from agent.control import identity, rotation
from agent.control.directory import TrustedDirectory
from agent.control.enrol import enrol
from agent.control.enrol_line import Target
from agent.control.identity import IdentityFiles
from agent.control.rotation import Way
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from agent.wire.directory import Directory

NODE = "11990100MB0000018H/rsj-fep1"
ALL = ("tls", "sign", "decrypt", "audit")


class Machine:
    """An enrolled machine and its ways to the exchange; ``fail`` ends a life."""

    def __init__(self, folder: Path, ready: dict[str, Any], node: str = NODE) -> None:
        self.admin = ready["admin"]
        self.files = IdentityFiles(folder)
        self.directory = TrustedDirectory(
            self.files.directory, aud=ready["aud"], kid=ready["kid"]
        )
        self.target = Target(
            node=node,
            url=ready["url"],
            aud=ready["aud"],
            ca_sha256=ready["ca_sha256"],
            kid=ready["kid"],
            clock_tolerance_s=300,
            connect_timeout_s=60,
            read_timeout_s=60,
        )
        self.fail: Callable[[str], None] = lambda _step: None

    def exchange(self, certificate: Path | None = None, key: Path | None = None) -> Any:
        """A client; with the certificate in use if none is named."""
        return Exchange(
            Endpoint(
                url=self.target.url,
                ca_file=self.files.ca,
                cert_file=certificate or self.files.tls_certificate,
                key_file=key or self.files.tls_key,
            ),
            now=lambda: datetime.now(UTC),
        )

    async def enrol(self) -> None:
        await enrol(self.target, self.files, now=lambda: datetime.now(UTC))

    async def carry_on(self) -> tuple[str, ...]:
        """One life that goes on with the change."""
        async with self.exchange() as uplink:
            return await rotation.carry_on(
                self.files, way=self.way(uplink), now=lambda: datetime.now(UTC)
            )

    def way(self, uplink: Exchange) -> Way:
        """Of one change: ``agreed`` is its first look at the directory."""
        looks = count()

        async def refresh() -> Directory:
            self.fail("directory" if next(looks) else "agreed")
            return await self.directory.refresh(uplink.directory)

        @asynccontextmanager
        async def proving(certificate: Path, key: Path) -> AsyncIterator[Exchange]:
            async with self.exchange(certificate, key) as line:
                self.fail("proof")
                yield line

        return Way(Failing(uplink, self), proving, refresh)

    async def ask(self, path: str, body: object) -> None:
        """The admin of the exchange."""
        connector = aiohttp.UnixConnector(self.admin)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(f"http://admin{path}", json=body) as answer,
        ):
            assert answer.status < 300, await answer.text()

    def kids(self) -> dict[str, str]:
        """Of the keys in use."""
        return {p: identity.load_key(self.files.key(p), p).public.kid for p in ALL}


class Failing:
    def __init__(self, uplink: Exchange, machine: Machine) -> None:
        self._uplink, self._machine = uplink, machine

    async def reenrol(self, request: bytes) -> bytes:
        answer = await self._uplink.reenrol(request)
        self._machine.fail("reenrol")
        return answer

    async def keys(self, statement: str) -> None:
        await self._uplink.keys(statement)
        self._machine.fail("keys")
