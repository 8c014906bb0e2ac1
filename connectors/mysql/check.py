# SPDX-License-Identifier: Apache-2.0
"""``fep source check``: what stands in the way, and the statement that removes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymysql.connections import Connection

from connectors import findings
from connectors.contract import Finding, Limits, SourceError, StreamSpec
from connectors.mysql import changes, health, numbers
from connectors.mysql.catalog import Column, Table, bound, look_up, name_of, quoted
from connectors.mysql.columns import FITS, Reading, reading_of
from connectors.mysql.login import ServerError, connection, our_errors, rows
from connectors.sql import literal

_WRITES = ("INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "CREATE")

_RIGHTS = """
select privilege_type from information_schema.user_privileges where grantee = {who}
union select privilege_type from information_schema.schema_privileges
  where table_schema = {schema} and grantee = {who}
union select privilege_type from information_schema.table_privileges
  where table_schema = {schema} and table_name = {table} and grantee = {who}
union select concat(privilege_type, ' (`', replace(column_name, '`', '``'), '`)')
  from information_schema.column_privileges
  where table_schema = {schema} and table_name = {table} and grantee = {who}
"""

_WHO = "concat('''', replace(current_user(), '@', '''@'''), '''')"


def check(config: Mapping[str, Any], streams: Sequence[StreamSpec]) -> list[Finding]:
    """Findings about the account and each stream; see the contract."""
    try:
        with connection(config, Limits(statement_timeout_s=60)) as db:
            version, account = rows(db, "select version(), current_user()")[0]
            found = [findings.connected(f"{version}"), *findings.reader()]
            told = changes.activity(db)
            found += health.hidden(config, _account(account))
            for stream in streams:
                found += _stream(db, config, stream, _account(account), told)
            return found
    except ServerError as e:
        return [findings.from_error(e, _remedy(e.code, config))]
    except SourceError as e:
        lost = e.kind == "unreachable"
        return [findings.from_error(e, _remedy(0, config) if lost else None)]


def _account(account: str | None) -> str:
    """``'user'@'host'`` for a GRANT."""
    user, _, host = (account or "").rpartition("@")
    return f"{literal(user)}@{literal(host)}"


def _remedy(code: int, config: Mapping[str, Any]) -> str:
    """What to run or set so that the account gets in."""
    user, database = literal(str(config["user"])), quoted(str(config["database"]))
    at = f"{config['host']}:{config.get('port') or 3306}"
    match code:
        case 1045 | 1698:
            return f"ALTER USER {user}@'%' IDENTIFIED BY '…'; -- as in the secret file"
        case 1044:
            return f"GRANT SELECT ON {database}.* TO {user}@'%';"
        case 1049:
            return f"Correct database, or CREATE DATABASE {database};"
        case 1130:
            return f"CREATE USER {user}@'<agent address>' IDENTIFIED BY '…';"
        case 1040 | 1203 | 1226:
            return "SET GLOBAL max_connections = …; -- or fewer connections"
        case _:
            return (
                f"Check host, port, firewall and bind_address of {at}"
                " / 请检查地址、端口、防火墙与 bind_address"
            )


def _stream(
    db: Connection[Any],
    config: Mapping[str, Any],
    stream: StreamSpec,
    account: str,
    told: changes.Activity,
) -> list[Finding]:
    try:
        name = name_of(stream.table, str(config["database"]))
        with our_errors():
            table = look_up(db, name)
            if table is None:
                return [_unseen(db, name, stream, account)]
    except SourceError as e:
        return [findings.from_error(e)]
    dotted = ".".join(name)
    wanted = _wanted(stream)
    absent = [c for c in wanted if c not in table.columns]
    if absent:
        if _hidden(db, config, stream):
            return [_grant(table.name, stream, account)]
        return [findings.column_missing(dotted, a, table.columns) for a in absent]
    found = _rights(table, stream, account) + _types(table, stream)
    if not found:
        found.append(findings.readable(dotted, len(stream.columns)))
        found += _increments(db, table, stream, account, told)
    return (
        found
        + _paths(table, stream, config.get("encoding"))
        + _advice(db, table, stream, account)
    )


def _wanted(stream: StreamSpec) -> list[str]:
    """The columns that are read, stamp and number included."""
    names = [*(c.name for c in stream.columns), stream.stamp, stream.number]
    return list(dict.fromkeys(name for name in names if name is not None))


def _unseen(
    db: Connection[Any], name: tuple[str, str], stream: StreamSpec, account: str
) -> Finding:
    """A table that is not in the catalogue: absent, or without any right."""
    try:
        with our_errors():
            rows(db, f"select 1 from {'.'.join(map(quoted, name))} limit 0")  # noqa: S608
    except SourceError as e:
        if e.kind == "right":
            return _grant(name, stream, account)
    known = rows(
        db,
        "select concat(table_schema, '.', table_name) from information_schema.tables",
    )
    return findings.table_missing(".".join(name), [str(k) for (k,) in known])


def _hidden(db: Connection[Any], config: Mapping[str, Any], stream: StreamSpec) -> bool:
    try:
        marks = [mark for mark in (stream.stamp, stream.number) if mark]
        bound(db, stream, str(config["database"]), marks)
    except SourceError as e:
        return e.kind == "right"
    return False


def _grant(name: tuple[str, str], stream: StreamSpec, account: str) -> Finding:
    listed = ", ".join(map(quoted, _wanted(stream)))
    dotted, at = ".".join(name), ".".join(map(quoted, name))
    return Finding(
        "grant-missing",
        "error",
        f"The account may not select all bound columns of {dotted}",
        f"该账号无权读取 {dotted} 的全部绑定字段",
        f"GRANT SELECT ({listed}) ON {at} TO {account};",
    )


def _rights(table: Table, stream: StreamSpec, account: str) -> list[Finding]:
    closed = [c for c in _wanted(stream) if not table.columns[c].readable]
    return [_grant(table.name, stream, account)] if closed else []


def _types(table: Table, stream: StreamSpec) -> list[Finding]:
    found = []
    for spec in stream.columns:
        column = table.columns[spec.name]
        fits = FITS[column.family]
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


def _paths(table: Table, stream: StreamSpec, encoding: str | None) -> list[Finding]:
    """How each column is read that fits its item."""
    found = []
    for spec in stream.columns:
        column = table.columns[spec.name]
        if spec.type in FITS[column.family]:
            way = _way(reading_of(spec, column, encoding), column)
            found.append(findings.path(spec.name, column.native, spec.type, way))
    return found


def _way(reading: Reading, column: Column) -> findings.Way:
    plain = reading.value == f"t.{quoted(column.name)}"
    if reading.target is None:
        return "text" if plain else "cast"
    if column.family == "text":
        return "native" if plain else "decoded"
    return "native" if column.family == "bytes" else "paged"


def _increments(
    db: Connection[Any],
    table: Table,
    stream: StreamSpec,
    account: str,
    told: changes.Activity,
) -> list[Finding]:
    name = ".".join(table.name)
    try:
        stamp = changes.stamp_of(table, stream.stamp)
    except SourceError as e:
        return [findings.from_error(e)]
    promised = changes.increments(table, stamp, told)
    if promised is None and stream.number:
        return _number(db, table, stream.number, account, told)
    if stamp is None or not table.transactional:
        return [
            Finding(
                "no-increments",
                "ok",
                f"{name} has no time that the database sets with every change: each run"
                " reads it in full",
                f"{name} 没有由数据库在每次变更时写入的时间字段：每次运行都会全量读取",
                f"ALTER TABLE {table.quoted} ADD COLUMN `fep_changed` timestamp(6) NOT"
                " NULL DEFAULT current_timestamp(6) ON UPDATE current_timestamp(6), ADD"
                " INDEX (`fep_changed`);",
            )
        ]
    found = [findings.number_unused(name, changes.METHOD)] if stream.number else []
    if not told.told:
        found.append(
            Finding(
                "transactions-hidden",
                "warning",
                "The account does not see open transactions; until it does, increments"
                f" assume that none lasts longer than {changes.BLIND_S} s",
                "该账号看不到未结束的事务；在授权之前，增量读取假定任何事务都不超过"
                f" {changes.BLIND_S} 秒",
                f"GRANT PROCESS ON *.* TO {account};",
            )
        )
    if stamp.name not in table.firsts:
        found.append(
            Finding(
                "stamp-not-indexed",
                "warning",
                f"{name}: no index begins with {stamp.name}: each increment scans it",
                f"{name}：没有以 {stamp.name} 开头的索引，每次增量都要扫描全表",
                f"CREATE INDEX {quoted(f'{stamp.name}_fep')} ON {table.quoted}"
                f" ({quoted(stamp.name)});",
                stamp.name,
            )
        )
    return found


def _number(
    db: Connection[Any],
    table: Table,
    number: str,
    account: str,
    told: changes.Activity,
) -> list[Finding]:
    """Findings about a table whose new rows are known by a growing number."""
    name, found = ".".join(table.name), []
    try:
        numbers.whole(table, number)
    except SourceError as e:
        return [findings.from_error(e)]
    if table.engine is None:
        found.append(findings.number_index(name, number))
    elif not any(unique[0] == number for unique in table.unique):
        index = quoted(f"{number}_fep"[:64])
        create = f"CREATE UNIQUE INDEX {index} ON {table.quoted} ({quoted(number)});"
        found.append(findings.number_index(name, number, create))
    if not told.told:
        grant = f"GRANT PROCESS ON *.* TO {account};"
        found.append(findings.writers_hidden(name, grant))
    elif numbers.written_elsewhere(db, table, told):
        found.append(findings.writers_elsewhere(name))
    return found


def _advice(
    db: Connection[Any], table: Table, stream: StreamSpec, account: str
) -> list[Finding]:
    """Warnings: reading works, but not as it should."""
    name = ".".join(table.name)
    found = []
    if rights := _writable(db, table):
        remedy = f"REVOKE {', '.join(rights)} ON {table.quoted} FROM {account};"
        found.append(findings.can_write(name, remedy))
    keys = [c.name for c in stream.columns if c.key]
    if table.engine and keys and not any(set(u) == set(keys) for u in table.unique):
        listed = ", ".join(map(quoted, keys))
        index = quoted(f"{table.name[1]}_fep_key"[:64])
        create = f"CREATE UNIQUE INDEX {index} ON {table.quoted} ({listed});"
        found.append(findings.key_not_indexed(name, ", ".join(keys), create))
    return found


def _writable(db: Connection[Any], table: Table) -> list[str]:
    """Rights beyond reading, on the table, its database or everywhere."""
    schema, name = map(literal, table.name)
    found = rows(
        db,
        _RIGHTS.format(schema=schema, table=name, who=_WHO),
    )
    held = sorted(str(r) for (r,) in found)
    return [r for w in _WRITES for r in held if r.partition(" ")[0] == w]
