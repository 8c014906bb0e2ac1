# SPDX-License-Identifier: Apache-2.0
"""A private MariaDB server in a folder of its own, for tests and benchmarks.

It listens on a Unix socket in its folder and on a free loopback port. As root it runs
as the user ``mysql``.

``FEP_MYSQLD=PROGRAM`` lets the same tests meet a server of MySQL: PROGRAM is its
``mysqld``, or a script that starts one where the same paths mean the same files. Debian
has none, so no ring does that by itself.
"""

from __future__ import annotations

import os
import re
import shutil
import socket as sockets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql

from tests.support.postgres import free_port

ACCOUNT = "mysql"
START_S = 60

OTHER = os.environ.get("FEP_MYSQLD")
_AGAIN = re.compile(r"create or replace (user|table) (\w+) (.*)", re.DOTALL)
"""What only MariaDB does in one statement."""

MARIADB_ALONE = frozenset({"uuid", "inet6"})
"""Types that MySQL does not have."""

OF_MYSQL = {"user": "root", "mysqlx": "OFF", "secure-file-priv": "NULL"}
"""Options that only MySQL has, or needs where it runs as root."""


@dataclass(frozen=True)
class Mariadb:
    """A running server.

    Args:
        socket: its Unix socket; the superuser ``root`` needs no password there.
        port: on 127.0.0.1.
        data: data folder.
        command: starts it again.
    """

    socket: Path
    port: int
    data: Path
    command: tuple[str, ...]

    @property
    def pid(self) -> int:
        """Of the server's process."""
        return int((self.data.parent / "pid").read_text())

    def config(
        self, user: str = "root", *, database: str = "town", password: str | None = None
    ) -> dict[str, object]:
        """Settings of a source, as the connector takes them."""
        found: dict[str, object] = {
            "host": "127.0.0.1" if password is not None else str(self.socket),
            "port": self.port,
            "database": database,
            "user": user,
        }
        return found if password is None else {**found, "password": password}

    def connect(self, database: str | None = "town") -> pymysql.Connection[Any]:
        """As superuser."""
        return pymysql.connect(
            unix_socket=str(self.socket),
            user="root",
            database=database,
            charset="utf8mb4",
        )

    def sql(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements as superuser, each committed; rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as db, db.cursor() as cursor:
            db.autocommit(True)
            for statement in statements:
                if OTHER and (again := _AGAIN.match(statement)):
                    cursor.execute(f"drop {again[1]} if exists {again[2]}")
                    statement = f"create {again[1]} {again[2]} {again[3]}"
                cursor.execute(statement)
                rows = list(cursor.fetchall())
        return rows


def _installer(data: Path) -> list[str]:
    """The words that make a data folder whose superuser has no password."""
    if OTHER:
        words = [OTHER, "--no-defaults", "--user=root", "--initialize-insecure"]
        return [*words, f"--datadir={data}"]
    words = ["mariadb-install-db", "--no-defaults", f"--datadir={data}"]
    return [*words, "--skip-test-db", "--auth-root-authentication-method=normal"]


def _prefix(folder: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, ACCOUNT, ACCOUNT)
    return ["setpriv", "--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"]


def start(command: tuple[str, ...], socket: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the server and wait until it answers.

    Raises:
        RuntimeError: it did not; the end of its log.
    """
    with log.open("ab") as out:
        server = subprocess.Popen(command, stdout=out, stderr=out, cwd="/")
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        with sockets.socket(sockets.AF_UNIX) as probe:
            if probe.connect_ex(str(socket)) == 0:
                return server
        time.sleep(0.05)
    server.kill()
    raise RuntimeError(f"mariadbd did not start: {log.read_text()[-2000:]}")


@contextmanager
def private_mariadb(
    settings: Mapping[str, str] | None = None, *, env: Mapping[str, str] | None = None
) -> Iterator[Mariadb]:
    """Start a server that is gone, files and all, when the block ends.

    Args:
        settings: options of the server, without ``--``.
        env: variables of the server's process.

    Raises:
        RuntimeError: MariaDB is not installed or did not start.
    """
    program = OTHER or shutil.which("mariadbd") or shutil.which("/usr/sbin/mariadbd")
    if program is None:
        raise RuntimeError("mariadbd not found")
    base = Path(tempfile.mkdtemp(prefix="my-"))
    base.chmod(0o755)
    prefix = [] if OTHER else _prefix(base)
    data, socket, log = base / "data", base / "s", base / "log"
    try:
        subprocess.run(
            [*prefix, *_installer(data)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True, cwd="/",
        )  # fmt: skip
        port = free_port()
        lines = {
            "bind-address": "127.0.0.1",
            "port": str(port),
            "socket": str(socket),
            "pid-file": str(base / "pid"),
            "innodb-flush-log-at-trx-commit": "0",
            "innodb-buffer-pool-size": "64M",
            "character-set-server": "utf8mb4",
            "collation-server": "utf8mb4_general_ci",
            **(OF_MYSQL if OTHER else {}),
            **(settings or {}),
        }
        options = (f"--{key}={value}" for key, value in lines.items())
        starter = (*prefix, "env", *(f"{k}={v}" for k, v in (env or {}).items()))
        command = (*starter, program, "--no-defaults", f"--datadir={data}", *options)
        server = start(command, socket, log)
        try:
            found = Mariadb(socket, port, data, command)
            with found.connect(None) as db, db.cursor() as cursor:
                cursor.execute("create database town")
            yield found
        finally:
            server.terminate()
            server.wait(30)
    finally:
        shutil.rmtree(base, ignore_errors=True)
