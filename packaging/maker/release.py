# SPDX-License-Identifier: Apache-2.0
"""All files of a release for one machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maker import bundle, packages, sbom, signing
from maker.place import CACHE, checksum, say, version
from maker.tree import CORE, PARTS, trees

KINDS = ("deb", "rpm", "run")


@dataclass(frozen=True)
class Wish:
    """What is to be made.

    Args:
        arch: for which machine.
        kinds: of ``KINDS``.
        fast: hardly compressed.
        key: of the signature; None for none.
    """

    arch: str
    kinds: Sequence[str]
    fast: bool = False
    key: Path | None = None


def make(wish: Wish, folder: Path) -> list[Path]:
    """Packages, bill of materials, checksums and signature; what was written."""
    folder.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(dir=CACHE, prefix="tree-"))
    try:
        say(f"laying out the files for {wish.arch}")
        roots = trees(wish.arch, work / "roots")
        found = []
        for kind in wish.kinds:
            if kind == "run":
                found.append(_bundle(wish, roots, folder))
                continue
            for part in PARTS:
                say(f"{packages.file_name(kind, part, wish.arch)}")
                one = packages.Wish(
                    kind, part, wish.arch, roots[part.name], roots[CORE.name], wish.fast
                )
                found.append(packages.write(one, folder, work))
        bill = folder / f"fep-{version()}-{wish.arch}.cdx.json"
        bill.write_text(sbom.bill(CORE.name, wish.arch, *roots.values()), "utf-8")
        found.append(bill)
        sums = signing.sums(found, folder)
        return [*found, sums, *([signing.sign(sums, wish.key)] if wish.key else [])]
    finally:
        shutil.rmtree(work)


def _bundle(wish: Wish, roots: dict[str, Path], folder: Path) -> Path:
    """Agent and connectors; the sample department is not for production."""
    say(f"fep-{version()}-{wish.arch}.run")
    wanted = [roots[part.name] for part in PARTS if part.connectors]
    return bundle.write(wish.arch, wanted, folder, fast=wish.fast)


def differ(first: Sequence[Path], second: Sequence[Path]) -> list[str]:
    """Names of files whose bytes are not the same; signatures are never."""
    others = {path.name: path for path in second}
    return [
        path.name
        for path in first
        if path.suffix != ".sig" and checksum(path) != checksum(others[path.name])
    ]
