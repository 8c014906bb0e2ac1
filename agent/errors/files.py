# SPDX-License-Identifier: Apache-2.0
"""Files that people write and that cannot be used, with every fault of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from agent.errors.tree import OperatorFault, Text


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


class DocumentsInvalid(FilesInvalid):
    """Documents that agents would refuse; ``detail`` lists every fault."""

    code = "documents-invalid"
    title = Text("Documents cannot be published", "文档不可发布")
    remedy = Text(
        "Correct what is named, draft again, and let it be signed again. Nothing was"
        " published.",
        "请更正所列问题后重新起草并签名。未发布任何内容。",
    )
