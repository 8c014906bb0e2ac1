# SPDX-License-Identifier: Apache-2.0
"""What the local interface answers about receipts and about files of the spool."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from agent.errors import BatchUnknown, NotEnrolled, UsageFault
from agent.wire.grammar import is_time

JsonObject = dict[str, Any]
Place = tuple[int, int]

MOST = 10_000
"""Most batches that can be named at once."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


class Tools(Protocol):
    """What the push flow can do for the spool; its values are dataclasses."""

    async def proofs(
        self, resource: str, *, since: str, after: Place
    ) -> tuple[Sequence[Any], Place | None]:
        """Receipts with their manifests, and where to go on."""
        ...

    async def resources(self) -> Sequence[str]:
        """What was ever to be sent."""
        ...

    async def look(self, resource: str, *, after: Place) -> Any:
        """Compare files with what was registered."""
        ...

    async def mend(self, resource: str, places: Sequence[Place]) -> Any:
        """Lead damaged batches down their safe path."""
        ...

    async def replay(self, resource: str, since: str, *, do: bool) -> Any:
        """Send again what the exchange lost."""
        ...


class SpoolDesk:
    """The :class:`agent.local.server.SpoolDesk` of a running daemon.

    Args:
        tools: of the push flow.
        directory: the directory in use, compact JWS.
        vouchers: folder of all that said something new.
    """

    def __init__(self, tools: Tools, *, directory: Path, vouchers: Path) -> None:
        self._tools = tools
        self._directory = directory
        self._vouchers = vouchers

    async def receipts(
        self, resource: str, *, since: str | None, after: Place
    ) -> JsonObject:
        """Receipts with their exact texts, by batch; ``next`` is where to go on."""
        begin = "0001-01-01T00:00:00Z" if since is None else _time(since)
        found, more = await self._tools.proofs(resource, since=begin, after=after)
        return {"receipts": [_proof(resource, p) for p in found], "next": more}

    async def resources(self) -> JsonObject:
        """Codes of what has receipts, though it may not leave any more."""
        return {"resources": list(await self._tools.resources())}

    async def voucher(self, digest: str | None) -> JsonObject:
        """A directory that was kept; None: the one in use.

        Raises:
            BatchUnknown: there is none of this digest.
            NotEnrolled: there is no directory yet.
        """
        if digest is not None and not _DIGEST.fullmatch(digest):
            raise UsageFault("digest: expected 64 lower hex digits")
        name = f"{digest}.jws"
        path = self._directory if digest is None else self._vouchers / name
        try:
            text = await asyncio.to_thread(path.read_text, "ascii")
        except FileNotFoundError:
            if digest is None:
                raise NotEnrolled(f"{path}: there is no directory yet") from None
            raise BatchUnknown(f"{path}: there is no such directory") from None
        return {"digest": digest, "jws": text}

    async def look(self, resource: str, *, after: Place) -> JsonObject:
        """Files compared with what was registered; ``next`` is where to go on."""
        return asdict(await self._tools.look(resource, after=after))

    async def mend(self, resource: str, batches: object) -> JsonObject:
        """Lead these batches down their safe path, as far as they are damaged."""
        return asdict(await self._tools.mend(resource, _places(batches)))

    async def replay(self, resource: str, since: object, *, do: bool) -> JsonObject:
        """What the exchange lost of what was sealed since then; sent again if wanted.

        Raises:
            UsageFault: ``since`` is no time.
        """
        if not isinstance(since, str):
            raise UsageFault("since: expected a time")
        found = await self._tools.replay(resource, _time(since), do=do)
        epoch, seq = found.position
        return {**asdict(found), "position": {"epoch": epoch, "seq": seq}}


def _time(text: str) -> str:
    if not is_time(text):
        raise UsageFault("since: expected a time like 2026-11-21T08:00:00Z")
    return text


def _places(value: object) -> list[Place]:
    """[[epoch, seq], ...] of a request."""
    fault = UsageFault("batches: expected [[epoch, seq], ...]")
    if not isinstance(value, list) or len(value) > MOST:
        raise fault
    places = []
    for one in value:
        match one:
            case [int(epoch), int(seq)]:
                places.append((epoch, seq))
            case _:
                raise fault
    return places


def _proof(resource: str, proof: Any) -> Mapping[str, Any]:
    body = asdict(proof.receipt)
    return {"resource": resource, **body, "manifest": proof.line}
