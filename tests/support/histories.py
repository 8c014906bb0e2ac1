# SPDX-License-Identifier: Apache-2.0
"""Private servers that are put back, promoted and restarted, and clocks that jump."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from tests.support import mariadb
from tests.support.mariadb import Mariadb
from tests.support.postgres import SUPERUSER, Server

_FAKETIME = "*/faketime/libfaketimeMT.so.1"


class Clock:
    """A clock of its own for a process and its children, set while they run.

    Args:
        file: a path that the process can read; who runs as another user, too.

    Attributes:
        env: variables to start the process with.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self.set("+0")
        file.chmod(0o644)
        library = next(Path("/usr/lib").glob(_FAKETIME), None)
        if library is None:
            raise RuntimeError("libfaketime not found")
        self.env = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, offset: str) -> None:
        """Set it to so far from the true one, such as ``+1d`` or ``-90m``."""
        new = self._file.with_suffix(".new")
        new.write_text(offset + "\n")
        new.chmod(0o644)
        new.rename(self._file)


def _copied(folder: Path, to: Path) -> Path:
    subprocess.run(["cp", "-a", str(folder), str(to)], check=True)
    return to


class PostgresHistory:
    """A PostgreSQL server whose data folder is a test's to copy and to change."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = server.data

    def run(self, program: str, *words: str) -> None:
        """A program of the server on the data folder."""
        done = subprocess.run(
            ["setpriv", "--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups",
             str(self.server.programs / program), "-D", str(self.data), *words],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/",
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        """Start it."""
        self.run("pg_ctl", "-w", "-l", str(self.data / "log"), "start")

    def stop(self) -> None:
        """Stop it."""
        self.run("pg_ctl", "-w", "-m", "fast", "stop")

    def keep(self, name: str) -> Path:
        """A copy of the data folder of a stopped server."""
        return _copied(self.data, self.data.parent / name)

    def put_back(self, copy: Path) -> None:
        """A stopped server's data folder as it was."""
        shutil.rmtree(self.data)
        _copied(copy, self.data)

    def kept_now(self, name: str) -> Path:
        """A copy of the data folder of a running server, which is stopped for it."""
        self.stop()
        copy = self.keep(name)
        self.start()
        return copy

    def back_to(self, copy: Path) -> None:
        """A running server as it was when the copy was made."""
        self.stop()
        self.put_back(copy)
        self.start()

    def fail_over(self, replica: Path) -> None:
        """The server is lost; a replica that had come as far as the copy takes over."""
        self.stand_by(replica)
        self.run("pg_ctl", "-w", "promote")

    def stand_by(self, replica: Path) -> None:
        """In the server's place, a replica that has come as far as the copy."""
        self.stop()
        self.put_back(replica)
        (self.data / "standby.signal").touch()
        self.start()

    def near_wraparound(self) -> None:
        """A running server gives out its last ids of 32 bits."""
        for database in ("template1", "postgres"):
            self.server.sql("vacuum freeze", database=database)
        self.stop()
        (self.data / "pg_xact" / "0FFF").write_bytes(bytes(256 * 1024))
        shutil.chown(self.data / "pg_xact" / "0FFF", SUPERUSER, SUPERUSER)
        self.run("pg_resetwal", "-x", str(2**32 - 40), "-u", str(2**32 - 60))
        self.start()


class MariaHistory:
    """The same of a MariaDB server."""

    def __init__(self, server: Mariadb) -> None:
        self.server = server
        self._own: subprocess.Popen[bytes] | None = None

    def stop(self) -> None:
        """Stop it."""
        pid = int((self.server.data.parent / "pid").read_text())
        self.server.sql("shutdown")
        if self._own is not None:
            self._own.wait(30)
            self._own = None
        end = time.monotonic() + 30
        while _runs(pid):
            assert time.monotonic() < end, "mariadbd does not stop"
            time.sleep(0.05)

    def start(self) -> None:
        """Start it."""
        server = self.server
        self._own = mariadb.start(
            server.command, server.socket, server.data.parent / "log"
        )

    def kept_now(self, name: str) -> Path:
        """A copy of the data folder of a running server, which is stopped for it."""
        self.stop()
        copy = _copied(self.server.data, self.server.data.parent / name)
        self.start()
        return copy

    def back_to(self, copy: Path) -> None:
        """A running server as it was when the copy was made."""
        self.stop()
        shutil.rmtree(self.server.data)
        _copied(copy, self.server.data)
        self.start()

    def close(self) -> None:
        """End a server that was started here."""
        if self._own is not None:
            self._own.terminate()
            self._own.wait(30)
            self._own = None


def _runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
