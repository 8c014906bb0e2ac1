# SPDX-License-Identifier: Apache-2.0
"""Findings that more than one connector reports, in both languages."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Literal

from connectors.contract import Finding, SourceError
from connectors.native.loader import library

_KINDS: dict[str, tuple[str, str]] = {
    "unreachable": ("The source cannot be reached", "无法连接数据源"),
    "login": ("The source refused the login", "数据源拒绝登录"),
    "right": ("A right is missing", "缺少权限"),
    "missing": ("Something is missing", "对象不存在"),
    "type": ("A type does not fit", "类型不符"),
    "text": ("Text cannot be decoded", "文本无法解码"),
    "timeout": ("The source took too long", "数据源响应超时"),
    "failed": ("The source failed", "数据源出错"),
}


def from_error(error: SourceError, remedy: str | None = None) -> Finding:
    """A finding that says what a SourceError says; its code is the kind."""
    en, zh = _KINDS[error.kind]
    return Finding(
        error.kind,
        "error",
        f"{en}: {error.detail}",
        f"{zh}：{error.detail}",
        remedy,
    )


def reader(load: Callable[[], object] = library) -> list[Finding]:
    """What keeps every read on this machine from beginning; nothing if it can.

    Args:
        load: gives the readers' library, or raises SourceError.
    """
    try:
        load()
    except SourceError as e:
        return [
            Finding(
                "reader-missing",
                "error",
                e.detail[0].upper() + e.detail[1:],
                f"读取库无法使用：{e.detail}",
                "Install the package for this machine; in a checkout: scripts/native"
                " / 请安装适用于本机架构的软件包；源码目录中请运行 scripts/native",
            )
        ]
    return []


def connected(what: str) -> Finding:
    """The source answers; ``what`` is its product and version."""
    return Finding("connected", "ok", f"Connected: {what}", f"已连接：{what}")


def readable(table: str, columns: int) -> Finding:
    """Nothing stands in the way of reading the table."""
    return Finding(
        "readable",
        "ok",
        f"{table}: all {columns} bound columns can be read",
        f"{table}：绑定的 {columns} 个字段均可读取",
    )


def table_missing(table: str, known: Iterable[str]) -> Finding:
    """There is no such table; names that look like it are offered."""
    near = ", ".join(get_close_matches(table, list(known), n=3))
    return Finding(
        "table-missing",
        "error",
        f"There is no table {table}" + (f"; did you mean {near}?" if near else ""),
        f"表 {table} 不存在" + (f"；是否为 {near}？" if near else ""),
        "Correct binding.table in the resource document / 请更正资源目录中的绑定表名",
    )


def column_missing(table: str, column: str, known: Iterable[str]) -> Finding:
    """There is no such column; names that look like it are offered."""
    near = ", ".join(get_close_matches(column, list(known), n=3))
    return Finding(
        "column-missing",
        "error",
        f"{table} has no column {column}" + (f"; did you mean {near}?" if near else ""),
        f"{table} 没有字段 {column}" + (f"；是否为 {near}？" if near else ""),
        "Correct the column in the resource document / 请更正资源目录中的字段绑定",
        column,
    )


Way = Literal["native", "paged", "decoded", "text", "cast"]
"""How a column comes, in the words of :data:`_WAYS`."""

_WAYS: dict[Way, tuple[str, str, str]] = {
    "native": ("native", "native", "原生"),
    "paged": (
        "native",
        "native; a page with a value that does not fit comes as text",
        "原生；某页含不适合的值时，该页按文本读取",
    ),
    "decoded": ("native", "native; its bytes are decoded here", "原生；由前置机解码"),
    "text": ("text", "text, as it stands", "文本，按原样读取"),
    "cast": ("text", "text, as the server casts it", "文本，由数据库转换为文本"),
}


def path(name: str, native: str, bound: str, way: Way) -> Finding:
    """How a column is read.

    Args:
        name: of the column.
        native: its type, or ``""``.
        bound: type of its item.
        way: how its values come.
    """
    kind, en, zh = _WAYS[way]
    about = f"{name} ({native} → {bound})" if native else f"{name} (→ {bound})"
    return Finding(
        "column-path", "ok", f"{about}: {en}", f"{about}：{zh}", None, name, kind
    )


def type_unfit(table: str, column: str, native: str, bound: str, fits: str) -> Finding:
    """The column's type can never give values of the item's type."""
    return Finding(
        "type-unfit",
        "error",
        f"{table}.{column} is {native}, which fits the types {fits}, not {bound}",
        f"{table}.{column} 的类型为 {native}，适用的目录类型为 {fits}，而非 {bound}",
        f"Set the item's type to one of {fits} / 请将信息项类型改为 {fits} 之一",
        column,
        "refused",
    )


def key_not_indexed(table: str, columns: str, create: str) -> Finding:
    """No index gives the key's order, so every run sorts the table."""
    return Finding(
        "key-not-indexed",
        "warning",
        f"{table}: no index begins with the key ({columns}), so each run sorts it",
        f"{table}：没有以主键 ({columns}) 开头的索引，每次运行都要排序",
        create,
    )


def can_write(table: str, remedy: str) -> Finding:
    """The account may change the table; reading is all that it needs."""
    return Finding(
        "can-write",
        "warning",
        f"The account may write to {table}; it should only read",
        f"该账号可写 {table}；应只授予读权限",
        remedy,
    )


def lookup_no_index(table: str, columns: str, remedy: str) -> Finding:
    """No index finds a key, so every lookup reads the whole table."""
    return Finding(
        "lookup-no-index",
        "warning",
        f"{table}: no index serves lookups by {columns}; each reads the whole table",
        f"{table}：按 {columns} 查询没有可用索引，每次查询都要扫描全表",
        remedy,
    )


def lookup_key_text(table: str, column: str, bound: str) -> Finding:
    """Numbers that stand as texts are found in one form alone."""
    return Finding(
        "lookup-key-text",
        "warning",
        f"{table}.{column} holds texts: a key of type {bound} finds 7, and not 007",
        f"{table}.{column} 为文本：类型 {bound} 的查询键只能查到 7，查不到 007",
        "Bind it as C, or a view with a number / 请按 C 绑定，或绑定含数值列的视图",
        column,
    )


def number_unused(table: str, method: str) -> Finding:
    """The table tells its changes in a better way."""
    return Finding(
        "number-unused",
        "ok",
        f"{table}: increments go by {method}; the number is not needed",
        f"{table}：增量按 {method} 读取，无须编号字段",
    )


def number_index(table: str, number: str, create: str | None = None) -> Finding:
    """Increments look for the highest numbers; without ``create`` nobody knows how."""
    return Finding(
        "number-not-indexed" if create else "number-index",
        "warning" if create else "ok",
        f"{table}: no unique index begins with {number}: each increment scans it"
        if create
        else f"{table}: a unique index on {number} has to be on the table beneath",
        f"{table}：没有以 {number} 开头的唯一索引，每次增量都要扫描全表"
        if create
        else f"{table}：其底层表的 {number} 需有唯一索引",
        create,
        number,
    )


def number_grant(table: str, number: str, grant: str) -> Finding:
    """The number has to be read, too."""
    return Finding(
        "grant-missing",
        "error",
        f"The account may not select {number} of {table}",
        f"该账号无权读取 {table} 的 {number}",
        grant,
        number,
    )


def number_cached(table: str, sequences: str, remedy: str) -> Finding:
    """Numbers that a session takes in advance may be used hours later."""
    return Finding(
        "number-cached",
        "warning",
        f"{table}: sessions take numbers of {sequences} in advance; a row with one may"
        " come after increments have given it up",
        f"{table}：会话会预取序列 {sequences} 的编号，迟用的编号可能被增量读取漏掉",
        remedy,
    )


def writers_hidden(table: str, grant: str) -> Finding:
    """Nobody tells which transactions are open."""
    return Finding(
        "writers-hidden",
        "warning",
        f"{table}: the account does not see open transactions; missing numbers stay"
        " open for a day, and then the table is read in full",
        f"{table}：该账号看不到未结束的事务；缺失的编号保留一天，之后自动全量读取",
        grant,
    )


def writers_elsewhere(table: str) -> Finding:
    """Rows come from other servers, or numbers do."""
    return Finding(
        "writers-elsewhere",
        "warning",
        f"{table}: other servers write it or give out its numbers; missing numbers stay"
        " open for a day, and then the table is read in full",
        f"{table}：其他服务器也写入该表或分配编号；缺失的编号保留一天，之后自动全量读取",
    )
