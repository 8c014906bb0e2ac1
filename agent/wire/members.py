# SPDX-License-Identifier: Apache-2.0
"""Reading the members of a JSON object by name, type and range.

Every complaint names the member, what was expected and what was got; text of others is
quoted up to 64 characters.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, NoReturn

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import is_time


def kind(value: object) -> str:
    """What a JSON value is, without a word of what it holds."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    if isinstance(value, int) and not isinstance(value, bool):
        return "a number"
    return shown(value)


def shown(value: object) -> str:
    """A JSON value in a complaint: short, and never the whole of a long text."""
    if isinstance(value, str):
        return repr(value) if len(value) <= 64 else f"text of {len(value)} characters"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, int):
        return str(value)
    return "an object" if isinstance(value, dict) else "an array"


@cache
def _split(names: str) -> frozenset[str]:
    """Names that stand in the code, separated by blanks."""
    return frozenset(names.split())


class Members:
    """The members of one object.

    Args:
        value: what stands where the object should be.
        at: its place, such as ``manifest.stream``.
        names: the members that must be there, separated by blanks.
        optional: the members that may be absent.
        open_ended: whether unknown members are ignored instead of refused.
        personal: whether values may be personal: then no complaint quotes them.

    Raises:
        MalformedMessage: no object, a member is missing or unknown; the reading methods
            raise it when a value does not fit.
    """

    def __init__(
        self,
        value: object,
        at: str,
        names: str,
        *,
        optional: str = "",
        open_ended: bool = False,
        personal: bool = False,
    ) -> None:
        self.at = at
        self._personal = personal
        self._shown = kind if personal else shown
        if not isinstance(value, dict):
            raise MalformedMessage(
                f"{at}: expected an object, got {self._shown(value)}"
            )
        self._obj: dict[str, Any] = value
        wanted = _split(names)
        if missing := wanted - value.keys():
            raise MalformedMessage(f"{at}: missing {', '.join(sorted(missing))}")
        if open_ended or len(value) == len(wanted):
            return
        unknown = value.keys() - wanted - _split(optional)
        if unknown:
            raise MalformedMessage(f"{at}: unknown member {self._shown(min(unknown))}")

    def fail(self, name: str, expected: str) -> NoReturn:
        """Complain about a member."""
        got = self._shown(self._obj.get(name))
        raise MalformedMessage(f"{self.at}.{name}: expected {expected}, got {got}")

    def has(self, name: str) -> bool:
        """Whether an optional member is there."""
        return name in self._obj

    def null(self, name: str) -> bool:
        """Whether a member is ``null``."""
        return self._obj[name] is None

    @property
    def whole(self) -> dict[str, Any]:
        """The object as it is."""
        return self._obj

    def raw(self, name: str) -> Any:
        """A member as it is."""
        return self._obj[name]

    def integer(
        self, name: str, *, least: int = 0, most: int = strict.LIMIT - 1
    ) -> int:
        """An integer of a range."""
        value = self._obj[name]
        if type(value) is not int or not least <= value <= most:
            self.fail(name, f"an integer from {least} to {most}")
        return value

    def boolean(self, name: str) -> bool:
        """``true`` or ``false``."""
        value = self._obj[name]
        if type(value) is not bool:
            self.fail(name, "true or false")
        return value

    def text(self, name: str, *, least: int = 1, most: int = 256) -> str:
        """A free string, length in code points."""
        value = self._obj[name]
        if not isinstance(value, str) or not least <= len(value) <= most:
            self.fail(name, f"text of {least} to {most} characters")
        return value

    def match(self, name: str, pattern: re.Pattern[str]) -> str:
        """Text that a pattern of the grammar matches wholly."""
        value = self._obj[name]
        if not isinstance(value, str) or not pattern.fullmatch(value):
            self.fail(name, f"text like {pattern.pattern}")
        return value

    def time(self, name: str) -> str:
        """A time of the grammar."""
        value = self._obj[name]
        if not isinstance(value, str) or not is_time(value):
            self.fail(name, "a time like 2026-11-21T08:00:00Z")
        return value

    def choice(self, name: str, *options: str) -> str:
        """One of a closed list."""
        value = self._obj[name]
        if not isinstance(value, str) or value not in options:
            self.fail(name, " or ".join(options))
        return value

    def array(self, name: str, *, least: int = 0, most: int = 1 << 20) -> list[Any]:
        """An array of so many values."""
        value = self._obj[name]
        if not isinstance(value, list) or not least <= len(value) <= most:
            self.fail(name, f"an array of {least} to {most} values")
        return value

    def inner(
        self, name: str, names: str, *, optional: str = "", open_ended: bool = False
    ) -> Members:
        """An object inside this one."""
        return Members(
            self._obj[name],
            f"{self.at}.{name}",
            names,
            optional=optional,
            open_ended=open_ended,
            personal=self._personal,
        )

    def objects(self, name: str, names: str) -> list[Members]:
        """An array of objects with these members; unknown ones are ignored."""
        return [
            Members(value, f"{self.at}.{name}[{i}]", names, open_ended=True)
            for i, value in enumerate(self.array(name))
        ]


def read(
    payload: bytes,
    at: str,
    names: str,
    *,
    optional: str = "",
    open_ended: bool = False,
    personal: bool = False,
) -> Members:
    """The members of a payload, whose ``v`` must be 1.

    Args:
        payload: the bytes of a verified message.
        at: the message's name in complaints.
        names: its members besides ``v``.
        optional: the members that may be absent.
        open_ended: whether unknown members are ignored.
        personal: whether no complaint may quote a value.

    Raises:
        MalformedMessage: the payload breaks a rule.
    """
    members = Members(
        strict.loads(payload),
        at,
        f"v {names}",
        optional=optional,
        open_ended=open_ended,
        personal=personal,
    )
    members.integer("v", least=1, most=1)
    return members
