# SPDX-License-Identifier: Apache-2.0
"""What the installed agent costs a machine, of the packaged runtime and not of .venv.

::

    scripts/bench footprint --json

package_mb     the .deb of the agent, compressed as for a release
installed_mb   its files on the disk
idle_rss_mb    resident memory of the daemon and its children at rest: enrolled, the
               sample department's resources loaded, a policy in force, a lookup
               answered and one refused, SETTLE_S seconds later
status_ms      ``fep status`` of that daemon, wall clock, median of --runs
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent.demo import asking, department, documents, site
from agent.demo.site import Exchange, Site
from benchmarks.process import rss_bytes, tree

ROOT = Path(__file__).resolve().parent.parent
SETTLE_S = 15.0
ROWS = 20_000


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--runs", type=int, default=21, help="of fep status")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="fepb", dir="/tmp"
    ) as place:  # short: sockets
        folder = Path(place)
        package = _package(folder)
        root = folder / "root"
        subprocess.run(["dpkg-deb", "--extract", package, root], check=True)
        found = {
            "package_mb": round(package.stat().st_size / 1e6, 1),
            "installed_mb": round(_size(root) / 1e6, 1),
            **_alive(root, folder, asked.runs),
        }
    if asked.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<14}{value:>10}")
    return 0


def _package(folder: Path) -> Path:
    words: list[str | Path] = [
        ROOT / "scripts/package",
        "--kinds",
        "deb",
        "--out",
        folder / "dist",
    ]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return next((folder / "dist").glob("fep_*.deb"))


def _size(root: Path) -> int:
    """Bytes of the disk that the files take, in whole blocks."""
    return sum(p.lstat().st_blocks * 512 for p in root.rglob("*") if not p.is_dir())


def _alive(root: Path, folder: Path, runs: int) -> dict[str, float]:
    """The sample department's agent, from the files of the package."""
    place = Site(folder)
    fep = [str(next(root.glob("opt/fep/python/bin/python3*"))), "-I"]
    fep.append(str(root / "opt/fep/bin/fep"))
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "FEP_CONFIG": str(place.config)}
    words = ["-m", "sandbox", "--dir", str(place.exchange), "--approve-all"]
    with site.process(words, log=folder / "exchange.log") as exchange:
        ready = place.exchange / "sandbox.json"
        site.wait_until(ready.exists, exchange, what="the sandbox")
        slip = json.loads(ready.read_text("utf-8"))
        names = ("url", "aud", "ca_sha256", "kid")
        department.build(place.source, rows=ROWS)
        admin = Path(slip["admin"])
        documents.write(place, Exchange(**{n: slip[n] for n in names}, admin=admin))
        place.run.mkdir(mode=0o700)
        _run([*fep, "enrol"], env)
        with (folder / "agent.log").open("wb") as log:
            daemon = subprocess.Popen([*fep, "run"], env=env, stdout=log, stderr=log)
        try:
            socket = place.run / "fep.sock"
            site.wait_until(socket.exists, daemon, what="the daemon")
            for resource in documents.pushed():
                _run([*fep, "pull", resource.code, "--wait"], env)
            _run([*fep, "policy", "activate"], env)
            answers = [asked.status for asked in asking.ask_both(place)]
            if answers != ["ok", "denied"]:
                raise RuntimeError(f"lookups: {answers}")
            time.sleep(SETTLE_S)
            rss = rss_bytes(tree(daemon.pid))
            times = [_timed([*fep, "status"], env) for _ in range(runs)]
        finally:
            daemon.terminate()
            daemon.wait(90)
    return {
        "idle_rss_mb": round(rss / 1e6, 1),
        "status_ms": round(statistics.median(times) * 1000, 1),
    }


def _run(words: list[str], env: dict[str, str]) -> None:
    subprocess.run(words, env=env, check=True, stdout=subprocess.DEVNULL)


def _timed(words: list[str], env: dict[str, str]) -> float:
    began = time.perf_counter()
    _run(words, env)
    return time.perf_counter() - began


if __name__ == "__main__":
    sys.exit(main())
