# SPDX-License-Identifier: Apache-2.0
"""Configuration of the centre: made by its people, taken or refused by nodes."""

from __future__ import annotations

from agent.errors.tree import OperatorFault, OwnFault, PeerFault, Text


class CentralBusy(OperatorFault):
    """Another process publishes from this workspace."""

    code = "central-busy"
    title = Text("Somebody else is publishing", "另有进程正在发布")
    remedy = Text(
        "Wait until it has ended and call again; nothing was changed.",
        "请等其结束后重试；未作任何改动。",
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
