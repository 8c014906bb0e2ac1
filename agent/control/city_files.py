# SPDX-License-Identifier: Apache-2.0
"""The city's files of who is who, and of what is stopped, as TUF carries them.

They are read before they are remembered as verified: what cannot be read is as good as
not signed, and what was verified before goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from agent.errors import MalformedMessage
from agent.state import Stopped
from agent.wire import repository, strict
from agent.wire.directory import (
    DepartmentFile,
    ExchangeFile,
    RevokedFile,
    parse_department,
    parse_exchange,
    parse_revoked,
)
from agent.wire.rollout import parse_halt


@dataclass(frozen=True)
class CityFiles:
    """The files of the directory.

    Args:
        departments: by credit code.
        exchange: None if there is none.
        revoked: empty if there is none.
    """

    departments: Mapping[str, DepartmentFile]
    exchange: ExchangeFile | None
    revoked: RevokedFile


def parse_city(files: Mapping[str, bytes]) -> CityFiles:
    """What the files of the directory say.

    Args:
        files: target path -> content.

    Raises:
        MalformedMessage: one breaks the format.
    """
    departments = {}
    for path, data in files.items():
        if path.startswith("directory/"):
            name = path.removeprefix("directory/").removesuffix(".json")
            departments[name] = parse_department(_object(path, data), name)
    exchange, revoked = (
        files.get(repository.EXCHANGE_FILE),
        files.get(repository.REVOKED_FILE),
    )
    return CityFiles(
        departments,
        None
        if exchange is None
        else parse_exchange(_object(repository.EXCHANGE_FILE, exchange)),
        RevokedFile({}, {})
        if revoked is None
        else parse_revoked(_object(repository.REVOKED_FILE, revoked)),
    )


def parse_stopped(files: Mapping[str, bytes]) -> Stopped:
    """What the files stop now.

    A ``halt.json`` that cannot be read stops nothing by number: who applies
    configuration then applies none at all, and revocations do not wait for it.

    Raises:
        MalformedMessage: a file of the directory breaks the format.
    """
    revoked = parse_city(files).revoked
    halted: frozenset[int] = frozenset()
    with suppress(MalformedMessage):
        if repository.HALT_FILE in files:
            halted = parse_halt(files[repository.HALT_FILE])
    return Stopped(revoked.kids, revoked.nodes, halted)


def _object(path: str, data: bytes) -> object:
    try:
        return strict.loads(data)
    except MalformedMessage as e:
        raise MalformedMessage(f"{path}: {e.detail}") from e
