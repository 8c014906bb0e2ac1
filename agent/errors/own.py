# SPDX-License-Identifier: Apache-2.0
"""What is damaged on the agent's own side: state, disk, worker, audit log."""

from __future__ import annotations

from agent.errors.tree import OwnFault, Text


class InternalFault(OwnFault):
    """A defect of the agent."""

    code = "internal"
    title = Text("The agent has a defect", "代理程序内部缺陷")
    remedy = Text(
        "Nothing was sent. Report the journal lines around this time.",
        "未发送任何数据。请把该时刻前后的日志报给维护人员。",
    )


class StateDamaged(OwnFault):
    """The state database cannot be read or does not fit its own rules."""

    code = "state-damaged"
    title = Text("The state database is damaged", "状态数据库损坏")
    remedy = Text(
        "Stop the service, keep the file, restore the last backup or start with an"
        " empty state folder: the streams then begin a new epoch.",
        "请停止服务并保留该文件，恢复最近备份，或以空状态目录启动（数据流将开启新纪元）。",
    )


class RunningDamaged(OwnFault):
    """The kept configuration of the centre cannot be read."""

    code = "running-damaged"
    title = Text(
        "The kept configuration of the centre is damaged; what ran well before holds",
        "已保存的中心配置损坏，暂按此前正常的配置运行",
    )
    remedy = Text(
        "Without any that ran well agent.toml alone holds. It is fetched and proven"
        " again by itself; check the disk.",
        "若无此前正常的配置，则仅按 agent.toml 运行。系统会自动重新获取并验证；请检查磁盘。",
    )


class TokenFailed(OwnFault):
    """The token that holds a private key of ours does not sign."""

    code = "token-failed"
    title = Text("The token with our key does not answer", "存放私钥的密码设备无响应")
    remedy = Text(
        "Nothing is signed without it. Look whether the token is plugged in, its module"
        " installed and the key's label right; then it goes on by itself, or restart"
        " the service.",
        "无法签名。请检查密码设备是否连接、PKCS#11 模块是否安装、密钥标签是否正确；恢复后"
        "自动继续，或重启服务。",
    )


class SpoolDamaged(OwnFault):
    """A registered batch file is missing or differs from what was registered."""

    code = "spool-damaged"
    title = Text("A spooled batch file is damaged", "待发批次文件损坏")
    remedy = Text(
        "The agent reads the range again in a new epoch; check the disk.",
        "代理将以新纪元重新读取该范围；请检查磁盘。",
    )


class SpoolWriteFailed(OwnFault):
    """Writing, syncing or renaming in the spool failed."""

    code = "spool-write-failed"
    exit_code = 74
    title = Text("The spool cannot be written", "待发目录无法写入")
    remedy = Text(
        "Check disk space, mount options and the owner of the state folder, then"
        " restart the service; nothing is lost, the source is read again.",
        "请检查磁盘空间、挂载选项和状态目录属主后重启服务；数据不会丢失，将重新读取。",
    )


class SpoolFull(OwnFault):
    """The spool has reached its quota or the disk its free-space floor."""

    code = "spool-full"
    title = Text("The spool is full, reading has stopped", "待发目录已满，已停止读取")
    remedy = Text(
        "Bring the exchange back or raise spool.quota_mb; reading goes on by itself.",
        "请恢复与交换中心的连接或调高 spool.quota_mb；随后会自动继续读取。",
    )


class SpoolVersion(OwnFault):
    """The spool folder was written by a version of the agent that we are not."""

    code = "spool-version"
    exit_code = 78
    title = Text("The spool is of another version of the agent", "待发目录属于其他版本")
    remedy = Text(
        "Install the version that wrote it. Or stop the service and move the folder away:"
        " what waits there is then read again from the source.",
        "请安装写入该目录的版本；或停止服务并移走该目录，其中未发送的数据将从源库重新读取。",
    )


class DiskFull(OwnFault):
    """The disk of the state folder is full, and the reserve was given up."""

    code = "disk-full"
    title = Text(
        "The disk is full, the reserve is in use", "磁盘已满，正在使用预留空间"
    )
    remedy = Text(
        "Free space on this disk, and soon: reading waits, while lookups, status and"
        " sending live on the reserve. Everything goes on by itself.",
        "请尽快清理该磁盘：读取已暂停，查询、状态与发送依靠预留空间运行；有空间后全部自动恢复。",
    )


class WorkerDied(OwnFault):
    """The worker process of a run ended without a result."""

    code = "worker-died"
    title = Text("The extraction worker died", "抽取进程异常退出")
    remedy = Text(
        "The run is repeated; after the third time in a row it waits for you. Run"
        " `fep source check RESOURCE` meanwhile.",
        "任务将重试；连续三次后该资源等待人工处理。其间请运行 `fep source check 资源代码`。",
    )


class WorkerTooLarge(WorkerDied):
    """A worker grew above its memory limit and was killed."""

    code = "worker-memory"
    title = Text("The extraction worker needed too much memory", "抽取进程内存超限")
    remedy = Text(
        "Lower `push.batch_raw_mb` and `push.max_rows_per_batch`, or raise"
        " `push.worker_memory_mb`; one very long text can be the cause.",
        "请调低 `push.batch_raw_mb` 与 `push.max_rows_per_batch`，或调高"
        " `push.worker_memory_mb`；也可能是某个字段的文本过长。",
    )


class WorkerSilent(WorkerDied):
    """A worker said nothing for too long and was killed."""

    code = "worker-silent"
    title = Text("The extraction worker hung", "抽取进程无响应")
    remedy = Text(
        "Look for locks and load at the source. If its statements really take so long"
        " before the first row, raise `push.statement_timeout_s`.",
        "请检查数据源的锁与负载；若查询返回首行前确需更久，请调高"
        " `push.statement_timeout_s`。",
    )


class WorkerGivenUp(OwnFault):
    """The workers of a resource died several times in a row; it waits for a person."""

    code = "worker-given-up"
    title = Text(
        "The extraction worker died three times in a row; the resource waits for you",
        "抽取进程连续三次异常退出，该资源等待人工处理",
    )
    remedy = Text(
        "Other resources go on. Look at the reason, the driver's version and the"
        " source, then `fep resume RESOURCE` reads it again.",
        "其他资源不受影响。请查看原因、驱动版本与数据源，之后执行"
        " `fep resume 资源代码` 重新读取。",
    )


class ListenerDied(OwnFault):
    """The process of the listener for the exchange ended without being asked to."""

    code = "listener-died"
    title = Text("The process of the listener died", "监听进程异常退出")
    remedy = Text(
        "It is started again by itself; the journal says how it ended. If it goes on,"
        " use the relay (`lookup.relay`) meanwhile.",
        "进程会自动重启，日志中有退出原因。若持续发生，可暂用中继（`lookup.relay`）。",
    )


class EvidenceDamaged(OwnFault):
    """Kept evidence that its day key does not open."""

    code = "evidence-damaged"
    title = Text("Kept evidence cannot be read", "存证无法读取")
    remedy = Text(
        "The audit log itself still holds: `fep audit verify`. Check the disk, and take"
        " the evidence of that day from the backup.",
        "审计日志本身仍可验证：`fep audit verify`。请检查磁盘，并从备份恢复当日存证。",
    )


class ChainMoved(OwnFault):
    """A batch was sealed on a head that the stream no longer has."""

    code = "chain-moved"
    title = Text("The stream moved on while it was read", "读取期间数据流已变更")
    remedy = Text(
        "Nothing was sent; the run is repeated by itself.",
        "未发送任何数据；任务会自动重做。",
    )


class Interrupted(OwnFault):
    """A run was cut for a reason that lies outside of it."""

    code = "interrupted"
    title = Text("The run was interrupted", "任务被中断")
    remedy = Text(
        "Nothing to do: it is repeated by itself.", "无需处理：任务会自动重做。"
    )


class AuditWriteFailed(OwnFault):
    """The audit log could not be made durable; nothing that needs it may go on."""

    code = "audit-write-failed"
    exit_code = 74
    title = Text("The audit log cannot be written", "审计日志无法写入")
    remedy = Text(
        "Nothing is answered, sent or begun until it can. Check disk space, mount options"
        " and the owner of the state folder, then restart the service; the log goes on"
        " where it was.",
        "在恢复之前不答复查询、不外发数据、不执行操作。请检查磁盘空间、挂载选项和状态目录属主后重启服务；日志将从原处继续。",
    )


class AuditDamaged(OwnFault):
    """The audit log's file is not what was written to it."""

    code = "audit-damaged"
    title = Text("The audit log is damaged", "审计日志损坏")
    remedy = Text(
        "Stop the service and keep lookup.db with its -wal file as evidence. Restore the"
        " newest backup; see docs/audit.md for what the exchange will then say.",
        "请停止服务，保留 lookup.db 及其 -wal 文件作为证据，并恢复最近备份；随后交换中心的提示见 docs/audit.md。",
    )


class AuditRolledBack(OwnFault):
    """The exchange cosigned a longer audit log than the one that is here."""

    code = "audit-rolled-back"
    title = Text(
        "The audit log is older than its witness", "审计日志落后于中心见证的版本"
    )
    remedy = Text(
        "An old copy of lookup.db was put back, or records were cut off; lookups are"
        " refused. Stop the service and bring back the newest file; see docs/audit.md.",
        "lookup.db 被旧副本替换或记录被截断，已拒绝查询。请停止服务并恢复最新文件；见 docs/audit.md。",
    )


class DirectoryStale(OwnFault):
    """The directory has not been fetched for so long that lookups may not rely on it."""

    code = "directory-stale"
    title = Text("The directory is too old for lookups", "目录过旧，不能用于查询")
    remedy = Text(
        "Lookups are refused, because a key may have been revoked meanwhile. Bring back"
        " the line to the exchange; they go on by themselves.",
        "期间可能有密钥被吊销，因此拒绝查询。请恢复与交换中心的连接，之后自动继续。",
    )


class EvidenceGone(OwnFault):
    """The exact messages of a record can no longer be read."""

    code = "evidence-gone"
    title = Text("The evidence can no longer be read", "证据已不可读")
    remedy = Text(
        "Its day was erased, or the day's key is missing; the record itself stays and"
        " still proves what was done.",
        "该日证据已销毁，或当日密钥缺失；记录本身仍在并仍可证明所作处理。",
    )
