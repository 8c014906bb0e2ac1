# SPDX-License-Identifier: Apache-2.0
"""``fep source check``: what stands in the way, and the statement that removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from connectors import findings
from connectors.contract import (
    Finding,
    Limits,
    SourceError,
    StreamSpec,
)
from connectors.postgres import check_increments, health
from connectors.postgres.catalog import Column, Table, look_up, name_of
from connectors.postgres.columns import Reading, query_of, reading_of
from connectors.postgres.login import Refused, Why, connection, our_errors
from connectors.sql import FAMILIES, quoted


def check(config: Mapping[str, Any], streams: Sequence[StreamSpec]) -> list[Finding]:
    """Findings about the account and each stream; see the contract."""
    try:
        with connection(config, Limits(statement_timeout_s=60)) as db:
            version = db.info.parameter_status("server_version")
            found = [findings.connected(f"PostgreSQL {version}")]
            found += findings.reader() + _account(db) + health.hidden(config)
            for stream in streams:
                found += _stream(db, config, stream)
            return found
    except Refused as e:
        return [findings.from_error(e, _remedy(e.why, config))]
    except SourceError as e:
        return [findings.from_error(e)]


def _remedy(why: Why, config: Mapping[str, Any]) -> str:
    """What to run or set so that the account gets in."""
    user, database = quoted(str(config["user"])), quoted(str(config["database"]))
    host = f"{config['host']}:{config.get('port') or 5432}"
    remedies: Mapping[Why, str] = {
        "address": f"Check host, port, firewall and listen_addresses of {host}"
        " / 请检查地址、端口、防火墙与 listen_addresses",
        "tls": "Set sslrootcert to the file of the server's CA, or correct sslmode"
        " / 请将 sslrootcert 设为服务器 CA 证书文件，或更正 sslmode",
        "busy": f"ALTER ROLE {user} CONNECTION LIMIT 5; -- or raise max_connections",
        "hba": f"pg_hba.conf: host {database} {user} <agent's address>/32"
        " scram-sha-256 -- then SELECT pg_reload_conf();",
        "database": f"Correct database, or CREATE DATABASE {database};",
        "connect-right": f"GRANT CONNECT ON DATABASE {database} TO {user};",
        "password": f"ALTER ROLE {user} LOGIN PASSWORD '…'; -- as in the secret file",
    }
    return remedies[why]


def _account(db: psycopg.Connection[Any]) -> list[Finding]:
    with our_errors():
        row = db.execute(
            "select rolsuper from pg_catalog.pg_roles where rolname = current_user"
        ).fetchone()
    if row is None or not row[0]:
        return []
    return [
        Finding(
            "superuser",
            "warning",
            "The account is a superuser; it should only read",
            "该账号为超级用户；应只授予读权限",
            "CREATE ROLE fep LOGIN PASSWORD '…'; -- and use it / 并改用该账号",
        )
    ]


def _stream(
    db: psycopg.Connection[Any], config: Mapping[str, Any], stream: StreamSpec
) -> list[Finding]:
    try:
        with our_errors():
            name = name_of(stream.table, str(config["database"]))
            table = look_up(db, name)
            if table is None:
                return [findings.table_missing(".".join(name), _tables(db))]
    except SourceError as e:
        return [findings.from_error(e)]
    wanted = [c.name for c in stream.columns]
    wanted += [stream.number] if stream.number else []
    absent = [name for name in wanted if name not in table.columns]
    if absent:
        dotted = ".".join(name)
        return [findings.column_missing(dotted, a, table.columns) for a in absent]
    found = _rights(table, stream, str(config["user"]))
    found += _types(table, stream)
    if not found:
        found.append(findings.readable(".".join(name), len(stream.columns)))
        with our_errors():
            user = str(config["user"])
            found += check_increments.check(db, table, stream, user)
    raw = db.info.parameter_status("server_encoding") == "SQL_ASCII"
    return (
        found
        + _paths(table, stream, raw=raw)
        + _advice(table, stream, str(config["user"]))
    )


def _tables(db: psycopg.Connection[Any]) -> list[str]:
    rows = db.execute(
        "select n.nspname || '.' || c.relname from pg_catalog.pg_class c"
        " join pg_catalog.pg_namespace n on n.oid = c.relnamespace"
        " where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname"
        " not in ('pg_catalog', 'information_schema', 'pg_toast')"
    )
    return [str(name) for (name,) in rows]


def _rights(table: Table, stream: StreamSpec, user: str) -> list[Finding]:
    schema, name = table.name
    found = []
    if not table.usable:
        found.append(
            Finding(
                "usage-missing",
                "error",
                f"The account may not use schema {schema}",
                f"该账号无权使用模式 {schema}",
                f"GRANT USAGE ON SCHEMA {quoted(schema)} TO {quoted(user)};",
            )
        )
    closed = [c.name for c in stream.columns if not table.columns[c.name].readable]
    if closed:
        listed = ", ".join(quoted(c) for c in closed)
        at = f"{quoted(schema)}.{quoted(name)}"
        found.append(
            Finding(
                "grant-missing",
                "error",
                f"The account may not select {', '.join(closed)} of {schema}.{name}",
                f"该账号无权读取 {schema}.{name} 的 {', '.join(closed)}",
                f"GRANT SELECT ({listed}) ON {at} TO {quoted(user)};",
            )
        )
    return found


def _types(table: Table, stream: StreamSpec) -> list[Finding]:
    found = []
    for spec in stream.columns:
        column = table.columns[spec.name]
        fits = FAMILIES[column.family]
        if spec.type not in fits:
            found.append(
                findings.type_unfit(
                    ".".join(table.name),
                    spec.name,
                    column.native,
                    bound=spec.type,
                    fits=" ".join(sorted(fits)),
                )
            )
    return found


def _paths(table: Table, stream: StreamSpec, *, raw: bool) -> list[Finding]:
    """How each column is read that fits its item."""
    found = []
    for spec in stream.columns:
        column = table.columns[spec.name]
        if spec.type in FAMILIES[column.family]:
            way = _way(reading_of(spec, column, raw=raw), column)
            found.append(findings.path(spec.name, column.native, spec.type, way))
    return found


def _way(reading: Reading, column: Column) -> findings.Way:
    if reading.target is None:
        return "text" if column.family == "text" else "cast"
    if reading.odd is not None:
        return "paged"
    return "decoded" if reading.raw else "native"


def _advice(table: Table, stream: StreamSpec, user: str) -> list[Finding]:
    """Warnings: reading works, but not as it should."""
    schema, name = table.name
    dotted, at = f"{schema}.{name}", f"{quoted(schema)}.{quoted(name)}"
    found = []
    if table.writable:
        remedy = f"REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON {at} FROM {quoted(user)};"
        found.append(findings.can_write(dotted, remedy))
    if table.filtered:
        found.append(
            Finding(
                "row-security",
                "warning",
                f"Row security hides rows of {dotted} from the account; hidden rows"
                " count as deleted",
                f"行级安全策略对该账号隐藏了 {dotted} 的部分记录；隐藏的记录视为已删除",
                f"ALTER ROLE {quoted(user)} BYPASSRLS; -- unless it is meant so",
            )
        )
    keys = [c.name for c in stream.columns if c.key]
    indexable = table.kind in "rpm" and keys
    if indexable and not _types(table, stream):
        query = query_of(table, stream, server_encoding="UTF8", encoding="utf-8")
        if not query.indexed:
            listed = ", ".join(quoted(k) for k in keys)
            create = f"CREATE INDEX CONCURRENTLY ON {at} ({listed});"
            found.append(findings.key_not_indexed(dotted, ", ".join(keys), create))
    return found
