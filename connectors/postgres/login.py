# SPDX-License-Identifier: Apache-2.0
"""Connections for everything but rows, their settings, and errors as ours.

psycopg gives the SQLSTATE of an error whatever the language of the server's messages;
the messages themselves may hold values and stay behind. For a refused login libpq gives
no SQLSTATE, so the reason is guessed from what no translation touches: names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from connectors.contract import Kind, Limits, SourceError

CONNECT_S = 10
"""How long a connection may take, seconds."""

PEER_CHECK_S = 5
"""How often the server looks whether its client still lives, seconds."""

_STATES: tuple[tuple[str, Kind], ...] = (
    ("08", "unreachable"),
    ("53300", "unreachable"),
    ("57P0", "unreachable"),
    ("28", "login"),
    ("3D000", "login"),
    ("42501", "right"),
    ("42P01", "missing"),
    ("42703", "missing"),
    ("3F000", "missing"),
    ("57014", "timeout"),
    ("55P03", "timeout"),
    ("25P03", "timeout"),
    ("25P04", "timeout"),
    ("22021", "text"),
    ("22P05", "text"),
)
"""Beginning of a SQLSTATE -> kind; all others are ``failed``."""

_OVER = (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK)

Why = Literal["address", "tls", "busy", "hba", "database", "connect-right", "password"]

_REFUSALS: Mapping[Why, tuple[Kind, str]] = {
    "address": ("unreachable", "no answer from the server"),
    "tls": ("unreachable", "TLS failed; expected what sslmode and sslrootcert say"),
    "busy": ("unreachable", "the server takes no more connections now"),
    "hba": ("login", "pg_hba.conf does not let this account in from here"),
    "database": ("login", "the database does not exist"),
    "connect-right": ("right", "the account may not connect to the database"),
    "password": ("login", "user or password is wrong"),
}


class Refused(SourceError):
    """No connection; ``why`` says it more exactly than the kind."""

    def __init__(self, why: Why, where: str) -> None:
        self.why = why
        kind, sentence = _REFUSALS[why]
        super().__init__(kind, f"{where}: {sentence}")


def conninfo(config: Mapping[str, Any], *, connect_s: int = CONNECT_S) -> str:
    """The connection string of a source, for libpq; it holds the password."""
    given = {
        "host": config["host"],
        "port": config.get("port"),
        "dbname": config["database"],
        "user": config["user"],
        "password": config.get("password"),
        "sslmode": config.get("sslmode"),
        "sslrootcert": config.get("sslrootcert"),
        "connect_timeout": connect_s,
        "client_encoding": "UTF8",
        "application_name": "fep",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
    }
    return make_conninfo(**{k: v for k, v in given.items() if v is not None})


def where(config: Mapping[str, Any]) -> str:
    """The source for people, without the password."""
    return (
        f"{config['user']}@{config['host']}:{config.get('port') or 5432}"
        f"/{config['database']}"
    )


def settings(limits: Limits, version: int, *, lasting: bool = False) -> str:
    """A SELECT that sets the session up for this transaction, or for its whole life.

    As functions, because a connection pooler refuses start-up options, and a read-only
    reader can still call functions.

    Args:
        limits: of the session.
        version: of the server, such as 150020.
        lasting: for all transactions to come, which only read then.
    """
    wanted = {
        "search_path": "pg_catalog",
        "TimeZone": limits.timezone,
        "statement_timeout": f"{limits.statement_timeout_s}s",
        "lock_timeout": f"{limits.lock_timeout_s}s",
        "idle_in_transaction_session_timeout": "0",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "extra_float_digits": "3",
        "bytea_output": "hex",
        "standard_conforming_strings": "on",
    }
    if version >= 110000:
        wanted["jit"] = "off"
    if lasting:
        wanted["default_transaction_read_only"] = "on"
        if version >= 120000:  # planning for each call would cost more than the call
            wanted["plan_cache_mode"] = "force_generic_plan"
    local = "false" if lasting else "true"
    calls = (
        f"pg_catalog.set_config('{name}', '{value}', {local}) as s{i}"
        for i, (name, value) in enumerate(wanted.items())
    )
    select = "select " + ", ".join(calls)
    if version >= 140000:  # a killed agent's query ends; other systems refuse this
        select += (
            ", case when version() like '%linux%' then pg_catalog.set_config("
            f"'client_connection_check_interval', '{PEER_CHECK_S}s', {local}) end as sc"
        )
    return select


@contextmanager
def our_errors() -> Iterator[None]:
    """Translate errors of the driver.

    Raises:
        SourceError: instead of any psycopg.Error.
    """
    try:
        yield
    except psycopg.Error as e:
        raise _ours(e) from None
    except UnicodeDecodeError:
        raise SourceError("text", "a name or comment is not UTF-8") from None


def _ours(error: psycopg.Error) -> SourceError:
    return state_error(error.sqlstate)


def checked(result: pq.abc.PGresult, *good: pq.ExecStatus) -> pq.abc.PGresult:
    """A result, if it is none of an error.

    Args:
        result: of libpq.
        good: statuses that are meant; those of a statement that is over without.

    Raises:
        SourceError: by its SQLSTATE.
    """
    if result.status in (good or _OVER):
        return result
    state = result.error_field(pq.DiagnosticField.SQLSTATE)
    raise state_error(state.decode() if state else None) from None


def state_error(state: str | None) -> SourceError:
    """An error by its SQLSTATE, which is None if the connection broke."""
    if state is None:
        return SourceError("unreachable", "the connection broke")
    kinds = [kind for start, kind in _STATES if state.startswith(start)]
    kind: Kind = kinds[0] if kinds else "failed"
    try:
        name = psycopg.errors.lookup(state).__name__
    except KeyError:
        name = "unknown to psycopg"
    return SourceError(kind, f"SQLSTATE {state} ({name})")


def connected(
    config: Mapping[str, Any], *, connect_s: int = CONNECT_S
) -> psycopg.Connection[Any]:
    """A connection outside of any transaction.

    Raises:
        Refused: no connection.
    """
    try:
        return psycopg.connect(conninfo(config, connect_s=connect_s), autocommit=True)
    except psycopg.Error as e:
        raise Refused(_why(config, str(e), connect_s), where(config)) from None


@contextmanager
def connection(
    config: Mapping[str, Any], limits: Limits
) -> Iterator[psycopg.Connection[Any]]:
    """A connection inside a read-only REPEATABLE READ transaction.

    Raises:
        Refused: no connection.
        SourceError: also from the block, instead of any psycopg.Error.
    """
    db = connected(config)
    try:
        with our_errors():
            db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            db.execute(settings(limits, db.info.server_version).encode())
            yield db
    finally:
        db.close()


def _why(config: Mapping[str, Any], message: str, connect_s: int) -> Why:
    """The reason of a refused connection, most specific first."""
    low, database = message.lower(), f'"{config["database"]}"'
    if "pg_hba.conf" in low:
        return "hba"
    if any(words in low for words in ("too many", "connection slots")):
        return "busy"
    if pq.PGconn.ping(conninfo(config, connect_s=connect_s).encode()) != pq.Ping.OK:
        return "tls" if "certificate" in low or "ssl" in low else "address"
    if database in message and ("permission" in low or "权限" in low):
        return "connect-right"
    if database in message and config["user"] != config["database"]:
        return "database"
    return "password"
