# SPDX-License-Identifier: Apache-2.0
"""Evidence pack: receipts with what proves them, as one ZIP file (docs/wire.md §2).

::

    README.txt                                           how to check it, for people
    manifests/<resource_>.<epoch>.<seq>.jws              line 1 of a batch, exact text
    receipts/<resource_>.<epoch>.<seq>.<state>.<n>.jws   its n-th receipt, exact text
    directories/<sha256>.jws                             what vouches for the keys

Nothing but the four places stands in it, nothing twice, no payload and no row. Names
are for people; what a text is stands in the text. The same evidence is the same bytes.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Self

from agent.errors import MalformedMessage
from agent.wire.grammar import resource_file_part

MAGIC = b"PK\x03\x04"
"""How the file begins."""
MOST = 1_000_000
"""Most entries that are looked at."""
MOST_DIRECTORIES = 256 * 1024 * 1024
"""Most bytes of all directories together."""
MOST_BYTES = 1024 * 1024 * 1024
"""Most bytes of all entries together."""
_PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""Compressions that are read piece by piece; others give all at once."""
_ODD = (NotImplementedError, RuntimeError, EOFError, OSError, struct.error)
"""What zipfile raises of other compressions, passwords, cut files and false places."""
_CAPS = {"manifests": 64 * 1024, "receipts": 2048, "directories": 16 * 1024 * 1024}
_README = "README.txt"
_README_CAP = 64 * 1024
_NAME = re.compile(r"(manifests|receipts|directories)/[0-9A-Za-z_.-]{1,240}\.jws")

README = """\
This file proves what was sent to the exchange, and what the exchange signed for.
本文件证明向交换中心上送了什么，以及交换中心签收了什么。

manifests/    line 1 of each batch, signed by the department's node (fep-batch+jws)
receipts/     what the exchange signed about it (fep-receipt+jws)
directories/  the exchange's directories that have the keys (fep-directory+jws)

Each is one compact JWS (RFC 7515, ES256), the exact text. To check by hand:
1. The hex SHA-256 of "header.payload" is the message digest. A receipt's "manifest"
   is "sha256:" and that of its manifest; so is a manifest's "stream.prev" of the one
   before it: none can be missing in between. "content.digest" is that of the payload
   behind line 1 of the batch file, for who has the file.
2. "kid" is the RFC 7638 thumbprint of the key. A receipt's key stands in
   "exchange.json" of a directory, a manifest's in a statement of its node in
   "directory/<department>.json". A signature is r and s, 32 bytes each.
3. A directory is signed by such a receipt key. Compare its kid with the one on the slip
   that central ops gave out: nothing in this file can do that for you.
4. A key in "revoked.json" counts for what was receipted ("at") before that time.
With the agent's program, without line or service: fep verify PACK --kid KID

每个文件是一条紧凑 JWS（RFC 7515，ES256）原文。手工核对：
一、“头.载荷”的 SHA-256（十六进制）即报文摘要。回执的 manifest 为其清单的摘要，
   清单的 stream.prev 为前一批的摘要，故中间不会缺失；content.digest 为批次文件首行
   之后内容的摘要。
二、kid 为公钥指纹（RFC 7638）：回执公钥在目录的 exchange.json 中，清单公钥在
   directory/<部门>.json 的节点密钥声明中。签名为 r 与 s，各 32 字节。
三、目录由回执密钥签名；其 kid 须与中心凭条所载一致，本文件无法代为证明。
四、revoked.json 中的密钥，只对该时刻之前签署（at）的回执有效。
使用本程序核对，无需联网与服务：fep verify 文件 --kid KID
"""


class Writer:
    """Writes a pack; a block that ends ends the file.

    Args:
        file: an empty file, open for writing.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._put(_README, README)
        self._there: set[str] = set()

    def manifest(self, resource: str, epoch: int, seq: int, text: str) -> None:
        """Add line 1 of a batch."""
        self._once(f"manifests/{resource_file_part(resource)}.{epoch}.{seq}.jws", text)

    def receipt(
        self, batch: tuple[str, int, int], state: str, number: int, text: str
    ) -> None:
        """Add the receipt of a batch (resource, epoch, seq) that has this number."""
        resource, epoch, seq = batch
        name = f"{resource_file_part(resource)}.{epoch}.{seq}.{state}.{number}.jws"
        self._once(f"receipts/{name}", text)

    def directory(self, text: str) -> None:
        """Add a directory."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        self._once(f"directories/{digest}.jws", text)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the file, whatever happened; half of it is for who made it to remove."""
        self._zip.close()

    def _once(self, name: str, text: str) -> None:
        if name not in self._there:
            self._there.add(name)
            self._put(name, text)

    def _put(self, name: str, text: str) -> None:
        info = zipfile.ZipInfo(name)  # of 1980: no time of day makes two packs differ
        info.external_attr = 0o644 << 16
        self._zip.writestr(info, text.encode(), compress_type=zipfile.ZIP_DEFLATED)


def entries(file: IO[bytes]) -> Iterator[tuple[str, str, bytes]]:
    """(place, name, text) of everything but the README, by place and name.

    Raises:
        MalformedMessage: it is no pack, or holds what none may hold.
    """
    try:
        with zipfile.ZipFile(file) as found:
            listed = found.infolist()
            if len(listed) > MOST:
                raise MalformedMessage(f"pack: expected at most {MOST} entries")
            names = {info.filename: info for info in listed}
            if len(names) != len(listed):
                raise MalformedMessage("pack: expected every name once")
            # No entry gives more than the size that it says here.
            _weigh(listed)
            for name in sorted(names):
                yield from _entry(found, names[name])
    except (zipfile.BadZipFile, zlib.error, ValueError, *_ODD) as e:
        raise MalformedMessage(f"pack: {type(e).__name__}: {e}") from e


def _weigh(listed: list[zipfile.ZipInfo]) -> None:
    """Refuse what is too much, before anything is opened.

    Raises:
        MalformedMessage: an entry is of no place, packed oddly or too large, or all of
            them are together.
    """
    total = directories = 0
    for info in listed:
        name, size = info.filename, info.file_size
        place = _place(name)
        cap = _README_CAP if place is None else _CAPS[place]
        if info.compress_type not in _PLAIN:
            raise MalformedMessage(f"pack: {name}: expected it stored or deflated")
        if size > cap:
            raise MalformedMessage(f"pack: {name}: expected at most {cap} bytes")
        total += size
        directories += size if place == "directories" else 0
    if directories > MOST_DIRECTORIES:
        most = f"{MOST_DIRECTORIES} bytes of directories"
        raise MalformedMessage(f"pack: expected at most {most}, got {directories}")
    if total > MOST_BYTES:
        raise MalformedMessage(f"pack: expected at most {MOST_BYTES}, got {total}")


def _place(name: str) -> str | None:
    """Where an entry stands; None of the README.

    Raises:
        MalformedMessage: in none of the places.
    """
    match = _NAME.fullmatch(name)
    if match is None and name != _README:
        raise MalformedMessage("pack: expected only the places of docs/wire.md")
    return None if match is None else match[1]


def _entry(
    found: zipfile.ZipFile, info: zipfile.ZipInfo
) -> Iterator[tuple[str, str, bytes]]:
    place = _place(info.filename)
    if place is not None:
        with found.open(info) as entry:
            yield place, info.filename, entry.read(_CAPS[place] + 1)
