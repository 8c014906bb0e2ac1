# SPDX-License-Identifier: Apache-2.0
"""Keys, certificates and their life; peers that were reset."""

from __future__ import annotations

from agent.errors.tree import OperatorFault, OwnFault, PeerFault, Text


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
