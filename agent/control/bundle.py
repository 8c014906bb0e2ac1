# SPDX-License-Identifier: Apache-2.0
"""The diagnostics bundle: a zip of a fixed list of documents that hold nothing secret.

Rules

1. What goes in is chosen, not what stays out: ``diagnosis`` takes numbers, codes, times
   and settings that it knows, and reads no row, no key, no batch and no free text.
2. What is text all the same passes :func:`scrubbed`, which takes out what looks like a
   citizen id, a telephone number, a key, a token or a login.
3. The manifest has the SHA-256 of each document, and says of each one that was too
   large that it is not there.
4. The zip has at most ``wire.command.BUNDLE_CAP`` bytes.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from agent.errors import UsageFault
from agent.wire.command import BUNDLE_CAP
from agent.wire.grammar import format_time

MANIFEST = "manifest.json"
DOCUMENT_CAP = 2 * 1024 * 1024
"""Longest document, bytes before compression."""
_LONGEST_TEXT = 2000

_LOOKS = (
    re.compile(r"-----BEGIN [^-]*-----.*?(?:-----END [^-]*-----|\Z)", re.DOTALL),
    re.compile(r"(?<![0-9])[1-9]\d{5}(?:19|20)\d{2}[01]\d[0-3]\d\d{3}[\dXx](?![0-9])"),
    re.compile(r"(?<![0-9])[1-9]\d{5}\d{2}[01]\d[0-3]\d\d{3}(?![0-9])"),
    re.compile(r"(?<![0-9])(?:\+?86[- ]?)?1[3-9]\d{9}(?![0-9])"),
    re.compile(r"eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)*"),
    re.compile(r"(?<=//)[^/@\s]*@"),
    re.compile(r"(?i)(?:password|passwd|pwd|secret|token)\s*[=:]\s*\S+"),
)
"""A PEM block, a citizen id of 18 and of 15 digits, a mobile number, a JOSE message, a
login in an address, a word that calls itself a secret."""
LEFT_OUT = "(left out)"


def scrubbed(value: Any) -> Any:
    """A JSON value without what looks personal or secret; long texts are cut."""
    if isinstance(value, str):
        for pattern in _LOOKS:
            value = pattern.sub(LEFT_OUT, value[: 4 * _LONGEST_TEXT])
        return value[:_LONGEST_TEXT]
    if isinstance(value, Mapping):
        return {str(scrubbed(str(k))): scrubbed(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [scrubbed(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool):
        return value if scrubbed(str(value)) == str(value) else LEFT_OUT
    return value if value is None or isinstance(value, bool | float) else LEFT_OUT


def pack(documents: Mapping[str, Any], *, version: str, now: datetime) -> bytes:
    """The zip of some documents.

    Args:
        documents: name -> JSON value; each becomes ``<name>.json``.
        version: of the agent.
        now: aware UTC.

    Returns:
        At most ``BUNDLE_CAP`` bytes, whatever the documents hold: the largest go first.
    """
    texts = {
        f"{name}.json": json.dumps(
            scrubbed(value), ensure_ascii=False, indent=1, sort_keys=True
        ).encode()
        for name, value in documents.items()
    }
    gone: dict[str, int] = {}
    for name in [n for n, text in texts.items() if len(text) > DOCUMENT_CAP]:
        gone[name] = len(texts.pop(name))
    while len(found := _zip(texts, gone, version, now)) > BUNDLE_CAP:
        largest = max(texts, key=lambda name: len(texts[name]))
        gone[largest] = len(texts.pop(largest))
    return found


def _zip(
    texts: Mapping[str, bytes], gone: Mapping[str, int], version: str, now: datetime
) -> bytes:
    manifest = {
        "v": 1,
        "agent": version,
        "at": format_time(now.replace(microsecond=0)),
        "files": [
            {
                "name": name,
                "bytes": len(text),
                "sha256": hashlib.sha256(text).hexdigest(),
            }
            for name, text in sorted(texts.items())
        ],
        "left_out": [{"name": n, "bytes": size} for n, size in sorted(gone.items())],
    }
    first = json.dumps(manifest, indent=1).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in ((MANIFEST, first), *sorted(texts.items())):
            entry = zipfile.ZipInfo(name, now.timetuple()[:6])
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o600 << 16
            archive.writestr(entry, text)
    return out.getvalue()


def manifest_of(bundle: bytes) -> dict[str, Any]:
    """The manifest of a bundle that :func:`pack` made."""
    with zipfile.ZipFile(io.BytesIO(bundle)) as archive:
        found: dict[str, Any] = json.loads(archive.read(MANIFEST))
        return found


def write(path: Path, bundle: bytes) -> None:
    """Write a new file with mode 0600.

    Raises:
        UsageFault: the file is there already, or cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(bundle)
    except OSError as e:
        raise UsageFault(f"{path}: expected a new file, got {e.strerror}") from None
