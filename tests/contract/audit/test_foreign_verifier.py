# SPDX-License-Identifier: Apache-2.0
"""Go's checksum-database library accepts our log, and refuses it where it was changed.

``golang.org/x/mod/sumdb`` (Debian golang-golang-x-mod-dev) reads our checkpoints as
signed notes, our tiles by its own authenticated reader, and proves every record.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import pytest_asyncio

from agent.crypto.note import vkey
from tests.support.audit_log import (
    LOG_KEY,
    ORIGIN,
    WITNESS,
    WITNESS_KEY,
    WitnessDouble,
    exported,
    site,
)

GO = shutil.which("go")
LIBRARY = Path("/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go")
ROOT = Path(__file__).resolve().parents[3]
pytestmark = [
    pytest.mark.contract,
    pytest.mark.skipif(
        GO is None or not LIBRARY.exists(),
        reason="needs Go (apt install golang-go golang-golang-x-mod-dev)",
    ),
]
SIZE = 1_100


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The foreign verifier, built from its one file."""
    folder = tmp_path_factory.mktemp("go")
    subprocess.run(
        [str(GO), "build", "-o", str(folder / "sumdb"), "main.go"],
        cwd=ROOT / "tests" / "peers" / "sumdb",
        env={
            **os.environ,
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(folder / "cache"),
            "GOFLAGS": "",
        },
        check=True,
        timeout=300,
    )
    return folder / "sumdb"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 1,100 records with cosigned heads, and a proof of one."""
    folder = tmp_path_factory.mktemp("log")
    async with site(folder / "state") as s:
        double = WitnessDouble()
        witness = s.witness(double)
        for head in (1, 255, 256, 257, 777, SIZE):
            more = head - s.log.head().size
            await asyncio.gather(*(s.lookup(head * 10_000 + i) for i in range(more)))
            await witness.round()
        desk = s.desk(double)
        await exported(desk, folder / "out")
        proof = await desk.prove(700)
        (folder / "out" / "700.tlog-proof").write_text(proof["proof"])
        (folder / "out" / "700.leaf").write_text(proof["line"])
    return folder / "out"


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    """A copy to attack."""
    shutil.copytree(original, tmp_path / "log")
    return tmp_path / "log"


def judged(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """What Go says."""
    log = vkey(LOG_KEY.public, name=ORIGIN)
    witness = vkey(WITNESS_KEY.public, name=WITNESS)
    return subprocess.run(
        [program, folder, log, witness, folder / "700.tlog-proof"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_go_accepts_our_log(program: Path, original: Path) -> None:
    """Heads, cosignatures, tiles, 1,100 inclusions, consistency, one proof."""
    done = judged(program, original)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1100 records, 6 heads\n"


def flip(path: Path, at: int) -> None:
    """Change one bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        (lambda f: flip(f / "leaves-00000.jsonl", 100_000), "record "),
        (lambda f: flip(f / "tile/0/001", 40), "invalid transparency proof"),
        (lambda f: flip(f / "tile/1/000.p/4", 40), "inconsistent"),
        (lambda f: flip(f / "700.leaf", 60), "proof: "),
        (lambda f: flip(f / "checkpoints.txt", 34), ""),
        (lambda f: _swap(f / "leaves-00000.jsonl"), "record 300"),
        (lambda f: _cut(f / "leaves-00000.jsonl"), "records: 1099"),
    ],
    ids=["record", "tile", "upper tile", "proof", "head", "reordered", "truncated"],
)
def test_go_refuses_our_log_where_it_was_changed(
    program: Path, folder: Path, attack: Callable[[Path], None], said: str
) -> None:
    """The foreign library finds each attack as ours does."""
    attack(folder)
    done = judged(program, folder)
    assert done.returncode == 1
    assert said in done.stderr


def _swap(path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[300], lines[301] = lines[301], lines[300]
    path.write_text("\n".join(lines) + "\n")


def _cut(path: Path) -> None:
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n")
