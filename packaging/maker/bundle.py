# SPDX-License-Identifier: Apache-2.0
"""``.run``: one file that installs itself, for systems whose packager is neither.

A shell script with a gzipped tar behind its last line. gzip, because tar is everywhere
with it and not everywhere with xz.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from maker.place import epoch, version
from maker.tree import FILES


def write(arch: str, roots: Sequence[Path], folder: Path, *, fast: bool) -> Path:
    """Write the file for one machine from one or more parts' files."""
    out = folder / f"fep-{version()}-{arch}.run"
    packed = _packed(roots, level=1 if fast else 9)
    head = (FILES / "run.head").read_text("utf-8")
    for name, value in (
        ("NAME", out.name),
        ("VERSION", version()),
        ("ARCH", arch),
        ("LINES", str(head.count("\n"))),
        ("BYTES", str(len(packed))),
        ("SHA256", hashlib.sha256(packed).hexdigest()),
    ):
        head = head.replace(f"@{name}@", value)
    out.write_bytes(head.encode() + packed)
    out.chmod(0o755)
    return out


def _packed(roots: Sequence[Path], *, level: int) -> bytes:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as tar:
        names = {
            path.relative_to(root): path for root in roots for path in root.rglob("*")
        }
        for name in sorted(names):
            info = tar.gettarinfo(str(names[name]), f"./{name}")
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = epoch()
            if info.isreg():
                with names[name].open("rb") as file:
                    tar.addfile(info, file)
            else:
                tar.addfile(info)
    return gzip.compress(plain.getvalue(), level, mtime=0)
