# SPDX-License-Identifier: Apache-2.0
"""Connections to MariaDB and MySQL, their settings, and errors as ours.

The server's messages may hold values and stay behind; its error numbers do not.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pymysql
from pymysql.connections import Connection

from connectors.contract import Kind, Limits, SourceError

CONNECT_S = 10
"""How long a connection may take, seconds."""

SLACK_S = 30
"""How much longer than a statement may run we wait for its next bytes, seconds."""

KINDS: Mapping[int, Kind] = {
    1040: "unreachable",
    1203: "unreachable",
    1226: "unreachable",
    1053: "unreachable",
    2003: "unreachable",
    2006: "unreachable",
    2013: "unreachable",
    1044: "right",
    1142: "right",
    1143: "right",
    1227: "right",
    1370: "right",
    1045: "login",
    1049: "login",
    1130: "login",
    1698: "login",
    1820: "login",
    1862: "login",
    3118: "login",
    4151: "login",
    1054: "missing",
    1146: "missing",
    1205: "timeout",
    1317: "timeout",
    1969: "timeout",
    3024: "timeout",
}
"""Error number of the server or the driver -> kind; all others are ``failed``."""

MODES = "NO_BACKSLASH_ESCAPES"
"""Our sql_mode: literals as in the standard; values that a strict one would refuse to
compare, such as zero dates, are compared."""


class ServerError(SourceError):
    """The server or the driver refused; ``code`` is its number."""

    def __init__(self, code: int, where: str = "") -> None:
        self.code = code
        said = f"error {code} of the server"
        super().__init__(
            KINDS.get(code, "failed"), f"{where}: {said}" if where else said
        )


def where(config: Mapping[str, Any]) -> str:
    """The source for people, without the password."""
    return (
        f"{config['user']}@{config['host']}:{config.get('port') or 3306}"
        f"/{config['database']}"
    )


@contextmanager
def our_errors(at: str = "") -> Iterator[None]:
    """Translate errors of the driver.

    Raises:
        SourceError: instead of any of them.
    """
    try:
        yield
    except pymysql.err.Error as e:
        raise translated(e, at) from None
    except (OSError, RuntimeError, ValueError) as e:
        said = f"the connection failed ({type(e).__name__})"
        raise SourceError("unreachable", f"{at}: {said}" if at else said) from None


def translated(error: pymysql.err.Error, at: str = "") -> SourceError:
    """A driver's error as ours; only its number is told."""
    code = error.args[0] if error.args else None
    if type(code) is not int:
        return SourceError("failed", f"{type(error).__name__} of the driver")
    return ServerError(code, at)


def connected(
    config: Mapping[str, Any],
    limits: Limits,
    kind: type[Connection[Any]] = Connection,
) -> Connection[Any]:
    """A connection that is set up; not in a transaction.

    Raises:
        SourceError: no connection.
    """
    host, port = str(config["host"]), int(config.get("port") or 3306)
    with our_errors(where(config)):
        db = kind(
            host=host,
            port=port,
            unix_socket=host if host.startswith("/") else None,
            defer_connect=True,
            user=config["user"],
            password=config.get("password") or "",
            database=config["database"],
            charset="utf8mb4",
            conv={},
            autocommit=True,
            connect_timeout=CONNECT_S,
            read_timeout=limits.statement_timeout_s + SLACK_S,
            write_timeout=CONNECT_S,
            program_name="fep",
            **_tls(config),
        )
        db.connect(_socket(host, port))
    try:
        with our_errors():
            _set_up(db, limits)
    except SourceError:
        db.close()
        raise
    return db


def _socket(host: str, port: int) -> socket.socket:
    """A connected socket; the driver would leave its own open when it is refused."""
    if not host.startswith("/"):
        found = socket.create_connection((host, port), CONNECT_S)
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return found
    found = socket.socket(socket.AF_UNIX)
    try:
        found.settimeout(CONNECT_S)
        found.connect(host)
    except OSError:
        found.close()
        raise
    return found


def _tls(config: Mapping[str, Any]) -> dict[str, Any]:
    mode = config.get("sslmode") or "prefer"
    if mode == "disable":
        return {"ssl_disabled": True}
    if mode == "prefer":
        return {}
    context = ssl.create_default_context(cafile=config.get("sslrootcert"))
    context.check_hostname = mode == "verify-full"
    if mode == "require":
        context.verify_mode = ssl.CERT_NONE
    return {"ssl": context}


def _set_up(db: Connection[Any], limits: Limits) -> None:
    seconds = limits.statement_timeout_s
    ((product,),) = rows(db, "select version()")
    timeout = (
        f"max_statement_time = {seconds}"
        if "MariaDB" in str(product)
        else f"max_execution_time = {seconds * 1000}"
    )
    rows(
        db,
        f"set session sql_mode = '{MODES}', time_zone = '+00:00', {timeout},"
        f" lock_wait_timeout = {limits.lock_timeout_s},"
        f" innodb_lock_wait_timeout = {limits.lock_timeout_s},"
        f" net_write_timeout = {max(seconds, 60)}, max_sort_length = 65536",
    )


def rows(db: Connection[Any], sql: str) -> list[tuple[str | None, ...]]:
    """All rows of a statement about the catalogue, as texts.

    Raises:
        pymysql.err.Error: the server refused.
    """
    with db.cursor() as cursor:
        cursor.execute(sql)
        return [tuple(map(_text, row)) for row in cursor.fetchall()]


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return None if value is None else str(value)


@contextmanager
def connection(config: Mapping[str, Any], limits: Limits) -> Iterator[Connection[Any]]:
    """A short connection for everything but rows.

    Raises:
        SourceError: no connection; also from the block, instead of a driver's error.
    """
    db = connected(config, limits)
    try:
        with our_errors():
            yield db
    finally:
        db.close()
