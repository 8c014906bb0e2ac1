# SPDX-License-Identifier: Apache-2.0
"""One question to a source, asked in a child process: check, discover, capabilities.

:func:`ask` is the side of commands and doctor; it starts ``python -m
agent.pipeline.worker.probe FD`` and gives back the contract's own values. The question,
with the source's secrets, goes through the socket, and so does the answer, one JSON
line each.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from agent.child.inside import DaemonGone, Lines, settle
from agent.child.process import Child, Guard
from agent.child.source import FAULTS, source_faults
from agent.errors import ConfigInvalid, FepError, InternalFault, WorkerDied
from agent.model.job import LINE_CAP
from agent.registry import find
from connectors.contract import (
    Caps,
    ColumnSpec,
    Connector,
    Finding,
    FoundColumn,
    FoundTable,
    Increments,
    LookupSpec,
    StreamSpec,
    offers_lookup,
)

PROBE = (sys.executable, "-I", "-m", "agent.pipeline.worker.probe")
"""How a probe starts; its descriptor number follows."""

_KNOWN: tuple[type[FepError], ...] = (*FAULTS.values(), ConfigInvalid, InternalFault)
_FAULTS = {fault.code: fault for fault in _KNOWN}

Answer = list[Finding] | list[FoundTable] | list[Caps]


@dataclass(frozen=True)
class Question:
    """What to ask of a source.

    Args:
        task: the connector's method.
        connector: name in the connector registry.
        source: the source's settings, secrets included. Never logged.
        streams: what ``check`` and ``capabilities`` are asked about.
        lookups: what ``check_lookup`` is asked about.
    """

    task: Literal["check", "check_lookup", "discover", "capabilities"]
    connector: str
    source: Mapping[str, Any] = field(repr=False)
    streams: tuple[StreamSpec, ...] = ()
    lookups: tuple[LookupSpec, ...] = ()


async def check(
    connector: str, source: Mapping[str, Any], streams: Sequence[StreamSpec]
) -> list[Finding]:
    """What stands between a source and these streams.

    Raises:
        WorkerDied: the driver crashed or hung.
        InternalFault: the connector broke its contract.
    """
    question = Question("check", connector, source, tuple(streams))
    return [Finding(**f) for f in await ask(question)]


async def check_lookup(
    connector: str, source: Mapping[str, Any], lookups: Sequence[LookupSpec]
) -> list[Finding]:
    """What stands between a source and these lookups.

    Raises:
        WorkerDied: the driver crashed or hung.
        InternalFault: the connector broke its contract.
    """
    question = Question("check_lookup", connector, source, lookups=tuple(lookups))
    return [Finding(**f) for f in await ask(question)]


async def discover(connector: str, source: Mapping[str, Any]) -> list[FoundTable]:
    """The tables that the account can see.

    Raises:
        SourceFault: the source could not be asked.
        WorkerDied: the driver crashed or hung.
    """
    return [_table(t) for t in await ask(Question("discover", connector, source))]


async def capabilities(
    connector: str, source: Mapping[str, Any], streams: Sequence[StreamSpec]
) -> list[Caps]:
    """What the connector promises for each stream.

    Raises:
        SourceFault: the source could not be asked.
        WorkerDied: the driver crashed or hung.
    """
    question = Question("capabilities", connector, source, tuple(streams))
    return [_caps(c) for c in await ask(question)]


async def ask(
    question: Question,
    *,
    command: Sequence[str] = PROBE,
    guard: Guard | None = None,
    environ: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The answer to a question as plain JSON values.

    Args:
        question: what to ask.
        command: how a probe starts.
        guard: its limits; silence ends it after two minutes by default.
        environ: environment to choose from; None is this process's.

    Raises:
        SourceFault: the source could not be asked.
        ConfigInvalid: there is no such connector.
        WorkerDied: the driver crashed or hung.
        InternalFault: the connector broke its contract.
    """
    child = Child(
        command,
        guard=guard or Guard(silence_s=120.0),
        environ=os.environ if environ is None else environ,
    )
    await child.start()
    try:
        await child.write(_encode(asdict(question)))
        line = await child.read()
        if not line:
            raise await child.died()
        await child.finish()
    finally:
        await child.kill("killed by its caller")
    return _opened(line)


def _opened(line: bytes) -> list[dict[str, Any]]:
    try:
        body = json.loads(line)
    except ValueError:
        raise WorkerDied("the probe's answer is not JSON") from None
    match body:
        case {"answer": list(found)}:
            return found
        case {"code": str(code), "detail": str(detail)} if code in _FAULTS:
            raise _FAULTS[code](detail)
        case _:
            raise WorkerDied("the probe's answer has an unknown form")


def answer(question: Question, seek: Callable[[str], Connector]) -> Answer:
    """Ask the connector; the child's side.

    Raises:
        SourceError: the connector could not ask the source.
    """
    connector = seek(question.connector)
    match question.task:
        case "check":
            return connector.check(question.source, question.streams)
        case "check_lookup":
            if not offers_lookup(connector):
                return [_no_lookup(question.connector)]
            return connector.check_lookup(question.source, question.lookups)
        case "discover":
            return connector.discover(question.source)
        case "capabilities":
            return [
                connector.capabilities(question.source, s) for s in question.streams
            ]


def reply(asked: bytes, seek: Callable[[str], Connector]) -> bytes:
    """The line that answers a question's line."""
    try:
        with source_faults():
            found = answer(_question(json.loads(asked)), seek)
        line = _encode({"answer": [asdict(a) for a in found]})
    except FepError as e:
        return _fault(e.code, e.detail)
    except Exception as e:  # noqa: BLE001 - the edge: a foreign message may hold values
        return _fault(InternalFault.code, type(e).__name__)
    if len(line) > LINE_CAP:
        too_long = f"answer of {len(line)} bytes, at most {LINE_CAP}"
        return _fault(InternalFault.code, too_long)
    return line


def main(argv: list[str]) -> int:
    """Answer the question that comes through descriptor ``argv[1]``."""
    settle()
    with socket.socket(fileno=int(argv[1])) as sock:
        lines = Lines(sock)
        try:
            lines.send(reply(lines.receive(), find))
        except DaemonGone:
            return 3
    return 0


def _no_lookup(connector: str) -> Finding:
    return Finding(
        "lookup-unsupported",
        "error",
        f"The connector {connector} answers no lookups",
        f"连接器 {connector} 不支持联机查询",
        "Set lookup = false in the resource document / 请在资源目录中设 lookup = false",
    )


def _fault(code: str, detail: str) -> bytes:
    return _encode({"code": code, "detail": detail})


def _encode(body: dict[str, Any]) -> bytes:
    return json.dumps(body, ensure_ascii=False, default=str).encode() + b"\n"


def _question(body: dict[str, Any]) -> Question:
    streams = tuple(map(_stream, body["streams"]))
    lookups = tuple(
        LookupSpec(_stream(one["stream"]), tuple(one["keys"]))
        for one in body.get("lookups", ())
    )
    return Question(body["task"], body["connector"], body["source"], streams, lookups)


def _stream(body: dict[str, Any]) -> StreamSpec:
    columns = tuple(ColumnSpec(**column) for column in body["columns"])
    marks = body.get("stamp"), body.get("number")
    return StreamSpec(tuple(body["table"]), columns, *marks)


def _caps(body: dict[str, Any]) -> Caps:
    found = body.pop("increments")
    promised = None
    if found is not None:
        promised = Increments(found["method"], tuple(found["assumes"]))
    return Caps(**body, increments=promised)


def _table(body: dict[str, Any]) -> FoundTable:
    return FoundTable(
        table=tuple(body["table"]),
        comment=body["comment"],
        rows=body["rows"],
        columns=tuple(FoundColumn(**c) for c in body["columns"]),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv))
