# SPDX-License-Identifier: Apache-2.0
"""A private PostgreSQL server in a folder of its own, for tests and benchmarks.

It listens on a Unix socket in its folder and, if asked, on a free loopback port.
As root the programs run as the user ``postgres`` (PostgreSQL refuses root).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SUPERUSER = "postgres"


def find_programs() -> Path | None:
    """The newest folder that holds ``initdb`` and ``postgres``, or None."""
    homes = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"),
        key=lambda home: int(home.parent.name) if home.parent.name.isdigit() else 0,
        reverse=True,
    )
    found = shutil.which("initdb")
    if found:
        homes.append(Path(found).resolve().parent)
    for home in homes:
        if (home / "initdb").exists() and (home / "postgres").exists():
            return home
    return None


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running server.

    Args:
        programs: folder of ``psql`` and the others.
        socket_folder: also the ``host`` of a source's settings.
        port: of the socket, and on 127.0.0.1 if ``tcp``.
        tcp: whether it listens on loopback too.
        pid: of the postmaster.
        data: data folder.
        database: the one that is meant where none is named.
    """

    programs: Path
    socket_folder: Path
    port: int
    tcp: bool
    pid: int
    data: Path
    database: str = SUPERUSER

    def config(
        self,
        user: str = SUPERUSER,
        *,
        database: str | None = None,
        password: str | None = None,
    ) -> dict[str, object]:
        """Settings of a source, as the connector takes them."""
        return {
            "host": str(self.socket_folder),
            "port": self.port,
            "database": database or self.database,
            "user": user,
            "password": password,
        }

    def psql_command(self, database: str | None = None) -> list[str]:
        """``psql`` as superuser, quiet, stopping at the first error."""
        return [
            str(self.programs / "psql"),
            "-h", str(self.socket_folder),
            "-p", str(self.port),
            "-U", SUPERUSER,
            "-d", database or self.database,
            "-X", "-q", "-A", "-t",
            "-v", "ON_ERROR_STOP=1",
        ]  # fmt: skip

    def sql(self, text: str, *, database: str | None = None) -> str:
        """Run statements as superuser; what psql prints, without the last newline.

        Raises:
            RuntimeError: psql failed; its message.
        """
        done = subprocess.run(
            self.psql_command(database),
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PGCLIENTENCODING": "UTF8"},
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return done.stdout.removesuffix("\n")


def _owned(folder: Path) -> list[str]:
    """Give ``folder`` to ``postgres`` if we are root; prefix of its programs."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, SUPERUSER, SUPERUSER)
    return ["setpriv", "--reuid", SUPERUSER, "--regid", SUPERUSER, "--clear-groups"]


def _ctl(prefix: Sequence[str], programs: Path, data: Path, *words: str) -> None:
    done = subprocess.run(
        [*prefix, str(programs / "pg_ctl"), "-D", str(data), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode:
        log = data / "log"
        tail = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise RuntimeError(f"pg_ctl {' '.join(words)}: {done.stdout}\n{tail}")


@contextmanager
def private_server(
    *,
    settings: Mapping[str, str] | None = None,
    tcp: bool = False,
    hba: str = "local all,replication all trust\n"
    "host all all 127.0.0.1/32 scram-sha-256\n",
    locale: str = "C.UTF-8",
    within: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
) -> Iterator[Server]:
    """Start a server that is gone, files and all, when the block ends.

    Args:
        settings: lines of ``postgresql.conf``.
        tcp: listen on 127.0.0.1 too.
        hba: text of ``pg_hba.conf``; by default the socket trusts everybody and
            loopback wants a password.
        locale: of the cluster.
        within: a command that runs another one, such as ``ip netns exec NAME``.
        env: variables of the server's process.

    Raises:
        RuntimeError: PostgreSQL is not installed or did not start.
    """
    programs = find_programs()
    if programs is None:
        raise RuntimeError("initdb and postgres not found")
    base = Path(tempfile.mkdtemp(prefix="pg-"))
    base.chmod(0o755)
    prefix = [*within, *_owned(base)]
    data = base / "data"
    try:
        subprocess.run(
            [*prefix, str(programs / "initdb"), "-D", str(data), "-U", SUPERUSER,
             "-A", "trust", "-E", "UTF8", "--locale", locale, "--no-sync"],
            stdout=subprocess.DEVNULL, check=True, cwd="/",
        )  # fmt: skip
        port = free_port()
        lines = {
            "listen_addresses": "'127.0.0.1'" if tcp else "''",
            "port": str(port),
            "unix_socket_directories": f"'{base}'",
            "fsync": "off",
            **(settings or {}),
        }
        with (data / "postgresql.conf").open("a") as conf:
            conf.writelines(f"{key} = {value}\n" for key, value in lines.items())
        (data / "pg_hba.conf").write_text(hba)
        starter = [*prefix, "env", *(f"{k}={v}" for k, v in (env or {}).items())]
        _ctl(starter, programs, data, "-w", "-l", str(data / "log"), "start")
        try:
            pid = int((data / "postmaster.pid").read_text().splitlines()[0])
            yield Server(programs, base, port, tcp, pid, data)
        finally:
            if (data / "postmaster.pid").exists():
                _ctl(prefix, programs, data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(base, ignore_errors=True)
