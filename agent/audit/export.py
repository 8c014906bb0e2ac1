# SPDX-License-Identifier: Apache-2.0
"""Write an exported log: the folder that ``verify_log`` checks (docs/audit.md).

Standard library only: a command uses it, asking the daemon page by page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from agent.errors import UsageFault

PER_FILE = 65_536
"""Records in a file of leaves."""

Ask = Callable[[str, Mapping[str, Any]], Any]
"""(what, members) -> the JSON answer of ``agent.audit.desk``: ``export``, ``leaves``,
``tiles`` or ``checkpoints``."""


def export(folder: Path, ask: Ask, *, since: str | None = None) -> dict[str, Any]:
    """Write the log up to now into a new or empty folder.

    Args:
        folder: made if it is not there.
        ask: the way to the log.
        since: wire time; older records are written as hashes only.

    Returns:
        ``origin``, ``size`` and ``first``, number of the first record with its line.

    Raises:
        UsageFault: the folder is not empty, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UsageFault(f"{folder}: expected an empty folder")
        return _write(folder, ask, since)
    except OSError as e:
        raise UsageFault(f"{folder}: {e.strerror}") from e


def _write(folder: Path, ask: Ask, since: str | None) -> dict[str, Any]:
    head = ask("export", {"since": since} if since else {})
    size = int(head["size"])
    first = int(head["first"]) // PER_FILE * PER_FILE
    _leaves(folder, ask, first=first, size=size)
    level = 0
    while size >> (8 * level):
        _tiles(folder, ask, level=level, size=size)
        level += 1
    with (folder / "checkpoints.txt").open("w", encoding="utf-8", newline="\n") as file:
        query = {"since": 0, "size": size}
        for body in _pages(ask, "checkpoints", "since", query):
            file.writelines(f"{note}\n" for note in body["notes"])
    keys = json.dumps(head["keys"], ensure_ascii=False, indent=2)
    (folder / "keys.json").write_text(f"{keys}\n", "utf-8")
    return {"origin": head["origin"], "size": size, "first": first}


def _pages(
    ask: Ask, what: str, name: str, query: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Answers until one says that there is no more."""
    while query[name] is not None:
        body = ask(what, query)
        yield body
        query = {**query, name: body["next"]}


def _leaves(folder: Path, ask: Ask, *, first: int, size: int) -> None:
    for start in range(first, size, PER_FILE):
        path = folder / f"leaves-{start // PER_FILE:05d}.jsonl"
        stop = min(size, start + PER_FILE)
        with path.open("w", encoding="utf-8", newline="\n") as file:
            query = {"start": start, "size": stop}
            for body in _pages(ask, "leaves", "start", query):
                file.writelines(f"{line}\n" for line in body["lines"])


def _tiles(folder: Path, ask: Ask, *, level: int, size: int) -> None:
    number = 0
    query = {"level": level, "number": 0, "size": size}
    for body in _pages(ask, "tiles", "number", query):
        for text in body["tiles"]:
            data = base64.b64decode(text)
            path = folder / tile_path(level, number, len(data) // 32)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            number += 1


def tile_path(level: int, number: int, width: int) -> str:
    """Where a tile of so many hashes stands (C2SP tlog-tiles)."""
    digits = str(number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[i : i + 3] for i in range(0, len(digits), 3)]
    place = "/".join([f"x{g}" for g in groups[:-1]] + groups[-1:])
    return f"tile/{level}/{place}" + ("" if width == 256 else f".p/{width}")
