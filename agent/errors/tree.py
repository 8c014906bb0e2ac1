# SPDX-License-Identifier: Apache-2.0
"""The root of the tree, its four branches, and what every error carries."""

from __future__ import annotations

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


class OwnFault(FepError):
    """The agent's own state, disk or worker."""


class PeerFault(FepError):
    """The exchange, the line, or somebody in between."""


class SourceFault(FepError):
    """The department's database or the way to it. Other resources go on."""


class OperatorFault(FepError):
    """Settings, catalog, rights, or a command that cannot be done."""


def all_errors() -> tuple[type[FepError], ...]:
    """Every class of the tree that can be raised, in order of definition."""
    found: list[type[FepError]] = []

    def walk(cls: type[FepError]) -> None:
        for sub in cls.__subclasses__():
            found.append(sub)
            walk(sub)

    walk(FepError)
    return tuple(cls for cls in found if "code" in vars(cls))
