# SPDX-License-Identifier: Apache-2.0
"""The one tree of errors, split first by whose fault it is.

::

    FepError
    ├── OwnFault        our state, our disk, our worker: the agent's side is damaged
    ├── PeerFault       the exchange, the network, or somebody in between
    ├── SourceFault     the department's database or the way to it
    └── OperatorFault   settings, catalog, rights, or a command that cannot be done

A class carries what never changes: a stable ``code``, a ``title`` and the operator's
next step (``remedy``), each in English and Chinese, and the exit code of a command
that ends with it. An instance carries ``detail``: what was expected, what was got, and
the name of the thing. A detail never holds a personal value or a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, NamedTuple


class Text(NamedTuple):
    """One sentence in the two languages of the product."""

    en: str
    zh: str


class FepError(Exception):
    """Anything that FEP itself raises.

    Args:
        detail: expected, got and where; no personal values, no secrets.
    """

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    title: ClassVar[Text] = Text("The command failed", "命令失败")
    remedy: ClassVar[Text] = Text(
        "Look at `fep status` and the journal.", "请查看 `fep status` 与系统日志。"
    )

    def __init__(self, detail: str = "") -> None:
        self.detail = detail
        super().__init__(f"{self.title.en}: {detail}" if detail else self.title.en)

    def as_dict(self) -> dict[str, object]:
        """The documented JSON form: ``code``, ``detail``, ``title``, ``remedy``."""
        return {
            "code": self.code,
            "detail": self.detail,
            "title": self.title._asdict(),
            "remedy": self.remedy._asdict(),
        }


# --- ours -------------------------------------------------------------------------


class OwnFault(FepError):
    """The agent's own state, disk or worker."""


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


# --- the peer's -------------------------------------------------------------------


class PeerFault(FepError):
    """The exchange, the line, or somebody in between."""


class ExchangeUnreachable(PeerFault):
    """No connection, or none that lasted.

    Args:
        detail: what was asked, and what happened.
        retry_after: seconds after which it makes sense to try again, or None.
    """

    code = "exchange-unreachable"
    title = Text("The exchange cannot be reached", "无法连接交换中心")
    remedy = Text(
        "Check the line, the firewall and exchange.url; batches wait and are sent"
        " by themselves.",
        "请检查线路、防火墙和 exchange.url；批次会等待并自动发送。",
    )

    def __init__(self, detail: str = "", *, retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(detail)


class ProxyRefused(ExchangeUnreachable):
    """The proxy on the way does not let us through."""

    code = "proxy-refused"
    title = Text("The proxy refuses the way to the exchange", "代理服务器拒绝转发")
    remedy = Text(
        "Check exchange.proxy: address, user and password file; a changed password is"
        " taken by itself. Else have the proxy's owner allow the exchange's address.",
        "请检查 exchange.proxy 的地址、用户与口令文件，口令更换后自动生效；否则请代理管理员放行"
        "交换中心地址。",
    )


class ExchangeUntrusted(PeerFault):
    """TLS failed: wrong CA, wrong name, expired, or our certificate was refused."""

    code = "exchange-untrusted"
    title = Text("The exchange's certificate is not trusted", "交换中心证书不可信")
    remedy = Text(
        "Do not go on. Compare exchange.ca_sha256 with the slip from central ops and"
        " check this machine's clock.",
        "请勿继续。请与中心发放的凭条核对 exchange.ca_sha256，并检查本机时钟。",
    )


class ClockSkewed(PeerFault):
    """Our clock and the exchange's differ by more than allowed."""

    code = "clock-skew"
    title = Text("This machine's clock is wrong", "本机时钟不准")
    remedy = Text(
        "Set the clock (chrony or ntp); batches wait meanwhile.",
        "请校准时钟（chrony 或 ntp）；期间批次会等待。",
    )


class MalformedMessage(PeerFault):
    """A message that the wire format does not allow."""

    code = "malformed"
    title = Text("A message breaks the wire format", "报文格式错误")
    remedy = Text(
        "If it persists, send the detail to central ops: the peer's software differs.",
        "如持续出现，请将详情报告中心：对方软件与规范不一致。",
    )


class BadPayload(PeerFault):
    """A batch payload that the Arrow profile does not allow."""

    code = "bad-payload"
    title = Text("A batch payload breaks the Arrow profile", "批次数据不符合格式规定")
    remedy = Text(
        "The batch is rejected and read again in a new epoch; if it persists, report"
        " the detail: the sender's software differs.",
        "该批次被驳回并将以新纪元重新读取；如持续出现，请上报详情：发送方软件与规范不一致。",
    )


class BadSignature(PeerFault):
    """A signature does not verify, or its key may not sign this kind of message."""

    code = "bad-signature"
    title = Text("A signature does not verify", "签名验证失败")
    remedy = Text(
        "The message was ignored. Tell central ops: somebody may be altering traffic.",
        "该报文已忽略。请通知中心：可能有人篡改通信。",
    )


class UnknownKey(BadSignature):
    """The directory does not know the key, or it was revoked."""

    code = "unknown-key"
    title = Text("A message is signed with an unknown key", "报文由未知密钥签名")


class KeyRevoked(UnknownKey):
    """The directory knows the key, but it may not sign any more."""

    code = "key-revoked"
    title = Text("A message is signed with a revoked key", "报文由已停用密钥签名")
    remedy = Text(
        "The message was ignored. If the sender says it is his, his key was replaced:"
        " he has to sign with the new one.",
        "该报文已忽略。如确为对方所发，说明其密钥已更换，须用新密钥签名。",
    )


class Undecryptable(PeerFault):
    """An encrypted message that none of our keys opens, or that was altered."""

    code = "undecryptable"
    title = Text("A message cannot be decrypted", "报文无法解密")
    remedy = Text(
        "The message was ignored. If it persists, the sender uses an old key: have it"
        " fetch the directory again.",
        "该报文已忽略。如持续出现，说明对方使用了旧密钥，请其重新获取目录。",
    )


class BadProof(PeerFault):
    """A proof of an audit log does not lead to the root that was signed."""

    code = "bad-proof"
    title = Text("A proof of the audit log does not hold", "审计日志证明不成立")
    remedy = Text(
        "Do not rely on the record; get log and checkpoint again from their keeper. If"
        " it persists, the log was altered.",
        "请勿采信该记录；请向日志保管方重新获取日志与检查点。如仍不成立，说明日志被篡改。",
    )


class FalseReceipt(PeerFault):
    """A receipt that verifies but speaks of another batch, or none that verifies."""

    code = "false-receipt"
    title = Text("The exchange answered with a false receipt", "交换中心返回了不实回执")
    remedy = Text(
        "The batch stays in the spool and is offered again. Tell central ops.",
        "批次保留在待发目录并会再次提交。请通知中心。",
    )


class ExchangeRefused(PeerFault):
    """The exchange answered with a problem document (RFC 9457).

    Args:
        detail: what the exchange said.
        problem: its code after ``urn:fep:problem:``.
        retry_after: seconds that it asks to wait, or None.
        members: further members of the document, such as ``expected_seq``.
    """

    code = "exchange-refused"
    title = Text("The exchange refused a request", "交换中心拒绝了请求")
    remedy = Text(
        "The agent tries again by itself; `fep status RESOURCE` shows the reason.",
        "代理会自动重试；`fep status 资源代码` 显示原因。",
    )

    def __init__(
        self,
        detail: str,
        *,
        problem: str,
        retry_after: float | None = None,
        members: dict[str, object] | None = None,
    ) -> None:
        self.problem = problem
        self.retry_after = retry_after
        self.members = members or {}
        super().__init__(f"{problem}: {detail}" if detail else problem)


class NotOwner(PeerFault):
    """The directory says that another node owns a resource of ours."""

    code = "not-owner"
    title = Text("Another node owns this resource now", "该资源现属于其他节点")
    remedy = Text(
        "Only this resource waits. If central ops gave it away on purpose, set"
        " `push = false` in its document; else tell them, and once they gave it back:"
        " `fep pull RESOURCE`.",
        "仅该资源暂停。若中心有意变更归属，请在其资源文件中设置 `push = false`；否则请联系"
        "中心，归还后执行 `fep pull 资源代码`。",
    )


class DirectoryRefused(PeerFault):
    """The exchange signed a directory that takes away what was known before."""

    code = "directory-refused"
    title = Text("The exchange's new directory was refused", "交换中心的新目录已被拒绝")
    remedy = Text(
        "Keys do not disappear: the exchange is damaged, was restored from an old"
        " backup, or lies. The last good directory stays in use; after 15 minutes"
        " lookups stop. Call central ops by a number you know.",
        "密钥不会无故消失：中心已损坏、恢复了旧备份或在作假。继续使用上一份有效目录；"
        "15 分钟后停止联机查询。请用已知电话联系中心运维。",
    )


class DirectoryUnvouched(DirectoryRefused):
    """The exchange signed a directory that the city's offline keys did not sign."""

    code = "directory-unvouched"
    title = Text(
        "The exchange's directory is not the one that the city signed",
        "交换中心的目录与市级离线签名不符",
    )
    remedy = Text(
        "Somebody uses the exchange's own key, or it does not follow the city's TUF"
        " repository. The last good directory stays in use; lookups stop once it is too"
        " old (exchange.directory_max_age_s). Call central ops by a number you know.",
        "可能有人盗用交换中心密钥，或其未跟随市级 TUF 仓库。继续使用上一份有效目录，超过"
        " exchange.directory_max_age_s 后停止联机查询。请用已知电话联系中心运维。",
    )


class TrustRefused(PeerFault):
    """The city's TUF repository shows what its keys do not vouch for."""

    code = "trust-refused"
    title = Text(
        "The city's configuration repository was refused", "市级配置仓库未通过验证"
    )
    remedy = Text(
        "Somebody went back to an old version, signed with too few keys, or changed a"
        " file on its way. What was verified last stays in use. Compare"
        " exchange.tuf_root_sha256 with the slip, and call central ops by a number you"
        " know.",
        "可能有人回退旧版本、签名数不足，或在传输中篡改文件。继续使用上一次验证通过的内容。"
        "请与凭条核对 exchange.tuf_root_sha256，并用已知电话联系中心运维。",
    )


class TrustExpired(PeerFault):
    """What the city's TUF repository shows was not signed anew in time."""

    code = "trust-expired"
    title = Text(
        "The city's configuration metadata has expired", "市级配置元数据已过期"
    )
    remedy = Text(
        "What was verified last goes on; nothing new is taken. Check this machine's"
        " clock and the line; else central ops must sign anew.",
        "继续使用上一次验证通过的内容，不接受新内容。请检查本机时钟与线路；否则由中心重新签名。",
    )


class TrustLongExpired(TrustExpired):
    """It has been expired for a week: somebody may be holding back what is newer."""

    code = "trust-long-expired"
    title = Text(
        "The city's configuration metadata expired more than a week ago",
        "市级配置元数据过期已超过一周",
    )
    remedy = Text(
        "Revocations may be held back. Call central ops by a number you know and ask"
        " which version of timestamp is theirs; `fep status` shows ours.",
        "吊销信息可能被扣留。请用已知电话联系中心运维核对 timestamp 版本；本机版本见"
        " `fep status`。",
    )


class CloneSuspected(PeerFault):
    """The exchange has heartbeats of two machines, or of two lives, under our name."""

    code = "clone-suspected"
    title = Text(
        "The exchange saw another machine under this node's name",
        "交换中心发现另有机器使用本节点身份",
    )
    remedy = Text(
        "Make sure that no copy of this machine or of its state folder runs, then ask"
        " central ops to look at the node: they accept the one that stays. Pushes and"
        " lookups go on meanwhile.",
        "请确认没有运行本机或其状态目录的副本，再请中心运维核对节点并确认保留哪一台。"
        "上送与查询不受影响。",
    )


class BatchRejected(PeerFault):
    """The exchange signed a ``rejected`` receipt."""

    code = "batch-rejected"
    title = Text("The exchange rejected a batch", "交换中心驳回了批次")
    remedy = Text(
        "Only this stream waits. Read the code in `fep status RESOURCE`, remove the"
        " cause, then `fep pull RESOURCE`.",
        "仅该数据流暂停。请按 `fep status 资源代码` 所示原因处理后执行 `fep pull 资源代码`。",
    )


class NodeCloned(PeerFault):
    """Somebody else sends as this node: a copy of this machine, or of its keys."""

    code = "node-cloned"
    title = Text("Another machine sends as this node", "另有机器以本节点身份发送")
    remedy = Text(
        "Everything of this machine is held. Find the copy and stop one of the two for"
        " good; tell central ops if you know of none. On the one that stays, `fep pull"
        " RESOURCE` for each resource.",
        "本机所有数据流已暂停。请查找副本并永久停用两者之一；若不知有副本，请通知中心。"
        "在保留的机器上对每个资源执行 `fep pull 资源代码`。",
    )


class WitnessRefused(PeerFault):
    """The exchange does not cosign the audit log."""

    code = "witness-refused"
    title = Text(
        "The exchange does not cosign the audit log", "交换中心拒绝见证审计日志"
    )
    remedy = Text(
        "The log goes on and is offered again. If it persists, tell central ops the"
        " detail; see docs/audit.md.",
        "日志继续并会再次提交。如持续出现，请将详情报告中心；见 docs/audit.md。",
    )


class CodeRefused(PeerFault):
    """The exchange wants a one-time code, or does not take the one that it got."""

    code = "code-refused"
    title = Text(
        "The exchange did not take the one-time code", "交换中心不接受该一次性注册码"
    )
    remedy = Text(
        "Give the code of this node's slip (`fep enrol --code-file FILE`, or type it when"
        " asked). If it is right, it was withdrawn or is of another exchange: ask central"
        " ops for a new one.",
        "请提供本节点凭条上的注册码（`fep enrol --code-file 文件`，或按提示输入）。如输入"
        "无误，则该码已作废或属于其他交换中心，请向中心申请新码。",
    )


class EnrolRefused(PeerFault):
    """The exchange does not let this machine in as this node."""

    code = "enrol-refused"
    title = Text("The exchange refused the enrolment", "交换中心拒绝注册")
    remedy = Text(
        "Read the reason. If nobody here has used the slip before, somebody else has:"
        " tell central ops at once. Else ask them for a new code, or to release the node.",
        "请查看原因。如本单位此前无人使用过该凭条，则可能已被他人使用，请立即告知中心；"
        "否则请中心发放新码或释放该节点。",
    )


# --- the source's -----------------------------------------------------------------


class SourceFault(FepError):
    """The department's database or the way to it. Other resources go on."""


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


# --- the operator's ---------------------------------------------------------------


class OperatorFault(FepError):
    """Settings, catalog, rights, or a command that cannot be done."""


class CodeMistyped(OperatorFault):
    """A one-time code that cannot be one: it was not copied right."""

    code = "code-mistyped"
    title = Text("The one-time code is mistyped", "一次性注册码输入有误")
    remedy = Text(
        "Compare it with the slip: six groups of four. Nothing was sent.",
        "请与凭条核对：共六组、每组四位。尚未发送任何内容。",
    )


class UsageFault(OperatorFault):
    """A command was called with words that it does not take."""

    code = "usage"
    exit_code = 2
    title = Text("The command was called wrongly", "命令用法错误")
    remedy = Text("Add --help to see examples.", "加 --help 可查看示例。")


class Fault(NamedTuple):
    """One thing that is wrong in a file that a person wrote."""

    file: str
    key: str
    expected: str
    got: str | None
    article: str | None = None

    def __str__(self) -> str:
        """``file: key: expected …, got … [article]``; whole words where got is None."""
        article = f" [{self.article}]" if self.article else ""
        key = f"{self.key}: " if self.key else ""
        words = f"expected {self.expected}, got {self.got}"
        return (
            f"{self.file}: {key}{self.expected if self.got is None else words}{article}"
        )


def nearest(key: str, known: Iterable[str], otherwise: str) -> str:
    """What is expected in place of an unknown key."""
    import difflib  # only for people who mistyped

    close = difflib.get_close_matches(key, list(known), 1)
    return f"`{close[0]}` (did you mean that?)" if close else otherwise


_LOGIN = re.compile(r"//.*@", re.DOTALL)


def shown(value: object) -> str:
    """A value of the file for a message, at most 64 characters.

    What is inside a table or a list is not told, nor who logs in at an address: a
    secret may stand there, in a place where it does not belong.
    """
    if value is None:
        return "nothing"
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = _LOGIN.sub("//...@", repr(value))
    return text if len(text) <= 64 else text[:61] + "..."


class FilesInvalid(OperatorFault):
    """Files that cannot be used, with every fault of all of them.

    Args:
        detail: in words, if there is no list.
        faults: the list; ``detail`` is made from it, one line each.
    """

    def __init__(self, detail: str = "", *, faults: tuple[Fault, ...] = ()) -> None:
        self.faults = faults
        super().__init__(detail or "\n".join(str(fault) for fault in faults))

    def as_dict(self) -> dict[str, object]:
        """As every error, and ``faults``."""
        return {**super().as_dict(), "faults": [f._asdict() for f in self.faults]}


class ConfigInvalid(FilesInvalid):
    """Settings that cannot be used; ``detail`` lists every fault with file and key."""

    code = "config-invalid"
    exit_code = 78
    title = Text("The settings cannot be used", "配置不可用")
    remedy = Text(
        "Correct the keys named, then `fep config check`.",
        "请更正所列配置项后运行 `fep config check`。",
    )


class ConfigBroken(FilesInvalid):
    """Changed files that cannot be used while the daemon runs; the old ones hold."""

    code = "config-broken"
    title = Text(
        "The changed files have faults; the old settings go on",
        "改动后的文件有误，继续使用原配置",
    )
    remedy = Text(
        "Correct what is named, `fep config check`; it is then taken by itself. Do not"
        " restart before: the service could not start.",
        "请更正所列问题并运行 `fep config check`，随后会自动生效。更正前请勿重启，否则服务无法启动。",
    )


class RestartNeeded(OperatorFault):
    """Changed settings that hold only after a restart; ``detail`` names them."""

    code = "restart-needed"
    title = Text(
        "Changed settings wait for a restart", "部分已改动的配置需重启服务后生效"
    )
    remedy = Text(
        "`systemctl restart fep`, or put the keys named back. All other changes hold.",
        "请执行 `systemctl restart fep`，或将所列项改回；其余改动已生效。",
    )


class SecretUnreadable(ConfigInvalid):
    """A secret's file or credential cannot be read."""

    code = "secret-unreadable"
    title = Text("A secret cannot be read", "口令文件无法读取")
    remedy = Text(
        "Give the file named to user fep with mode 0400, or use LoadCredential=.",
        "请将所列文件属主设为 fep、权限 0400，或使用 LoadCredential=。",
    )


class CeilingUnsafe(ConfigInvalid):
    """Others than its owner could change what the centre may set."""

    code = "ceiling-unsafe"
    title = Text(
        "The ceiling could be changed by others", "中心配置上限文件可被他人改动"
    )
    remedy = Text(
        "`chown root:fep` and `chmod 0640` the file named, look at what stands in it,"
        " then `fep config check`.",
        "请对所列文件执行 `chown root:fep` 与 `chmod 0640`，核对其内容后运行"
        " `fep config check`。",
    )


class DocumentInvalid(FilesInvalid):
    """What the centre published cannot be used; nothing of it runs."""

    code = "document-invalid"
    title = Text(
        "The centre's configuration has faults; nothing of it runs",
        "中心下发的配置有误，未予采用",
    )
    remedy = Text(
        "What runs goes on. Give what is listed to central ops: they correct it and"
        " publish it with a new generation.",
        "现行配置继续运行。请将所列问题告知中心运维，由其更正后以新的代次重新发布。",
    )


class CeilingForbids(FilesInvalid):
    """The centre wants what this department does not allow; nothing of it runs."""

    code = "ceiling-forbids"
    title = Text(
        "The centre's configuration wants more than is allowed here; nothing of it runs",
        "中心下发的配置超出本单位允许的范围，未予采用",
    )
    remedy = Text(
        "What runs goes on. Either central ops takes back what is listed, or you allow"
        " it in ceiling.toml (`fep config check`).",
        "现行配置继续运行。请由中心撤回所列内容，或由本单位在 ceiling.toml 中放行"
        "（`fep config check`）。",
    )


class TokenPinRefused(SecretUnreadable):
    """The token that holds a private key of ours refused the PIN."""

    code = "token-pin"
    title = Text("The token refuses the PIN", "密码设备拒绝 PIN")
    remedy = Text(
        "It is not tried again, so that the token does not lock itself: write the right"
        " PIN into the file or credential that the key file names; the agent takes it"
        " by itself, or restart the service. A token that says PinLocked must be"
        " unlocked with its own tool first.",
        "为避免设备锁死，不再重试。请在密钥文件所指的文件或凭据中写入正确的 PIN，程序将自动"
        "采用，也可重启服务；提示 PinLocked 时须先用设备自带工具解锁。",
    )


class CatalogInvalid(FilesInvalid):
    """A resource document that cannot be used."""

    code = "catalog-invalid"
    exit_code = 78
    title = Text("A resource document cannot be used", "资源目录不可用")
    remedy = Text(
        "Correct the fields named, then `fep config check`.",
        "请更正所列字段后运行 `fep config check`。",
    )


class PolicyInvalid(FilesInvalid):
    """A policy that cannot be used; ``detail`` lists every fault of it."""

    code = "policy-invalid"
    exit_code = 78
    title = Text("The lookup policy cannot be used", "查询授权策略不可用")
    remedy = Text(
        "Correct the grants named, then `fep policy check` and `fep policy activate`."
        " Meanwhile the active policy judges, unless it is the one that does not fit the"
        " catalog any more: then everything is refused.",
        "请更正所列授权，再运行 `fep policy check` 与 `fep policy activate`。期间仍执行已生效的策略；"
        "若是已生效的策略与目录不再相符，则一律拒绝。",
    )


class GateClosed(OperatorFault):
    """The gate does not let this resource leave."""

    code = "gate-closed"
    title = Text("This resource may not leave the department", "该资源不得对外提供")
    remedy = Text(
        "Share type, secrecy level and push = true decide; see the resource document.",
        "由共享类型、密级和 push = true 决定；请查看资源目录。",
    )


class SecrecyMarker(OperatorFault):
    """A value carries a secrecy marking such as 机密★."""

    code = "secrecy-marker"
    title = Text("A row carries a secrecy marking", "记录带有密级标识")
    remedy = Text(
        "The run was stopped and nothing of it counts. Have the rows in the quarantine"
        " reviewed by the secrecy officer.",
        "任务已停止且不生效。请保密员审查隔离区中的记录。",
    )


class QualityHalt(OperatorFault):
    """A quality rule of severity ``halt`` failed."""

    code = "quality-halt"
    title = Text("A quality rule stopped the run", "质量规则中止了任务")
    remedy = Text(
        "Nothing of the run counts. Correct the rows in the quarantine at the source,"
        " or lower the rule's severity in [quality].",
        "任务不生效。请在源库更正隔离区中的记录，或在 [quality] 中降低该规则级别。",
    )


class MassDelete(OperatorFault):
    """A run would delete more at the centre than the brake allows.

    Args:
        detail: see there.
        keys_gone: so many keys would go.
    """

    code = "mass-delete"
    title = Text(
        "The run would delete too much at the centre", "任务将大量删除中心数据"
    )
    remedy = Text(
        "If the rows are really gone: `fep pull RESOURCE --confirm-deletes`; it"
        " confirms this number and no more.",
        "若确已删除：`fep pull 资源代码 --confirm-deletes`，仅确认此数量。",
    )

    def __init__(self, detail: str = "", *, keys_gone: int | None = None) -> None:
        self.keys_gone = keys_gone
        super().__init__(detail)


class RecallHeld(MassDelete):
    """A recall waits until a person agrees to the number of rows."""

    code = "recall-unconfirmed"
    title = Text("The recall waits for your word", "撤回待确认")
    remedy = Text(
        "To delete them all at the centre: `fep pull RESOURCE --recall"
        " --confirm-deletes`; it confirms this number and no more. Else do nothing.",
        "确需全部撤回：`fep pull 资源代码 --recall --confirm-deletes`，仅确认此数量；"
        "否则无须处理。",
    )


class NothingLoaded(OperatorFault):
    """The exchange has loaded nothing of a resource that it is to be asked about."""

    code = "nothing-loaded"
    title = Text(
        "The exchange has loaded nothing of this resource", "中心尚无该资源的数据"
    )
    remedy = Text(
        "Send it first: `fep pull RESOURCE --wait`.",
        "请先上送：`fep pull 资源代码 --wait`。",
    )


class NothingHeld(OperatorFault):
    """Deletes were confirmed, but no run waits for that."""

    code = "nothing-held"
    title = Text(
        "There are no held deletes to confirm", "没有因大量删除而暂停的任务可确认"
    )
    remedy = Text(
        "Pull without --confirm-deletes first. If that run is held, `fep status"
        " RESOURCE` says how many keys would go; then confirm that number.",
        "请先不带 --confirm-deletes 执行 `fep pull 资源代码`；若任务被暂停，`fep status"
        " 资源代码` 会显示将删除的主键数，届时再确认。",
    )


class NotEnrolled(OperatorFault):
    """The agent has no keys or no certificate yet."""

    code = "not-enrolled"
    exit_code = 78
    title = Text("This agent is not enrolled", "本机尚未注册")
    remedy = Text("Run `fep enrol`.", "请运行 `fep enrol`。")


class DaemonAbsent(OperatorFault):
    """Nobody answers on the Unix socket."""

    code = "no-daemon"
    title = Text("The agent is not running", "代理服务未运行")
    remedy = Text(
        "Start it with `systemctl start fep` (or `fep run`), then try again.",
        "请执行 `systemctl start fep`（或 `fep run`）后重试。",
    )


class SocketDenied(OperatorFault):
    """The Unix socket exists, but this user may not use it."""

    code = "socket-denied"
    title = Text("You may not talk to the agent", "您无权操作代理服务")
    remedy = Text(
        "Have yourself added to the socket's group: `usermod -aG fep USER`, then log"
        " in again; or use sudo.",
        "请加入套接字所属用户组：`usermod -aG fep 用户名` 后重新登录；或使用 sudo。",
    )


class AlreadyRunning(OperatorFault):
    """Another daemon holds the state folder."""

    code = "already-running"
    title = Text("The agent is already running", "代理服务已在运行")
    remedy = Text(
        "One daemon serves one state folder: look at `fep status`, or stop the other"
        " with `systemctl stop fep`.",
        "一个状态目录只能由一个进程使用：请查看 `fep status`，或执行 `systemctl stop fep`。",
    )


class NotGenuine(OperatorFault):
    """A file given to ``fep verify`` is not what it says."""

    code = "not-genuine"
    title = Text("The file is not genuine", "文件不真实")
    remedy = Text(
        "Do not rely on it; fetch it again from where it came.",
        "请勿采信；请从来源处重新获取。",
    )


class RunUnknown(OperatorFault):
    """No run has this id."""

    code = "run-unknown"
    exit_code = 2
    title = Text("There is no such run", "没有该任务")
    remedy = Text(
        "The daemon was restarted since; look at `fep status RESOURCE`.",
        "服务可能已重启；请查看 `fep status 资源代码`。",
    )


class BatchUnknown(OperatorFault):
    """No batch has this epoch and number."""

    code = "batch-unknown"
    exit_code = 2
    title = Text("There is no such batch", "没有该批次")
    remedy = Text(
        "`fep spool ls RESOURCE` lists them.", "`fep spool ls 资源代码` 可列出批次。"
    )


class RecordUnknown(OperatorFault):
    """No audit record has this number."""

    code = "record-unknown"
    exit_code = 2
    title = Text("There is no such audit record", "没有该审计记录")
    remedy = Text(
        "`fep audit search` lists the newest.", "`fep audit search` 可列出最新记录。"
    )


class ResourceUnknown(OperatorFault):
    """No resource document has this code."""

    code = "resource-unknown"
    exit_code = 2
    title = Text("There is no such resource", "没有该资源")
    remedy = Text("`fep status` lists the resources.", "`fep status` 可列出资源。")


class Busy(OperatorFault):
    """The resource is being pulled, or paused."""

    code = "busy"
    title = Text("The resource is busy or paused", "资源正忙或已暂停")
    remedy = Text(
        "Wait for the run (`fep status RESOURCE`) or `fep resume RESOURCE`.",
        "请等待任务结束（`fep status 资源代码`）或执行 `fep resume 资源代码`。",
    )


class UnderWay(OperatorFault):
    """What was asked for has begun, and takes longer than anybody waits."""

    code = "under-way"
    title = Text("It has begun and goes on", "操作已开始，仍在进行")
    remedy = Text(
        "Look at `fep status RESOURCE` and the journal how it ended; asking again does"
        " nothing that is done already.",
        "请用 `fep status 资源代码` 与系统日志查看结果；重复执行不会重做已完成的部分。",
    )


# --- keys and their life ----------------------------------------------------------


class KeysUnpublished(PeerFault):
    """The exchange took a key statement, and its directory does not show it yet."""

    code = "keys-unpublished"
    title = Text(
        "The directory does not show our new keys yet", "目录尚未显示本机新密钥"
    )
    remedy = Text(
        "The old keys stay in use and the agent asks again by itself. If it lasts longer"
        " than an hour, tell central ops.",
        "旧密钥继续使用，代理会自动重试。如超过一小时，请通知中心。",
    )


class CertificateExpiring(OwnFault):
    """The certificate should have been renewed by now, and ends soon."""

    code = "certificate-expiring"
    title = Text("The certificate ends soon", "证书即将到期")
    remedy = Text(
        "The agent tries to renew it by itself; `fep keys ls` says why it could not. Tell"
        " central ops before it ends.",
        "代理会自动续期；失败原因见 `fep keys ls`。请在到期前通知中心。",
    )


class CertificateExpired(OwnFault):
    """The certificate has ended: the exchange does not talk to this machine."""

    code = "certificate-expired"
    title = Text("The certificate has expired", "证书已过期")
    remedy = Text(
        "Check the clock of this machine. If it is right, run `fep enrol`: the keys stay,"
        " the centre approves once more, and the running agent takes the new certificate"
        " by itself. What is in the spool is kept meanwhile.",
        "请检查本机时钟。如无误，请执行 `fep enrol`：密钥不变，经中心再次审批后，"
        "运行中的代理会自动启用新证书。待发数据不受影响。",
    )


class OwnKeyRevoked(OwnFault):
    """The directory says that a key of this machine was revoked."""

    code = "own-key-revoked"
    title = Text("A key of this machine was revoked", "本机密钥已被吊销")
    remedy = Text(
        "Ask central ops why. For a revoked sign or tls key have the node reset at the"
        " centre, stop the service, `fep leave --here`, `fep enrol`, start it: what waits"
        " is sealed anew. Any other: `fep keys rotate`.",
        "请向中心了解原因。sign 或 tls 密钥被吊销时：由中心重置本节点，停止服务，执行"
        " `fep leave --here` 与 `fep enrol` 后启动，待发数据会重新封装；其他密钥执行"
        " `fep keys rotate`。",
    )


class KeysForked(OwnFault):
    """The exchange has key statements of this node that this machine did not make."""

    code = "keys-forked"
    title = Text(
        "Another machine changed this node's keys", "本节点的密钥已由另一台机器更换"
    )
    remedy = Text(
        "No key and no certificate of this machine can be changed any more. Either a"
        " second machine is at work as this node, or its keys were put back from an"
        " older backup: ask central ops which machine is to stay. On that one restore"
        " a newer backup; or have the node reset, stop the service, `fep leave --here`,"
        " `fep enrol`, start it.",
        "本机的密钥与证书均无法再更换：存在以本节点身份运行的另一台机器，或密钥来自较早的备份。"
        "请与中心确认保留哪台机器；在该机器上恢复较新的备份，或由中心重置本节点后停止服务，执行"
        " `fep leave --here` 与 `fep enrol`，再启动服务。",
    )


class PassphraseWrong(OperatorFault):
    """The passphrase does not open the keys."""

    code = "passphrase-wrong"
    title = Text("The passphrase does not open the keys", "口令不能打开密钥")
    remedy = Text(
        "Type it again, or take another backup.", "请重新输入口令，或改用其他备份。"
    )


class BackupUnfit(OperatorFault):
    """The file is no backup of this node's keys."""

    code = "backup-unfit"
    title = Text(
        "The file is no backup of this node's keys", "该文件不是本节点的密钥备份"
    )
    remedy = Text(
        "Give the file that `fep keys backup` wrote on this node, as it was written.",
        "请提供在本节点由 `fep keys backup` 生成且未改动的文件。",
    )


class KeysPresent(OperatorFault):
    """There are keys on the machine already."""

    code = "keys-present"
    title = Text("This machine has keys already", "本机已有密钥")
    remedy = Text(
        "A backup is for a machine without keys. To change keys use `fep keys rotate`; to"
        " give them up `fep leave`.",
        "备份只用于尚无密钥的机器。更换密钥用 `fep keys rotate`，放弃密钥用 `fep leave`。",
    )


class KeyElsewhere(OperatorFault):
    """A key that was to be changed or copied is in a credential or a token."""

    code = "key-elsewhere"
    title = Text("A key is not in a file of the agent", "密钥不在代理的文件中")
    remedy = Text(
        "Nothing was done. The agent neither changes nor copies keys in a credential or"
        " a token. Change the others by name, such as `fep keys rotate decrypt`. For"
        " those named see operating.md section 9.",
        "未做任何操作。代理不更换也不复制 systemd 凭据或密码设备中的密钥。其余密钥请按名称更换，如"
        " `fep keys rotate decrypt`；所列密钥请见 operating.md 第 9 节。",
    )


class PeerReset(PeerFault):
    """Another node has keys that do not follow from those that we knew."""

    code = "peer-reset"
    title = Text(
        "Another node has begun anew with other keys", "对方节点已更换全部密钥"
    )
    remedy = Text(
        "Its lookups wait. Ask its people, not by way of the exchange, whether they"
        " replaced the machine and compare the digest in `fep peers ls`; then `fep peers"
        " accept NODE`.",
        "该节点的查询已暂停。请通过其他渠道向对方核实是否更换过机器，并核对 `fep peers"
        " ls` 所示摘要，再执行 `fep peers accept 节点`。",
    )


class PeerUnknown(OperatorFault):
    """No node of this name waits to be accepted."""

    code = "peer-unknown"
    exit_code = 2
    title = Text("No such node waits to be accepted", "没有该节点等待接受")
    remedy = Text(
        "`fep peers ls` lists the nodes that wait.", "`fep peers ls` 列出等待的节点。"
    )


class CentralBusy(OperatorFault):
    """Another process publishes from this workspace."""

    code = "central-busy"
    title = Text("Somebody else is publishing", "另有进程正在发布")
    remedy = Text(
        "Wait until it has ended and call again; nothing was changed.",
        "请等其结束后重试；未作任何改动。",
    )


class NotWatched(OperatorFault):
    """A look at a rollout did not come to its end; whether it is bad is not known."""

    code = "central-not-watched"
    exit_code = 75
    title = Text("The rollout could not be looked at", "无法查看放量情况")
    remedy = Text(
        "Nothing was stopped. Call again; if it stays so, look at the exchange and at"
        " the workspace.",
        "未作制动。请重试；若持续如此，请检查交换中心与发布工作目录。",
    )


class CentralUnsigned(OperatorFault):
    """A draft needs more signatures; ``detail`` says of which role and by whom."""

    code = "central-unsigned"
    title = Text("The draft needs more signatures", "草案的签名不足")
    remedy = Text(
        "Carry the draft to those who are named: `fep central sign DRAFT --key FILE`."
        " Nothing was published.",
        "请将草案送所列人员签名：`fep central sign 草案 --key 文件`。未发布任何内容。",
    )


class CentralKeyForeign(OperatorFault):
    """A key has no part in what is drafted."""

    code = "central-key-foreign"
    title = Text("This key may not sign anything here", "该密钥无权签署此草案")
    remedy = Text(
        "`fep central diff` shows who may sign what. Nothing was signed.",
        "`fep central diff` 会列出各角色的签署人。未作任何签名。",
    )


class CentralStale(OperatorFault):
    """A draft is not the next version of what is published, or it is expired."""

    code = "central-stale"
    title = Text("The draft is out of date", "草案已过时")
    remedy = Text(
        "Another one was published meanwhile, or it waited too long. Draft it again with"
        " `--anew` and let it be signed again. Nothing was published.",
        "期间已有其他发布，或草案搁置过久。请加 `--anew` 重新起草并重新签名。未发布任何内容。",
    )


class CentralInvalid(OperatorFault):
    """A client would refuse what is published, or would be."""

    code = "central-invalid"
    title = Text("A client would refuse this repository", "客户端将拒绝该发布库")
    remedy = Text(
        "Nothing was published; what is served stays. Correct what is named, or bring"
        " the workspace back from its backup.",
        "未发布任何内容，原有内容继续提供。请更正所列问题，或从备份恢复工作目录。",
    )


class DocumentsInvalid(FilesInvalid):
    """Documents that agents would refuse; ``detail`` lists every fault."""

    code = "documents-invalid"
    title = Text("Documents cannot be published", "文档不可发布")
    remedy = Text(
        "Correct what is named, draft again, and let it be signed again. Nothing was"
        " published.",
        "请更正所列问题后重新起草并签名。未发布任何内容。",
    )


def all_errors() -> tuple[type[FepError], ...]:
    """Every class of the tree that can be raised, in order of definition."""
    found: list[type[FepError]] = []

    def walk(cls: type[FepError]) -> None:
        for sub in cls.__subclasses__():
            found.append(sub)
            walk(sub)

    walk(FepError)
    return tuple(cls for cls in found if "code" in vars(cls))


class ConfigOlder(PeerFault):
    """The centre's repository has an older generation than this node has seen."""

    code = "config-older"
    title = Text(
        "The centre sent an older configuration", "中心下发的配置比已见过的版本旧"
    )
    remedy = Text(
        "What runs goes on. The centre takes old content back by publishing it as a new"
        " generation; if it did not mean to, somebody may be replaying old files.",
        "当前配置继续运行。中心如需恢复旧内容，应以新的代次重新发布；若并非中心所为，"
        "可能有人重放旧文件。",
    )


class ConfigHalted(PeerFault):
    """The centre has stopped the generation that it wanted."""

    code = "config-halted"
    title = Text("The centre has stopped this configuration", "中心已叫停该配置")
    remedy = Text(
        "What runs goes on; the next generation is taken by itself.",
        "当前配置继续运行；下一代次将自动采用。",
    )


class ConfigWaits(PeerFault):
    """The ring of this node has not started."""

    code = "config-waits"
    title = Text(
        "A configuration of the centre waits for its turn", "中心配置等待本节点批次开始"
    )
    remedy = Text(
        "Nothing is to be done: it is taken when the ring of this node starts.",
        "无需处理：本节点所在批次开始后自动采用。",
    )


class ConfigHeld(OperatorFault):
    """A person of the department holds the configuration."""

    code = "config-held"
    title = Text(
        "A person holds the centre's configuration back", "管理员已暂缓采用中心配置"
    )
    remedy = Text(
        "It is taken when the hold ends; `fep config hold --release` ends it now.",
        "暂缓期满后自动采用；运行 `fep config hold --release` 可立即解除。",
    )


class ConfigUnfit(OperatorFault):
    """A configuration of the centre does not fit this machine or its sources."""

    code = "config-unfit"
    title = Text(
        "The centre's configuration does not fit here; the old one runs",
        "中心配置不适用于本机，继续运行原配置",
    )
    remedy = Text(
        "Look at `fep config diff` and `fep source check`, and tell the centre what is"
        " named. It is tried again by itself.",
        "请查看 `fep config diff` 与 `fep source check`，并将所列问题告知中心；系统会自动重试。",
    )


class EndpointUnproven(PeerFault):
    """An address that the centre wants to be used is not our exchange."""

    code = "endpoint-unproven"
    title = Text(
        "A new address of the exchange did not prove itself; the old ones are used",
        "新的交换中心地址未通过验证，继续使用原地址",
    )
    remedy = Text(
        "Look at the firewall and whether the address is right; tell the centre. It is"
        " tried again by itself.",
        "请检查防火墙及地址是否正确并告知中心；系统会自动重试。",
    )


class ConfigReverted(OperatorFault):
    """A configuration of the centre was tried and given up."""

    code = "config-reverted"
    title = Text(
        "The centre's configuration failed here; the one before runs again",
        "中心配置试运行失败，已自动恢复原配置",
    )
    remedy = Text(
        "Tell the centre what is named; another generation is tried again. `fep config"
        " history` has all that was tried.",
        "请将所列原因告知中心；新的代次会再次试用。`fep config history` 列出全部记录。",
    )


class DaemonDied(OwnFault):
    """The daemon ended again and again while a configuration was on probation."""

    code = "daemon-died"
    title = Text(
        "The service ended again and again with a new configuration",
        "采用新配置后服务反复退出",
    )
    remedy = Text(
        "The configuration before runs again. Report the journal lines around that"
        " time.",
        "已恢复原配置。请把该时刻前后的日志报给维护人员。",
    )
