# SPDX-License-Identifier: Apache-2.0
"""Other projects that read the same table, in the same run: dlt and sling.

``scripts/bench push --peers`` installs both into ``.work/bench/push``. Neither signs,
digests or pushes: each writes compressed files into a folder. sling's binary comes with
the package for its processor; there is one for x86_64 only.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.process import settle
from benchmarks.push_sources import Source

HOME = Path(".work/bench/push")
SCRIPT = Path(__file__).with_name("push_dlt.py")
PATIENCE_S = 3600


def _dlt(source: Source, folder: Path) -> float | None:
    """dlt with its fastest backend, to Parquet."""
    python = HOME / "bin/python"
    if source.url is None or not python.exists():
        return None
    url = source.url.replace("://", "+psycopg2://", 1)
    words = [python.absolute(), SCRIPT, url, source.table[0], folder]
    return _timed(list(map(str, words)), folder, {"RUNTIME__DLTHUB_TELEMETRY": "false"})


def _sling(source: Source, folder: Path) -> float | None:
    """sling to csv.zst."""
    program = next(HOME.glob("lib/*/site-packages/sling_linux_*/bin/sling-*"), None)
    if source.url is None or program is None:
        return None
    words = [
        str(program.absolute()),
        "run",
        "--src-conn",
        f"{source.url}?sslmode=disable",
    ]
    words += ["--src-stream", ".".join(source.table)]
    words += ["--tgt-object", f"file://{folder}/population.csv.zst"]
    options = '{"compression": "zstd", "format": "csv"}'
    words += ["--tgt-options", options]
    return _timed(words, folder, {"SLING_HOME_DIR": str(folder)})


PEERS: Mapping[str, Callable[[Source, Path], float | None]] = {
    "dlt": _dlt,
    "sling": _sling,
}


def seconds_of(source: Source, folder: Path) -> dict[str, float | None]:
    """Seconds that each peer takes from its start to its end; None: it is not here.

    Args:
        source: with a URL.
        folder: where each gets an empty folder for a while.

    Raises:
        SystemExit: a peer failed.
    """
    found = {}
    for name, run in PEERS.items():
        place = folder / name
        place.mkdir()
        settle()
        found[name] = run(source, place)
        shutil.rmtree(place)
    return found


def _timed(words: list[str], folder: Path, more: Mapping[str, str]) -> float:
    log = folder / "log"
    began = time.monotonic()
    with log.open("wb") as out:
        done = subprocess.run(
            words, stdout=out, stderr=out, cwd=folder, check=False,
            env={**os.environ, **more, "HOME": str(folder)}, timeout=PATIENCE_S,
        )  # fmt: skip
    took = time.monotonic() - began
    if done.returncode:
        raise SystemExit(f"{words[0]} failed: {log.read_text()[-2000:]}")
    written = sum(f.stat().st_size for f in folder.rglob("*.zst")) + sum(
        f.stat().st_size for f in folder.rglob("*.parquet")
    )
    if not written:
        raise SystemExit(f"{words[0]} wrote nothing: {log.read_text()[-2000:]}")
    return took
