# SPDX-License-Identifier: Apache-2.0
"""What the exchange, the network or somebody in between did."""

from __future__ import annotations

from agent.errors.tree import PeerFault, Text


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
