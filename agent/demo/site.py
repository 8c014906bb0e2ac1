# SPDX-License-Identifier: Apache-2.0
"""A folder that holds a whole small world: department, agent and exchange.

The exchange and the daemon run as processes of their own, as they do in earnest; here
are only their files and their lives. Rules

1. Whoever starts a process registers its end on the same exit stack; if this process
   dies in whatever way, the kernel ends the children (PR_SET_PDEATHSIG).
2. A folder is used by one demonstration at a time (``demo.lock``), and is emptied only
   if it is known to be ours (``demo.json``).
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent import VERSION
from agent.errors import FepError, InternalFault, UsageFault
from agent.local.client import LocalClient

LONGEST_FOLDER = 85
"""Characters of a folder's path; a Unix socket's path may have 107 bytes."""

START_S = 30.0
"""Longest wait for a process to be ready, seconds."""

STOP_S = 10.0
"""Longest wait for a process to end after SIGTERM, seconds."""

FEP = "from agent.cli.main import main; main()"
"""The command ``fep`` as a program text, for ``python -c``."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Exchange:
    """A running sandbox, as its ``sandbox.json`` says.

    Args:
        url: where it listens.
        aud: exchange id.
        ca_sha256: of its certificate authority.
        kid: of its receipt key.
        admin: socket that takes faults.
    """

    url: str
    aud: str
    ca_sha256: str
    kid: str
    admin: Path


@dataclass(frozen=True)
class Site:
    """Where everything lies in a work folder."""

    folder: Path

    @property
    def source(self) -> Path:
        """The department's business database."""
        return self.folder / "rsj.db"

    @property
    def config(self) -> Path:
        """The agent's settings."""
        return self.folder / "agent.toml"

    @property
    def catalog(self) -> Path:
        """Resource documents."""
        return self.folder / "catalog"

    @property
    def state(self) -> Path:
        """The agent's state, keys and spool."""
        return self.folder / "agent"

    @property
    def run(self) -> Path:
        """The agent's socket."""
        return self.folder / "run"

    @property
    def exchange(self) -> Path:
        """The sandbox's folder."""
        return self.folder / "exchange"

    @property
    def centre(self) -> Path:
        """The centre's tables."""
        return self.exchange / "centre.db"

    def client(self, *, timeout_s: float = 30.0) -> LocalClient:
        """The way to the daemon."""
        return LocalClient(self.run / "fep.sock", timeout_s=timeout_s)


@contextmanager
def claimed(folder: Path, *, rows: int) -> Iterator[tuple[Site, bool]]:
    """A folder for a department of this size, ours alone until the block ends.

    Gives the site and whether what lies there can be used again; if it was made by
    another version or for another size, it is emptied.

    Raises:
        UsageFault: the folder is somebody else's, in use, or its path too long.
    """
    folder = folder.absolute()
    if len(str(folder)) > LONGEST_FOLDER:
        raise UsageFault(
            f"--dir: at most {LONGEST_FOLDER} characters, got {len(str(folder))}"
        )
    marker = folder / "demo.json"
    if folder.exists() and any(folder.iterdir()) and not marker.exists():
        raise UsageFault(f"--dir: {folder} holds files that are not a demonstration's")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = {"rows": rows, "version": VERSION}
    with _locked(folder):
        made = _read(marker)
        reused = made == {**wanted, "complete": True}
        if not reused:
            _empty(folder)
            _write(marker, {**wanted, "complete": False})
        yield Site(folder), reused


def complete(site: Site) -> None:
    """Note that the folder can be used again."""
    marker = site.folder / "demo.json"
    _write(marker, {**_read(marker), "complete": True})


@contextmanager
def sandbox(site: Site) -> Iterator[Exchange]:
    """A running sandbox exchange."""
    ready = site.exchange / "sandbox.json"
    ready.unlink(missing_ok=True)
    command = ["-m", "sandbox", "--dir", str(site.exchange), "--approve-all"]
    with process(command, log=site.folder / "exchange.log") as child:
        wait_until(ready.exists, child, what="the sandbox")
        body = _read(ready)
        yield Exchange(
            url=body["url"],
            aud=body["aud"],
            ca_sha256=body["ca_sha256"],
            kid=body["kid"],
            admin=Path(body["admin"]),
        )


@contextmanager
def daemon(site: Site) -> Iterator[subprocess.Popen[bytes]]:
    """A running agent."""
    command = ["-c", FEP, "run", "--config", str(site.config)]
    site.run.mkdir(exist_ok=True, mode=0o700)
    with process(command, log=site.folder / "agent.log") as child:
        wait_until(lambda: _answers(site), child, what="the agent")
        yield child


@contextmanager
def process(words: Sequence[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program of ours, as :func:`start` takes it, that ends with the block."""
    child = start(words, log=log)
    try:
        yield child
    finally:
        stop(child)


def start(words: Sequence[str], *, log: Path) -> subprocess.Popen[bytes]:
    """Start a program of ours; whoever does so ends it with :func:`stop`.

    Args:
        words: what follows the interpreter.
        log: file to whose end everything goes that it prints.
    """
    libc = ctypes.CDLL(None)
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-P", *words],  # never import from the current folder
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C is for us; we end the children
            preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),
        )


def stop(child: subprocess.Popen[bytes], *, patience_s: float = STOP_S) -> None:
    """End a process that we started, gently first."""
    if child.poll() is not None:
        return
    child.send_signal(signal.SIGCONT)
    child.terminate()
    try:
        child.wait(patience_s)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def wait_until(
    ready: Callable[[], bool], child: subprocess.Popen[bytes], *, what: str
) -> None:
    """Wait for a process to be ready.

    Raises:
        InternalFault: it ended, or was not ready within :data:`START_S`.
    """
    until = time.monotonic() + START_S
    while not ready():
        if child.poll() is not None:
            raise InternalFault(f"{what} ended with {child.returncode}; see its log")
        if time.monotonic() > until:
            raise InternalFault(f"{what} was not ready within {START_S:g} s")
        time.sleep(0.05)


def _answers(site: Site) -> bool:
    try:
        site.client(timeout_s=1.0).get("/v1/version")
    except FepError:
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageFault(f"--dir: another demonstration uses {folder}") from None
        yield
    finally:
        os.close(fd)


def _empty(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name in {"demo.lock", "demo.json"}:
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _read(path: Path) -> dict[str, Any]:
    try:
        body = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}


def _write(path: Path, body: dict[str, Any]) -> None:
    tmp = path.with_suffix(".tmp")
    tmp.write_text(json.dumps(body))
    tmp.replace(path)
