# SPDX-License-Identifier: Apache-2.0
"""kill -9 at every fsync and rename of a configuration's life, by strace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.control.applied import Applied
from tests.support import applied_driver as driver

STRACE = shutil.which("strace")
QUIET = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
"""Neither byte code nor what was covered is written: that would be counted, too."""
QUIET["PYTHONDONTWRITEBYTECODE"] = "1"
pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(STRACE is None, reason="needs strace (apt install strace)"),
]
ROOT = Path(__file__).resolve().parents[2]


def killed(folder: Path, act: str, call: str, when: int) -> bool:
    """Whether the driver met this system call so often, and died there."""
    inject = f"inject={call}:signal=KILL:when={when}"
    done = subprocess.run(
        [
            *(str(STRACE), "-f", "-qq", "-o", str(folder / "strace.log")),
            *("-e", f"trace={call}", "-e", inject, sys.executable),
            *("-m", "tests.support.applied_driver", str(folder / "config"), act),
        ],
        check=False,
        cwd=ROOT,
        env=QUIET,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode in {0, -9, 137}, done.stderr
    return done.returncode != 0


@pytest.mark.parametrize(
    ("act", "renames"), [("begin", 2), ("prove", 1), ("revert", 2)]
)
def test_killed_at_any_fsync_or_rename_one_of_the_two_runs(
    tmp_path: Path, act: str, renames: int
) -> None:
    """The old or the new one; a probation that was open is open, or has ended."""
    met = {"fsync": 0, "rename": 0}
    for call in met:
        while True:
            folder = tmp_path / f"{call}{met[call]}"
            driver.prepare(folder / "config", act)
            if not killed(folder, act, call, met[call] + 1):
                break
            met[call] += 1
            sound(Applied(folder / "config"), act)
    assert met == {"fsync": 2 * renames, "rename": renames}


def sound(store: Applied, act: str) -> None:
    """What a daemon finds that starts now."""
    old, new = driver.OLD.digest, driver.NEW.digest
    running, good = store.running(), store.good()
    assert running is not None
    assert good is not None
    assert (running.digest, good.digest) in {(old, old), (new, old), (new, new)}
    given_up = store.given_up()
    stands = store.restart(most=3, reason="daemon-died")
    after = store.running()
    assert after is not None
    if given_up is not None:
        assert (after.digest, stands) == (old, None)
    elif (running.digest, good.digest) == (new, old):
        assert stands is not None
        assert (stands.digest, stands.watched, stands.deaths) == (new, ("x",), 1)
    assert act != "prove" or after.digest == new
