# SPDX-License-Identifier: Apache-2.0
"""``ceiling.toml``: what the centre may set here, and what may be read at all.

Rules

1. It is the department's own word and lies beside ``agent.toml``. Only root or the
   owner of this process may be able to write it; else it counts for nothing and is a
   fault.
2. Without the file the centre may set nothing and command nothing.
3. Where it names tables, no other table or column is read, whoever wrote the resource
   document.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, ValidationError

from agent.errors import CeilingUnsafe, ConfigInvalid, Fault
from agent.model.place import Allowed
from agent.settings.faults import told
from agent.settings.model import Section
from agent.wire.configuration import Bounds, Server

LARGEST = 1024 * 1024
"""Most bytes of the file."""

Kind = Literal[
    "schedule", "limits", "uplink", "push", "exchange", "spool", "log", "off"
]
"""Sections of the settings that may be opened; ``off``: switching resources off."""
KINDS: tuple[Kind, ...] = get_args(Kind)

Command = Literal["refresh", "run", "reconcile", "diagnostics"]

Name = Annotated[str, Field(min_length=1, max_length=128)]


class Central(Section):
    """What the centre may do."""

    allow: Annotated[tuple[Kind, ...], Field(strict=False, max_length=16)] = ()
    endpoints: Annotated[tuple[Server, ...], Field(strict=False, max_length=64)] = ()
    commands: Annotated[tuple[Command, ...], Field(strict=False, max_length=16)] = ()


def _path(value: object) -> object:
    return tuple(value.split(".")) if isinstance(value, str) else value


class Table(Section):
    """A table that may be read, and which columns of it."""

    source: Name
    table: Annotated[
        tuple[Name, ...],
        BeforeValidator(_path, json_schema_input_type=str | list[str]),
        Field(strict=False, min_length=1, max_length=8),
    ]
    columns: Annotated[
        tuple[Name, ...], Field(strict=False, min_length=1, max_length=4096)
    ]


class Document(Section):
    """All of ``ceiling.toml``."""

    central: Central = Central()
    bounds: Bounds = Bounds()
    tables: Annotated[tuple[Table, ...], Field(strict=False, max_length=10_000)] = ()


@dataclass(frozen=True)
class Ceiling:
    """What the department allows.

    Args:
        path: of the file, to name it.
        present: whether there is one.
        allow: sections that the centre may set.
        endpoints: ``https://host:port`` of exchanges besides those of ``agent.toml``.
        bounds: of numbers and hours. Where it says nothing, what ``agent.toml`` says is
            the bound.
        commands: that the centre may give.
        tables: (source, table) -> columns that may be read; None: every one.
    """

    path: Path
    present: bool = False
    allow: frozenset[str] = frozenset()
    endpoints: frozenset[str] = frozenset()
    bounds: Bounds = field(default_factory=Bounds)
    commands: frozenset[str] = frozenset()
    tables: Allowed | None = None


def load(path: Path, *, uid: int | None = None) -> Ceiling:
    """The ceiling of a file; without the file one under which nothing is allowed.

    Args:
        path: of the file.
        uid: who reads; by default who this process runs as.

    Raises:
        CeilingUnsafe: somebody else could write it; with all its other faults.
        ConfigInvalid: it cannot be used; with every fault.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return Ceiling(path)
    except OSError as e:
        raise _one(path, "a readable file", e.strerror or "none") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _one(path, "a regular file", "another kind")
        data = os.read(fd, LARGEST + 1)
    finally:
        os.close(fd)
    unsafe = tuple(_writers(path, found, os.geteuid() if uid is None else uid))
    try:
        ceiling = _ceiling(path, data)
    except ConfigInvalid as e:
        if unsafe:
            raise CeilingUnsafe(faults=(*unsafe, *e.faults)) from None
        raise
    if unsafe:
        raise CeilingUnsafe(faults=unsafe)
    return ceiling


def _writers(path: Path, found: os.stat_result, uid: int) -> Iterator[Fault]:
    """Others who could change the file."""
    if found.st_uid not in {0, uid}:
        expected = "a file of root" if uid == 0 else f"a file of root or of uid {uid}"
        yield Fault(str(path), "", expected, f"one of uid {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = f"mode {stat.S_IMODE(found.st_mode):04o}"
        yield Fault(str(path), "", "a file only its owner can write (mode 0640)", mode)


def _ceiling(path: Path, data: bytes) -> Ceiling:
    tables = _tables(path, data)
    try:
        document = Document.model_validate(tables)
    except ValidationError as e:
        raise ConfigInvalid(faults=tuple(told(str(path), Document, e))) from None
    central = document.central
    return Ceiling(
        path=path,
        present=True,
        allow=frozenset(central.allow),
        endpoints=frozenset(central.endpoints),
        bounds=document.bounds,
        commands=frozenset(central.commands),
        tables=_allowed(path, document.tables) if document.tables else None,
    )


def _tables(path: Path, data: bytes) -> dict[str, Any]:
    if len(data) > LARGEST:
        raise _one(path, f"at most {LARGEST} bytes", "more")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as e:
        raise _one(path, "UTF-8 text", f"another byte at {e.start}") from None
    except RecursionError:
        raise _one(path, "TOML", "tables or lists nested too deeply") from None
    except ValueError as e:  # TOMLDecodeError, and numbers of thousands of digits
        raise _one(path, "TOML", str(e)) from None


def _allowed(path: Path, tables: tuple[Table, ...]) -> Allowed:
    found: dict[tuple[str, tuple[str, ...]], frozenset[str]] = {}
    faults = []
    for number, table in enumerate(tables):
        place = (table.source, table.table)
        if place in found:
            got = f"{table.source}: {'.'.join(table.table)} twice"
            faults.append(Fault(str(path), f"tables.{number}", "each table once", got))
        found[place] = frozenset(table.columns)
    if faults:
        raise ConfigInvalid(faults=tuple(faults))
    return found


def _one(path: Path, expected: str, got: str) -> ConfigInvalid:
    return ConfigInvalid(faults=(Fault(str(path), "", expected, got),))
