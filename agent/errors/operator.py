# SPDX-License-Identifier: Apache-2.0
"""What a person has to settle: rights, gates, or a command that cannot be done."""

from __future__ import annotations

from agent.errors.tree import OperatorFault, Text


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
