# SPDX-License-Identifier: Apache-2.0
"""Our uplink against a tus server that somebody else wrote (npm @tus/server)."""

import hashlib
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.errors import ExchangeUnreachable
from agent.model.batch import BatchId
from agent.pipeline.uplink.endpoint import Endpoint
from agent.pipeline.uplink.exchange import Exchange
from tests.support import peers

pytestmark = pytest.mark.contract

BATCH = BatchId("11990100000000019F/main", "other.exchange", "307013/000001", 1, 1)
CUTS = 3


@dataclass(frozen=True)
class ForeignServer:
    """A running @tus/server."""

    url: str
    ca: Path
    folder: Path
    process: subprocess.Popen[str]

    def told(self) -> list[dict[str, object]]:
        """End it and take what it printed."""
        self.process.terminate()
        out, _ = self.process.communicate(timeout=10)
        return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed server certificate for 127.0.0.1."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            str(key),
            "-out",
            str(cert),
            "-days",
            "2",
            "-subj",
            "/CN=foreign",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-addext",
            "keyUsage=digitalSignature",
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def server(tmp_path: Path, certificate: tuple[Path, Path]) -> Iterator[ForeignServer]:
    """A server that cuts the first PATCH requests after 100 KB each."""
    folder = tmp_path / "store"
    folder.mkdir()
    cert, key = certificate
    process = peers.start(
        "tus_server.mjs", str(folder), str(cert), str(key), str(CUTS), "100000"
    )
    assert process.stdout is not None
    port = json.loads(process.stdout.readline())["port"]
    yield ForeignServer(f"https://127.0.0.1:{port}", cert, folder, process)
    process.kill()
    process.wait()
    process.stdout.close()


def some_file(path: Path, size: int) -> str:
    """Write random bytes; give their digest."""
    data = random.Random(7).randbytes(size)
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


async def test_an_upload_resumes_after_cuts_and_arrives_whole(
    server: ForeignServer, tmp_path: Path
) -> None:
    """After three cut connections the foreign server holds the same 24 MB."""
    path = tmp_path / "batch"
    digest = some_file(path, 24_000_000)
    endpoint = Endpoint(url=server.url, ca_file=server.ca)
    tries = 0
    async with Exchange(endpoint, now=lambda: datetime.now(UTC)) as exchange:
        while True:
            tries += 1
            assert tries < 20
            try:
                receipt = await exchange.upload(path, 24_000_000, batch=BATCH)
            except ExchangeUnreachable:
                continue
            break
    assert receipt is None
    told = server.told()
    assert [line["cut"] for line in told if "cut" in line] == [1, 2, 3]
    (finished,) = [line for line in told if "finished" in line]
    stored = server.folder / str(finished["finished"])
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest


async def test_a_small_file_travels_whole(
    server: ForeignServer, tmp_path: Path
) -> None:
    """A file of 100 KB arrives at the foreign server in one request."""
    path = tmp_path / "batch"
    digest = some_file(path, 100_000)
    endpoint = Endpoint(url=server.url, ca_file=server.ca)
    async with Exchange(endpoint, now=lambda: datetime.now(UTC)) as exchange:
        assert await exchange.upload(path, 100_000, batch=BATCH) is None
    (finished,) = [line for line in server.told() if "finished" in line]
    stored = server.folder / str(finished["finished"])
    assert hashlib.sha256(stored.read_bytes()).hexdigest() == digest
