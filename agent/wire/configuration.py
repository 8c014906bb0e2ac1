# SPDX-License-Identifier: Apache-2.0
"""What the centre may publish for nodes (wire.md §6): form and bounds, nothing else.

Whether a node takes it is another question: see ``agent.control.merge``; when, says
``agent.wire.rollout``.

Rules

1. A document is JSON as the wire allows it: no member twice, whole numbers only, eight
   levels, at most :data:`FILE_CAP` bytes.
2. There is no key for what is local alone: bindings, sources, paths, keys, pins, the
   lookup policy, share types, masks, the ceiling. An unknown key is a fault.
3. What is wrong is told all at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.errors import DocumentInvalid, Fault, MalformedMessage
from agent.settings.faults import told
from agent.settings.model import (
    CODE_EXPECTED,
    Log,
    Quota,
    Reading,
    Rhythm,
    Schedule,
    Section,
    SourceLimits,
    Uplink,
    Window,
)
from agent.wire import strict
from agent.wire.repository import FILE_CAP, LIMITS_FILE


def _form(pattern: str, words: str) -> Any:
    return Field(pattern=pattern, description=words)


_HOST = r"https://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?"
Address = Annotated[
    str, _form(rf"^{_HOST}(/[A-Za-z0-9._/-]*)?$", "an address that begins https://")
]
Server = Annotated[
    str, _form(rf"^{_HOST}$", "https://<host>:<port>, without anything behind it")
]
Resource = Annotated[
    str,
    _form(
        r"^[0-9A-Za-z]{1,32}(/[0-9A-Za-z]{1,32}){1,3}$",
        "the code of a resource, such as 101001/000001",
    ),
]
ResourceOrAll = Annotated[
    str,
    _form(r"^defaults$|^[0-9A-Za-z]{1,32}(/[0-9A-Za-z]{1,32}){1,3}$", CODE_EXPECTED),
]
SourceOrAll = Annotated[
    str,
    _form(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", "defaults, or the name of a source"),
]
Group = Annotated[str, _form(r"^[a-z0-9][a-z0-9-]{0,31}$", "1-32 of a-z, 0-9 and -")]
Generation = Annotated[int, Field(ge=1, lt=2**53)]
Version = Literal[1]


class Line(Rhythm):
    """``settings.exchange``: which addresses, and how patiently."""

    url: Address = ""
    more_urls: Annotated[tuple[Address, ...], Field(strict=False, max_length=7)] = ()


class Wanted(Section):
    """``settings``: all that the centre may say of ``agent.toml``."""

    schedule: Annotated[Mapping[ResourceOrAll, Schedule], Field(max_length=1000)] = {}
    limits: Annotated[Mapping[SourceOrAll, SourceLimits], Field(max_length=256)] = {}
    uplink: Uplink = Uplink()
    push: Reading = Reading()
    exchange: Line = Line()
    spool: Quota = Quota()
    log: Log = Log()


class GroupConfig(Section):
    """``groups/<group>/config.json``: what all nodes of a group are to do.

    Args:
        generation: grows with every publication; going back is a new one, too.
        off: resources that shall not be sent; there is no word that turns one on.
    """

    v: Version
    generation: Generation
    settings: Wanted = Wanted()
    off: Annotated[tuple[Resource, ...], Field(strict=False, max_length=1000)] = ()


class NodeConfig(GroupConfig):
    """``nodes/<department>/<machine>/config.json``: what one node is to do.

    Args:
        groups: that it is in; of two that say something the later one counts.
    """

    groups: Annotated[tuple[Group, ...], Field(strict=False, max_length=16)] = ()


class Bounds(Section):
    """Bounds of numbers; what is not written bounds nothing, and 0 is no bound.

    Args:
        windows: the hours in which whole tables may be read.
        off_peak: the hours in which the off-peak rates may hold.
    """

    rows_per_s: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    mb_per_s: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    off_peak_rows_per_s: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    off_peak_mb_per_s: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    probe_s: Annotated[float, Field(ge=0, le=3600)] = 0.0
    busy_percent: Annotated[int, Field(ge=0, le=100)] = 0
    lock_waits: Annotated[int, Field(ge=0, le=100_000)] = 0
    replica_lag_s: Annotated[float, Field(ge=0, le=604_800)] = 0.0
    windows: Annotated[tuple[Window, ...], Field(strict=False, max_length=16)] = ()
    off_peak: Annotated[tuple[Window, ...], Field(strict=False, max_length=16)] = ()
    streams: Annotated[int, Field(ge=0, le=16)] = 0
    kb_s: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    batch_raw_mb: Annotated[int, Field(ge=0, le=60)] = 0
    max_rows_per_batch: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    workers: Annotated[int, Field(ge=0, le=16)] = 0
    statement_timeout_s: Annotated[int, Field(ge=0, le=86_400)] = 0
    quota_mb: Annotated[int, Field(ge=0, le=10_000_000)] = 0
    heartbeat_s_min: Annotated[float, Field(ge=0, le=3600)] = 0.0


class CityLimits(Section):
    """``limits.json``: bounds of the whole city.

    Args:
        endpoints: where an exchange may be; without the member it may be anywhere.
    """

    v: Version
    generation: Generation
    limits: Bounds = Bounds()
    endpoints: Annotated[tuple[Server, ...], Field(strict=False, max_length=64)] = ()


Document = GroupConfig | NodeConfig | CityLimits

MOST_FAULTS = 200
"""So many faults of a document are told."""


def parse(path: str, data: bytes) -> Document:
    """A document of the repository.

    Args:
        path: its target path; it says which document it is.
        data: its exact content.

    Raises:
        DocumentInvalid: with every fault, each with file, key, expected and got.
        ValueError: no document of this module lies there.
    """
    model = _kind(path)
    if len(data) > FILE_CAP:
        raise _whole(path, f"at most {FILE_CAP} bytes", str(len(data)))
    try:
        body = strict.loads(data)
    except MalformedMessage as e:
        raise _whole(path, "JSON as wire.md §1 allows it", e.detail) from None
    try:
        return model.model_validate(body)
    except ValidationError as e:
        faults = told(path, model, e)
    more = len(faults) - MOST_FAULTS
    if more > 0:
        faults[MOST_FAULTS:] = [Fault(path, "", f"... and {more} more", None)]
    raise DocumentInvalid(faults=tuple(faults))


def _kind(path: str) -> type[Document]:
    if path == LIMITS_FILE:
        return CityLimits
    room, _, name = path.partition("/")
    if room == "groups" and name.endswith("/config.json"):
        return GroupConfig
    if room == "nodes" and name.endswith("/config.json"):
        return NodeConfig
    raise ValueError("path: expected a document of the configuration")


def _whole(path: str, expected: str, got: str) -> DocumentInvalid:
    return DocumentInvalid(faults=(Fault(path, "", expected, got),))
