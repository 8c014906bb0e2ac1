# SPDX-License-Identifier: Apache-2.0
"""Parts of the daemon's life; the whole of it is proven by the e2e ring."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

from agent.audit.events import Event, ExchangeTrouble
from agent.control.directory import TrustedDirectory
from agent.crypto.jose import PrivateKey
from agent.daemon.life import Stop, locked
from agent.daemon.loops import DIRECTORY_MIN_S, DIRECTORY_S, keep_directory
from agent.daemon.work import load
from agent.errors import (
    AlreadyRunning,
    CatalogInvalid,
    ConfigInvalid,
    ExchangeUnreachable,
    SpoolWriteFailed,
)
from agent.pipeline.uplink.exchange import Exchange
from tests.support.settings_text import write

ROOT = Path(__file__).parents[3]


def test_the_daemon_loads_neither_arrow_nor_a_driver() -> None:
    """They live in workers, and so does numpy; the daemon stays small."""
    program = (
        "import sys, agent.daemon.life;"
        "print(*sorted(set(sys.modules) &"
        " {'pyarrow', 'numpy', 'psycopg', 'sandbox', 'typer'}));"
        "import numpy"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


async def test_a_second_signal_hurries() -> None:
    """The first is noted as asked, the second as hurried."""
    stop = Stop()
    stop.note("SIGTERM")
    assert (stop.asked.is_set(), stop.hurried.is_set()) == (True, False)
    stop.note("SIGINT")
    assert stop.hurried.is_set()


def test_one_daemon_a_folder(tmp_path: Path) -> None:
    """While one holds the folder another is refused; afterwards it may."""
    folder = tmp_path / "state"
    with locked(folder), pytest.raises(AlreadyRunning), locked(folder):
        pass
    with locked(tmp_path / "state"):
        pass


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file in its place: SpoolWriteFailed with the path, exit 74."""
    (tmp_path / "state").write_text("")
    with pytest.raises(SpoolWriteFailed, match="state"), locked(tmp_path / "state"):
        pass


def test_an_unknown_connector_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    """It is named with its key before anything starts."""
    (tmp_path / "catalog").mkdir()
    config = write(tmp_path, '\n[sources.x]\nconnector = "sqlight"\n')
    with pytest.raises(ConfigInvalid) as e:
        load(config)
    assert [f.key for f in e.value.faults] == ["sources.x.connector"]


def test_a_missing_catalog_is_a_fault(tmp_path: Path) -> None:
    """The folder is named."""
    with pytest.raises(CatalogInvalid, match="catalog"):
        load(write(tmp_path))


def test_a_revocation_is_heard_within_a_minute_though_nobody_nudges() -> None:
    """The longest pause between two fetches; nudges and heartbeats only shorten it."""
    assert DIRECTORY_S + DIRECTORY_MIN_S <= 60


async def test_a_directory_that_is_refused_is_told(tmp_path: Path) -> None:
    """Somebody may have made it; the one in use stays."""
    kid = PrivateKey.generate("receipt").public.kid
    directory = TrustedDirectory(tmp_path / "directory.jws", aud="x", kid=kid)
    told: asyncio.Queue[Event] = asyncio.Queue()
    directory.wanted.set()

    class Liar:
        async def directory(self) -> str:
            return "a.b.c"

    keeping = asyncio.create_task(
        keep_directory(directory, cast("Exchange", Liar()), told.put_nowait)
    )
    event = await asyncio.wait_for(told.get(), 60)
    keeping.cancel()
    await asyncio.wait({keeping})
    assert isinstance(event, ExchangeTrouble)
    assert (event.resource, event.code) == (None, "malformed")


async def test_directory_is_fetched_within_a_minute_and_not_by_all_at_once(
    tmp_path: Path,
) -> None:
    """Nodes that once fetched together, as after a nudge, part again."""
    directory = TrustedDirectory(tmp_path / "directory.jws", aud="x", kid="k")
    fetched: asyncio.Queue[None] = asyncio.Queue()
    bounds: list[tuple[float, float]] = []

    class Away:
        async def directory(self) -> str:
            fetched.put_nowait(None)
            raise ExchangeUnreachable("away")

    def soon(low: float, high: float) -> float:
        bounds.append((low, high))
        return 0.0

    async def at_once(_: float) -> None:
        await asyncio.sleep(0)

    keeping = asyncio.create_task(
        keep_directory(
            directory,
            cast("Exchange", Away()),
            lambda _: None,
            sleep=at_once,
            uniform=soon,
        )
    )
    for _ in range(3):
        await asyncio.wait_for(fetched.get(), 60)
    keeping.cancel()
    await asyncio.wait({keeping})
    low, high = bounds[0]
    assert DIRECTORY_S * high + DIRECTORY_MIN_S < 60
    assert low <= 0.8


# --- the unit file ---------------------------------------------------------------


def test_the_unit_file_is_hardened() -> None:
    """systemd rates its exposure at most 1.5."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        [tool, "security", "--offline=true", str(ROOT / "agent.service")],
        capture_output=True,
        text=True,
        check=False,
    )
    score = re.search(r"exposure level for agent\.service: ([0-9.]+)", done.stdout)
    if score is None:
        pytest.skip("systemd-analyze cannot judge offline")
    assert float(score[1]) <= 1.5


def test_the_unit_file_keeps_its_promises() -> None:
    """READY is waited for, 78 is not restarted, callers keep their real uid."""
    text = (ROOT / "agent.service").read_text("utf-8")
    lines = {x for x in text.splitlines() if x and not x.startswith("#")}
    assert {"Type=notify", "RestartPreventExitStatus=78", "WatchdogSec=60"} <= lines
    assert {"CPUWeight=50", "IOWeight=50"} <= lines
    assert not any(x.startswith(("PrivateUsers", "CPUQuota")) for x in lines)
