# SPDX-License-Identifier: Apache-2.0
"""What the department's database did, or the way to it."""

from __future__ import annotations

from agent.errors.tree import SourceFault, Text


class SourceUnreachable(SourceFault):
    """No connection to the database, or it broke."""

    code = "source-unreachable"
    title = Text("The source database cannot be reached", "无法连接源数据库")
    remedy = Text(
        "Check host, port and firewall with `fep source check`.",
        "请用 `fep source check` 检查主机、端口与防火墙。",
    )


class SourceLogin(SourceFault):
    """The database refused user or password."""

    code = "source-login"
    title = Text("The source database refused the login", "源数据库拒绝登录")
    remedy = Text(
        "Correct user or password file; a changed secret file is read again by itself.",
        "请更正用户名或口令文件；口令文件变更后会自动重新读取。",
    )


class SourceRight(SourceFault):
    """The account may not read the table."""

    code = "source-right"
    title = Text("The database account lacks a right", "数据库账号缺少权限")
    remedy = Text(
        "`fep source check RESOURCE` prints the exact GRANT to run.",
        "`fep source check 资源代码` 会给出需执行的 GRANT 语句。",
    )


class SourceMissing(SourceFault):
    """A table or column of a binding is not there."""

    code = "source-missing"
    title = Text("A bound table or column is gone", "绑定的表或字段不存在")
    remedy = Text(
        "Correct the binding of the resource document, or ask who changed the table.",
        "请更正资源目录中的绑定，或询问是谁修改了该表。",
    )


class SourceTypeChanged(SourceFault):
    """A column's type no longer fits the catalog's."""

    code = "source-type"
    title = Text("A column's type does not fit the catalog", "字段类型与目录不符")
    remedy = Text(
        "Correct the item's type in the resource document; `fep source check` lists"
        " both.",
        "请更正资源目录中的数据类型；`fep source check` 会列出两者。",
    )


class SchemaDrift(SourceFault):
    """Bound columns are not as the last run saw them; ``detail`` is the difference."""

    code = "schema-drift"
    title = Text(
        "The source's table was changed; the resource is held",
        "源表结构已变更，该资源已暂停",
    )
    remedy = Text(
        "Undo the change at the source, then `fep pull RESOURCE`. If it is meant: adapt"
        " binding and items of the resource document, raise its `version`, `fep config"
        " check`, then `fep pull RESOURCE`.",
        "请在源库撤销改动后执行 `fep pull 资源代码`；若改动属实，请更正资源目录的绑定与数据项并提高"
        " `version`，用 `fep config check` 检查后执行 `fep pull 资源代码`。",
    )


class FrontierLost(SourceFault):
    """Increments cannot go on; ``detail`` begins with the reason."""

    code = "frontier-lost"
    title = Text(
        "The source is not the one that was read last; it is read in full",
        "数据源与上次读取时不一致，将重新全量读取",
    )
    remedy = Text(
        "The full read follows by itself. Find out whether the database was restored,"
        " failed over, moved, or its clock was set: rows written in between may be lost"
        " at the source.",
        "系统会自动全量读取。请核实数据库是否恢复过备份、主备切换、迁移或调整过时钟：其间写入的数据可能"
        "已在源库丢失。",
    )


class DigestsUnfit(SourceFault):
    """What was sent cannot be compared with; ``detail`` says why."""

    code = "digests-unfit"
    title = Text(
        "The record of what was sent cannot be used; the table is read in full",
        "已发送记录无法使用，将重新全量读取",
    )
    remedy = Text(
        "The full read follows by itself and makes a new record; nothing is lost. If it"
        " happens again, check the disk.",
        "系统会自动全量读取并重建记录，数据不会丢失。若反复出现，请检查磁盘。",
    )


class SourceText(SourceFault):
    """Text that its declared encoding cannot decode."""

    code = "source-text"
    title = Text(
        "The source holds text that cannot be decoded", "源数据含无法解码的文本"
    )
    remedy = Text(
        "Set the source's encoding; the rows named in the quarantine hold the bytes.",
        "请设置数据源编码；隔离区所列记录保存了原始字节。",
    )


class SourceFailed(SourceFault):
    """Any other refusal of the database or its driver."""

    code = "source-failed"
    title = Text("Reading the source failed", "读取数据源失败")
    remedy = Text(
        "Run `fep source check RESOURCE`; the run is repeated.",
        "请运行 `fep source check 资源代码`；任务会重试。",
    )


class SourceTimeout(SourceFailed):
    """A statement or a lock took longer than it may."""

    code = "source-timeout"
    title = Text("The source took too long", "数据源响应超时")
    remedy = Text(
        "`fep source check RESOURCE` names a missing index; else raise"
        " push.statement_timeout_s or lookup.statement_timeout_s.",
        "`fep source check 资源代码` 会指出缺少的索引；否则请调高"
        " push.statement_timeout_s 或 lookup.statement_timeout_s。",
    )


class SourceBusy(SourceFault):
    """More lookups wait for a source than may."""

    code = "source-busy"
    title = Text("Too many lookups wait for the source", "等待数据源的查询过多")
    remedy = Text(
        "The requester may try again. If it lasts: `fep source check RESOURCE` names a"
        " missing index.",
        "请求方可稍后重试。如持续出现：`fep source check 资源代码` 会指出缺少的索引。",
    )
