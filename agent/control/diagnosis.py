# SPDX-License-Identifier: Apache-2.0
"""What a diagnostics bundle holds: how this machine stands, and no row of anybody.

Each function looks at one thing and says so if it cannot; none fails because another
part of the machine is damaged. The daemon may be running or not.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import ssl
import struct
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from agent import VERSION
from agent.audit.events import Event
from agent.control.settings_shown import settings_of
from agent.errors import ConfigInvalid, all_errors
from agent.settings.load import load, read
from agent.settings.model import Paths
from agent.wire.command import REASONS
from agent.wire.grammar import CODE, is_time
from agent.wire.problem import CODES

JsonObject = dict[str, Any]

UNIT = "fep.service"
ASK_S = 10.0
"""So long another program may take for an answer, seconds."""
ANSWER_CAP = 8 * 1024 * 1024
"""Most of it that is read, bytes."""
LINES = 20_000
"""Most lines of the journal that are read."""
MOST_FILES = 200_000
"""Most files of a folder that are counted."""
_METADATA_CAP = 1024 * 1024
ROLE = re.compile(r"[a-z]{1,16}|department-[0-9A-Z]{18}")

LIBRARIES = (
    *("aiohttp", "cryptography", "pyarrow", "pydantic", "psycopg", "PyMySQL"),
    *("google-re2", "sqlite-utils", "structlog", "tuf", "typer", "zstandard"),
)
OF_SYSTEMD = (
    *("LoadState", "ActiveState", "SubState", "UnitFileState", "Result", "NRestarts"),
    *("ExecMainStatus", "MemoryCurrent", "TasksCurrent", "StateChangeTimestamp"),
)
OF_TIME = ("Timezone", "NTP", "NTPSynchronized")
Ask = Callable[[Sequence[str]], str | None]
"""Runs a program; what it printed, or None if there is none, it failed or hung."""


@dataclass(frozen=True)
class Told:
    """What a running daemon says of itself.

    Args:
        status: as ``fep status --json`` has it.
        counters: as Prometheus reads them.
        events: as :func:`agent.logs.Recent.view` has them.
    """

    status: JsonObject
    counters: str
    events: Sequence[JsonObject]


def documents(
    config: Path, told: Told | str, *, ask: Ask, now: datetime
) -> dict[str, Any]:
    """Every document of a bundle by its name.

    Args:
        config: the settings file.
        told: what the daemon says, or the code of the error why it says nothing.
        ask: runs a program.
        now: aware UTC.
    """
    paths = _paths(config)
    running = isinstance(told, Told)
    status = told.status if isinstance(told, Told) else {"error": told}
    return {
        "versions": versions(),
        "status": status,
        "config": settings_of(config),
        "counters": counters(told.counters) if isinstance(told, Told) else {},
        "events": {
            "daemon": list(told.events) if isinstance(told, Told) else [],
            "journal": journal(ask),
        },
        "schemas": [schema(path) for path in (paths.database, paths.ledger)],
        "disk": disk(paths),
        "system": system(ask),
        "time": {
            "now": now.isoformat(),
            "exchange_ahead_s": _offset(status) if running else None,
            "host": shown_by(ask, ["timedatectl", "show"], OF_TIME),
        },
        "tuf": tuf(paths.state / "tuf"),
    }


def _offset(status: Mapping[str, Any]) -> object:
    exchange = status.get("exchange")
    return exchange.get("clock_offset_s") if isinstance(exchange, dict) else None


# --- programs -------------------------------------------------------------------------


def asked(command: Sequence[str]) -> str | None:
    """What a program of the system prints; see :data:`Ask`."""
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "TZ": "UTC"}
    try:
        done = subprocess.run(
            list(command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            timeout=ASK_S,
            env=environ,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout[:ANSWER_CAP].decode("utf-8", "replace")


def shown_by(ask: Ask, command: Sequence[str], names: Sequence[str]) -> Any:
    """Some properties as ``... show`` of systemd's programs prints them, or None."""
    text = ask([*command, f"--property={','.join(names)}"])
    if text is None:
        return None
    pairs = (line.partition("=") for line in text.splitlines())
    return {name: value[:200] for name, _, value in pairs if name in names}


def versions() -> JsonObject:
    """Of the agent, the interpreter, the libraries and the system."""
    try:
        release = platform.freedesktop_os_release().get("PRETTY_NAME")
    except OSError:
        release = None
    return {
        "agent": VERSION,
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "openssl": ssl.OPENSSL_VERSION,
        "libraries": {name: _version(name) for name in LIBRARIES},
        "system": release,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "byteorder": sys.byteorder,
    }


def _version(library: str) -> str | None:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def system(ask: Ask) -> JsonObject:
    """How systemd sees the service, the load and the memory of the machine."""
    try:
        load_1m = os.getloadavg()[0]
    except OSError:
        load_1m = None
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    service = shown_by(ask, ["systemctl", "show", UNIT], OF_SYSTEMD)
    return {
        "service": service,
        "cpus": os.cpu_count(),
        "load_1m": load_1m,
        "memory": pages,
    }


# --- what happened --------------------------------------------------------------------


def counters(text: str) -> dict[str, float]:
    """Our own counters: name with labels -> number."""
    found = {}
    for line in text.splitlines()[:MOST_FILES]:
        name, _, number = line.rpartition(" ")
        if name.startswith("fep_") and "_created" not in name:
            try:
                found[name] = float(number)
            except ValueError:
                continue
    return found


def _event_names() -> frozenset[str]:
    def below(cls: type[Event]) -> Iterable[type[Event]]:
        for sub in cls.__subclasses__():
            yield sub
            yield from below(sub)

    return frozenset(cls.name for cls in below(Event)) | {"library"}


def _codes() -> frozenset[str]:
    return frozenset(c.code for c in all_errors()) | frozenset((*CODES, *REASONS))


def journal(ask: Ask) -> list[JsonObject] | None:
    """Of each event and code of the journal: how often, and when last.

    Returns:
        None if the journal cannot be read; then only the daemon knows.
    """
    words = ["--output=cat", "--no-pager", f"--lines={LINES}"]
    text = ask(["journalctl", f"--unit={UNIT}", *words])
    return None if text is None else last_events(text.splitlines())


def last_events(lines: Iterable[str]) -> list[JsonObject]:
    """Of each event and code in log lines: how often, and when last.

    Nothing else of a line is looked at, and a line that is none of ours only counted.
    """
    names, codes = _event_names(), _codes()
    times: dict[tuple[str, str | None], str] = {}
    counts: Counter[tuple[str, str | None]] = Counter()
    for line in lines:
        body = _line(line)
        name, code, at = body.get("event"), body.get("code"), body.get("time")
        key = (
            name if isinstance(name, str) and name in names else "(other)",
            code if isinstance(code, str) and code in codes else None,
        )
        counts[key] += 1
        if isinstance(at, str) and is_time(at):
            times[key] = max(times.get(key, ""), at)
    return [
        {"event": name, "code": code, "count": n, "last": times.get((name, code))}
        for (name, code), n in sorted(counts.items(), key=str)
    ]


def _line(line: str) -> Mapping[str, Any]:
    try:
        body = json.loads(line)
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


# --- the disk -------------------------------------------------------------------------


def _paths(config: Path) -> Paths:
    """Where things lie, also if the settings have faults elsewhere."""
    try:
        return load(config, secrets=False).paths
    except ConfigInvalid:
        pass
    try:
        told = read(config).get("paths", {})
        state = told.get("state", "") if isinstance(told, dict) else ""
    except ConfigInvalid:
        state = ""
    return Paths(state=config.parent / state) if isinstance(state, str) else Paths()


def schema(path: Path) -> JsonObject:
    """What a database is, from its first 100 bytes: no lock, no page of it is read."""
    found: JsonObject = {"file": path.name, "bytes": None, "version": None}
    try:
        with path.open("rb") as file:
            head = file.read(100)
            found["bytes"] = os.fstat(file.fileno()).st_size
    except OSError as e:
        return found | {"error": type(e).__name__}
    if len(head) == 100 and head.startswith(b"SQLite format 3\0"):
        found["version"] = struct.unpack(">I", head[60:64])[0]
        found["application"] = head[68:72].hex()
    return found


def disk(paths: Paths) -> JsonObject:
    """Room, and how much each folder takes; no name of a file."""
    room = None
    try:
        found = os.statvfs(paths.state)
        room = {
            "size": found.f_blocks * found.f_frsize,
            "free": found.f_bavail * found.f_frsize,
            "files_free": found.f_favail,
        }
    except OSError:
        pass
    folders = {
        "spool": paths.spool,
        "quarantine": paths.quarantine,
        "diff": paths.diff,
        "reconcile": paths.reports,
        "evidence": paths.evidence,
        "state": paths.state,
    }
    return {"room": room, "folders": {n: _counted(p) for n, p in folders.items()}}


def _counted(folder: Path) -> JsonObject:
    files = size = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if files >= MOST_FILES:
                    break
                if entry.is_file(follow_symlinks=False):
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    except OSError as e:
        return {"error": type(e).__name__}
    return {"files": files, "bytes": size}


def tuf(folder: Path) -> list[JsonObject]:
    """Which metadata of the city's repository is here: role, version, end."""
    found = []
    for path in sorted(folder.rglob("*.json"))[:200]:
        try:
            if path.stat().st_size > _METADATA_CAP:
                continue
            signed = json.loads(path.read_bytes())["signed"]
            kind, version, end = signed["_type"], signed["version"], signed["expires"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        known = CODE.fullmatch(str(kind)) and ROLE.fullmatch(path.stem)
        if known and isinstance(version, int) and is_time(str(end)):
            found.append({"role": path.stem, "version": version, "expires": end})
    return found
