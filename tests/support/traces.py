# SPDX-License-Identifier: Apache-2.0
"""Look for texts in the memory of a process and in the files of a folder.

::

    found = in_process(sandbox.process.pid, [CITIZEN, "张三"])
    found |= in_folder(sandbox.folder, [CITIZEN, "张三"])
    assert found == {}

A text is searched for in every form that a program may hold it in, see :func:`forms`.
Choose texts of 6 characters or more that occur nowhere else. A search that can find
nothing proves nothing: also look for a text that must be there, such as a piece of the
sealed message. And keep the texts out of test ids and arguments: pytest writes the id
of the running test into the environment, which children inherit.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \d+ *(.*)")
_CHUNK = 16 << 20


def forms(text: str) -> dict[str, bytes]:
    """Name -> bytes of each form: encodings, JSON escapes, hex, base64 at each place.

    Base64 of a longer text holds a text in one of three ways, by the number of bytes
    before it; the characters that neighbours share are left out. ``double`` is base64
    of base64, as a compact JWE around a compact JWS would have it without encryption.
    """
    raw = text.encode()
    found = {
        "utf-8": raw,
        "utf-16": text.encode("utf-16-le"),
        "utf-32": text.encode("utf-32-le"),
        "escaped": json.dumps(text)[1:-1].encode(),
        "hex": raw.hex().encode(),
    }
    for name, part in _base64(raw).items():
        found[name] = part
        found |= {f"{name}, double {i}": p for i, p in _base64(part).items()}
    once = {data: name for name, data in reversed(found.items())}
    return {name: data for data, name in once.items() if len(data) >= 5}


def _base64(raw: bytes) -> dict[str, bytes]:
    found = {}
    for before in range(3):
        data = base64.urlsafe_b64encode(bytes(before) + raw)
        begin = (before * 8 + 5) // 6
        end = (before + len(raw)) * 8 // 6
        part = data[begin:end]
        found[f"base64url {before}"] = part
        found[f"base64 {before}"] = part.replace(b"-", b"+").replace(b"_", b"/")
    return found


def in_bytes(data: bytes, texts: Iterable[str]) -> dict[str, set[str]]:
    """Text -> forms of it that occur; texts that do not occur are left out."""
    return _search([data], texts)


def in_process(pid: int, texts: Iterable[str]) -> dict[str, set[str]]:
    """The texts that stand in the memory of a process of ours, and in which forms.

    All that it can write is searched: heap, stacks, buffers, shared files, arguments
    and environment. The process is not stopped meanwhile, so let it rest, or hold it
    at the place that matters.
    """
    return _search(_memory(pid), texts)


def in_folder(folder: Path, texts: Iterable[str]) -> dict[str, set[str]]:
    """The texts that stand in files below a folder or in their names."""
    return _search(_files(folder), texts)


def _search(parts: Iterable[bytes], texts: Iterable[str]) -> dict[str, set[str]]:
    wanted = {text: forms(text) for text in texts}
    found: dict[str, set[str]] = {}
    for part in parts:
        for text, named in wanted.items():
            hits = {name for name, data in named.items() if data in part}
            if hits:
                found.setdefault(text, set()).update(hits)
    return found


def _files(folder: Path) -> Iterable[bytes]:
    for path in sorted(folder.rglob("*")):
        yield str(path.relative_to(folder)).encode()
        if path.is_file():
            yield path.read_bytes()


def _memory(pid: int) -> Iterable[bytes]:
    """Every region that can be written, whole."""
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    handle = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    try:
        for line in maps:
            match = _MAP.match(line)
            if match is None or not match[3].startswith("rw"):
                continue
            yield _region(handle, int(match[1], 16), int(match[2], 16))
    finally:
        os.close(handle)


def _region(handle: int, begin: int, end: int) -> bytes:
    data = bytearray()
    while begin < end:
        try:
            part = os.pread(handle, min(_CHUNK, end - begin), begin)
        except OSError:  # unmapped meanwhile, or a device
            break
        if not part:
            break
        data += part
        begin += len(part)
    return bytes(data)
