# SPDX-License-Identifier: Apache-2.0
"""A published TUF repository: served as it lies there, and read for the directory.

Any web server that serves files does the first. The second is the exchange's own: the
dated directory that it signs (``/v1/directory``) says what the repository says, for
nodes believe nothing else of it (wire.md §6).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiohttp import web

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.directory import (
    Directory,
    RevokedFile,
    parse_department,
    parse_exchange,
    parse_revoked,
)
from agent.wire.repository import (
    BRAKE,
    DIRECTORY,
    DIRECTORY_CAP,
    EXCHANGE_FILE,
    METADATA,
    REVOKED_FILE,
    TARGETS,
)
from sandbox.accept import Refused

LOOK_S = 0.5
"""Pause between two looks whether something was published, seconds."""
_PATH = re.compile(r"(metadata|targets)(/[0-9A-Za-z%_-][0-9A-Za-z%._-]{0,255}){1,6}")
_ROLES = ("targets", DIRECTORY, BRAKE)
_DIRECTORY_FILE = re.compile(r"directory/([0-9A-Z]{18})\.json")

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Repository:
    """Files below a folder with ``metadata`` and ``targets`` in it.

    Args:
        folder: as ``fep central publish`` writes it.
    """

    folder: Path

    def read(self, path: str) -> bytes:
        """A file as it lies there.

        Raises:
            Refused: not-found; there is none, or it is none that is published.
        """
        try:
            if _PATH.fullmatch(path) is None:
                raise FileNotFoundError(path)
            with (self.folder / path).open("rb") as file:
                data = file.read(DIRECTORY_CAP + 1)
        except OSError as e:
            raise Refused("not-found", "no such file") from e
        if len(data) > DIRECTORY_CAP:
            raise Refused("not-found", "it is too long to be served")
        return data

    def stamp(self) -> tuple[int, int]:
        """Another one as soon as something was published."""
        try:
            found = (self.folder / METADATA / "timestamp.json").stat()
        except OSError:
            return (0, 0)
        return (found.st_ino, found.st_mtime_ns)

    def over(self, own: Directory) -> Directory:
        """What the exchange signs: the repository's files, with its own revocations.

        Args:
            own: as the registry stands; its time, and what it revokes, are kept.

        Raises:
            Refused, MalformedMessage: the repository cannot be read.
        """
        files = self._newest()
        departments = {
            match[1]: parse_department(body, match[1])
            for path, body in files.items()
            if (match := _DIRECTORY_FILE.fullmatch(path)) is not None
        }
        said = RevokedFile({}, {})
        if REVOKED_FILE in files:
            said = parse_revoked(files[REVOKED_FILE])
        exchange = own.exchange
        if EXCHANGE_FILE in files:
            exchange = parse_exchange(files[EXCHANGE_FILE])
        revoked = RevokedFile(
            {**own.revoked.kids, **said.kids}, {**own.revoked.nodes, **said.nodes}
        )
        return replace(own, departments=departments, exchange=exchange, revoked=revoked)

    def _newest(self) -> Mapping[str, JsonObject]:
        """Every file of the directory by its path; whoever reads it verifies it."""
        timestamp = self._signed("timestamp.json")
        version = timestamp["meta"]["snapshot.json"]["version"]
        listed = self._signed(f"{version}.snapshot.json")["meta"]
        found: dict[str, JsonObject] = {}
        for role in _ROLES:
            if f"{role}.json" in listed:
                name = f"{listed[f'{role}.json']['version']}.{role}.json"
                for path, info in self._signed(name)["targets"].items():
                    if path in (EXCHANGE_FILE, REVOKED_FILE) or (
                        _DIRECTORY_FILE.fullmatch(path)
                    ):
                        found.setdefault(path, self._target(path, info))
        return found

    def _signed(self, name: str) -> JsonObject:
        body: JsonObject = json.loads(self.read(f"{METADATA}/{name}"))["signed"]
        return body

    def _target(self, path: str, info: JsonObject) -> JsonObject:
        folder, slash, name = path.rpartition("/")
        digest = info["hashes"]["sha256"]
        return strict.loads(self.read(f"{TARGETS}/{folder}{slash}{digest}.{name}"))


@dataclass(frozen=True)
class RepositoryFront:
    """The repository's route.

    Args:
        repository: see there.
        client: who sends a request; raises Refused.
    """

    repository: Repository
    client: Callable[[web.BaseRequest], object]

    def routes(self) -> list[web.RouteDef]:
        """Where the handler belongs."""
        return [web.get("/tuf/{path:.+}", self.file)]

    async def file(self, request: web.Request) -> web.Response:
        """A file of the repository, for nodes only."""
        self.client(request)
        path = request.match_info["path"]
        data = await asyncio.to_thread(self.repository.read, path)
        return web.Response(body=data, content_type="application/octet-stream")


async def watch(repository: Repository, moved: Callable[[], Awaitable[None]]) -> None:
    """Tell the nodes as soon as something was published."""
    known = repository.stamp()
    while True:
        await asyncio.sleep(LOOK_S)
        found = repository.stamp()
        if found != known:
            known = found
            await moved()


def readable(repository: Repository, own: Directory) -> Directory:
    """:meth:`Repository.over`, or nothing of the registry's if it cannot be read.

    Raises:
        Refused: busy; something is being published, or is damaged.
    """
    try:
        return repository.over(own)
    except (ValueError, KeyError, TypeError, MalformedMessage, Refused) as e:
        raise Refused("busy", "the repository cannot be read now") from e
