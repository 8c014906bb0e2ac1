# SPDX-License-Identifier: Apache-2.0
"""Whether documents fit to each other and to what was stopped, before they go live.

Agents refuse a node's document whose group is not there, and take no generation that
was stopped: neither is published.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent.central import brake, shapes
from agent.central.change import Change
from agent.errors import Fault, MalformedMessage
from agent.wire import strict
from agent.wire.repository import group_file


def faults(change: Change) -> Iterable[Fault]:
    """What does not fit.

    Raises:
        CentralInvalid: a published file is damaged.
    """
    yield from _stopped(change)
    yield from _groups(change)


def _stopped(change: Change) -> Iterable[Fault]:
    numbered = [path for path in change.files if shapes.has_generation(path)]
    halted = brake.halted(change) if numbered else frozenset()
    for path in numbered:
        number = _body(change.files[path]).get("generation")
        if number in halted:
            yield Fault(path, "generation", "one that is not stopped", str(number))


def _groups(change: Change) -> Iterable[Fault]:
    """Of changed nodes; of every node if a group goes."""
    now = change.paths()
    before = set() if change.before is None else set(change.before.files)
    nodes = now if any(map(_is_group, before - now)) else now & change.files.keys()
    for path in sorted(nodes):
        if not path.startswith("nodes/"):
            continue
        listed = _body(change.as_now(path)).get("groups", [])
        for group in listed if isinstance(listed, list) else ():
            if not _published(group, now):
                yield Fault(path, "groups", "groups that are published", str(group))


def _is_group(path: str) -> bool:
    return path.startswith("groups/")


def _published(group: object, now: set[str]) -> bool:
    try:
        return group_file(str(group)) in now
    except ValueError:
        return False


def _body(content: bytes | None) -> dict[str, object]:
    """A document; who judges its shape tells what is wrong with it."""
    try:
        return strict.loads(content or b"{}")
    except MalformedMessage:
        return {}
