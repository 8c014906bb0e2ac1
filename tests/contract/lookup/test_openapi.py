# SPDX-License-Identifier: Apache-2.0
"""docs/openapi.yaml and the listener agree: a foreign program holds one to the other.

The flow behind the listener is the real one; the source is in memory.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.lookup.intake import Bounds
from agent.wire import strict
from tests.support.door import AUD, Daemon, door_of, listening, opening_of
from tests.support.lookup import World
from tests.support.tls import Authority

pytestmark = pytest.mark.contract

ROOT = Path(__file__).parents[3]
EXAMPLES = 150


def keys(world: World, folder: Path) -> Path:
    """What the foreign program needs to make messages that verify."""
    folder.mkdir()
    (folder / "sign.pem").write_bytes(world.consumer.sign.pem())
    (folder / "to.pem").write_bytes(world.provider.decrypt.pem())
    body = strict.loads(world.asker.request().payload())
    (folder / "request.json").write_text(json.dumps(body))
    return folder


async def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """Every answer is documented: status, media type, shape, headers, methods."""
    ca = Authority(tmp_path)
    node = ca.named("node", "fep:node/x/y", address="127.0.0.1")
    exchange = ca.named("exchange", f"fep:exchange/{AUD}")
    world = World(tmp_path, bounds=Bounds(peer_per_s=100_000))
    world.clock.at = datetime.now(UTC)
    world.clock.now = lambda: datetime.now(UTC)  # type: ignore[method-assign]
    async with world.serving() as flow:
        daemon = Daemon(flow.decided, flow.refused)
        opening = opening_of(ca.cert, node)
        async with listening(door_of(opening, daemon), daemon) as port:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "schemathesis.cli", "run"),
                str(ROOT / "docs" / "openapi.yaml"),
                *("--url", f"https://127.0.0.1:{port}"),
                *("--tls-verify", str(ca.cert)),
                *("--request-cert", str(exchange.cert)),
                *("--request-cert-key", str(exchange.key)),
                *("--phases", "coverage,fuzzing", "--checks", "all"),
                # no text is right by its form alone: it has to be signed and sealed
                *("--exclude-checks", "positive_data_acceptance"),
                *("--max-examples", str(EXAMPLES), "--seed", "20261121"),
                *("--generation-database", "none", "--warnings", "off"),
                cwd=tmp_path,  # it leaves a folder behind
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "SCHEMATHESIS_HOOKS": "tests.support.jose_hooks",
                    "FEP_TEST_KEYS": str(keys(world, tmp_path / "keys")),
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            out, _ = await child.communicate()
        counts = flow.counts()
    assert child.returncode == 0, out.decode()
    assert counts.refused > EXAMPLES // 4, "none broke the form"
    assert counts.denied + counts.answered > 0, "none got past the signature"
