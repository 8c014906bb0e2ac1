# SPDX-License-Identifier: Apache-2.0
"""Checksums of a release and its detached signature.

One list of SHA-256 sums is signed, with a key that is named when the release is made
and never kept beside it. Any openssl that is on a machine already can check it, from a
disc, without a network or a key ring.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from maker.place import checksum, run

SUMS = "SHA256SUMS"


def sums(files: Iterable[Path], folder: Path) -> Path:
    """Write the list; its form is that of ``sha256sum``."""
    lines = [f"{checksum(path)}  {path.name}" for path in sorted(files)]
    out = folder / SUMS
    out.write_text("\n".join(lines) + "\n", "utf-8")
    return out


def sign(listed: Path, key: Path) -> Path:
    """``SHA256SUMS.sig`` beside the list.

    Args:
        listed: the list of sums.
        key: PEM of a private key; a passphrase is asked by openssl.
    """
    out = listed.with_name(f"{listed.name}.sig")
    run(["openssl", "dgst", "-sha256", "-sign", key, "-out", out, listed])
    return out
