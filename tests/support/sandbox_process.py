# SPDX-License-Identifier: Apache-2.0
"""Start and stop a reference exchange as a process of its own.

::

    with running_sandbox(tmp_path / "centre") as sandbox:
        sandbox.url, sandbox.ca_sha256, sandbox.kid, sandbox.aud
        sandbox.faults({"kind": "busy", "count": 2})
        sandbox.kill()
        sandbox.start()
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

START_S = 20


class _AdminConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(60)
        self.sock.connect(self._path)


class SandboxProcess:
    """One exchange; after :meth:`start` its attributes say where it is.

    Args:
        folder: where it keeps everything.
        args: more options.
        within: a command that runs another one, such as ``ip netns exec NAME``.
        approve_all: machines need neither a code nor a person.
    """

    def __init__(
        self,
        folder: Path,
        *args: str,
        within: tuple[str, ...] = (),
        approve_all: bool = True,
    ) -> None:
        self.folder = folder
        self.args = (*args, *(("--approve-all",) if approve_all else ()))
        self.within = within
        self.url = self.aud = self.ca_sha256 = self.kid = self.admin = ""
        self.tuf_root_sha256 = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, or start again with the same folder and port."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [*self.within, sys.executable, "-m", "sandbox"]
        command += ["--dir", str(self.folder)]
        errors = (self.folder / "stderr.log").open("a")
        with errors:
            self.process = subprocess.Popen(
                [*command, *self.args],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait(START_S)
            self.process.stdout.close()
            raise RuntimeError((self.folder / "stderr.log").read_text())
        body = json.loads(line)
        self.url, self.aud, self.admin = body["url"], body["aud"], body["admin"]
        self.ca_sha256, self.kid = body["ca_sha256"], body["kid"]
        self.tuf_root_sha256 = body.get("tuf_root_sha256", "")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.removeprefix("https://").rpartition(":")
        return host, int(port)

    @property
    def ca(self) -> Path:
        """The authority's certificate in PEM."""
        return self.folder / "keys" / "ca.pem"

    @property
    def database(self) -> Path:
        """The centre's SQLite file."""
        return self.folder / "centre.db"

    def kill(self) -> None:
        """``kill -9``."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: int) -> int:
        process = self.process
        assert process is not None
        assert process.stdout is not None
        process.send_signal(number)
        try:
            code = process.wait(START_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        finally:
            process.stdout.close()
            self.process = None
        return code

    # --- the admin's socket -------------------------------------------------------

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """A request on the admin socket; its JSON answer, or None."""
        connection = _AdminConnection(self.admin)
        with closing(connection):
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text)
            response = connection.getresponse()
            data = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {data[:200]!r}")
        return json.loads(data) if data else None

    def faults(self, *faults: dict[str, Any]) -> None:
        """Replace the fault switches; none switches all off."""
        self.ask("PUT", "/faults", {"faults": list(faults)})

    def publish(self, folder: Path) -> dict[str, int]:
        """Documents of a folder go live, of an exchange with ``--central``."""
        found = self.ask("POST", "/publish", {"folder": str(folder)})["versions"]
        return dict(found)

    def load(self, *, on: bool) -> None:
        """Loading goes on or waits."""
        self.ask("PUT", "/load", {"on": on})

    def tamper(
        self, resource: str, *, alter: int = 0, remove: int = 0, add: int = 0
    ) -> None:
        """Change rows of the centre behind its back."""
        counts = {"alter": alter, "remove": remove, "add": add}
        self.ask("POST", "/tamper", {"resource": resource, **counts})

    def state(self) -> Any:
        """Streams, batches by state, whether something waits to be loaded."""
        return self.ask("GET", "/state")

    def wait_loaded(self, timeout_s: float = 30) -> None:
        """Until nothing waits to be loaded."""
        until = time.monotonic() + timeout_s
        while self.state()["waiting"]:
            assert time.monotonic() < until, "the exchange does not load"
            time.sleep(0.01)

    # --- the centre's rows --------------------------------------------------------

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """What a query of the centre's database gives."""
        uri = f"file:{self.database}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as connection:
            return connection.execute(sql).fetchall()


@contextmanager
def running_sandbox(
    folder: Path, *args: str, approve_all: bool = True
) -> Iterator[SandboxProcess]:
    """An exchange in ``folder``, stopped in the end however the test ends."""
    sandbox = SandboxProcess(folder, *args, approve_all=approve_all)
    sandbox.start()
    try:
        yield sandbox
    finally:
        if sandbox.process is not None:
            sandbox.stop()
