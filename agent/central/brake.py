# SPDX-License-Identifier: Apache-2.0
"""What can be stopped at once with the key that lies online: keys, nodes, rollouts.

Nothing is ever let go again here: who was revoked enrols anew, and a halted generation
is followed by another one.
"""

from __future__ import annotations

import re

from agent.central import shapes
from agent.central.change import Change
from agent.errors import UsageFault
from agent.wire import directory, strict
from agent.wire.directory import RevokedFile
from agent.wire.grammar import KID, NODE, format_time
from agent.wire.repository import HALT_FILE, REVOKED_FILE
from agent.wire.rollout import halt_file, parse_halt

_DIRECTORY = re.compile(r"directory/[^/]+\.json")


def begin(change: Change) -> None:
    """The brake's first word: nothing is stopped."""
    change.put(REVOKED_FILE, shapes.dumps(RevokedFile({}, {}).as_object()))
    change.put(HALT_FILE, halt_file(()))


def is_known(change: Change, name: str) -> bool:
    """Whether the published directory knows a node or a key.

    Raises:
        CentralInvalid: what is published is damaged.
    """
    for path in sorted(filter(_DIRECTORY.fullmatch, change.paths())):
        department = path.removeprefix("directory/").removesuffix(".json")
        body = strict.loads(change.as_before(path) or b"{}")
        for node in directory.parse_department(body, department).nodes:
            if name == node.node or any(name == key.kid for key in node.keys):
                return True
    return False


def revoke(change: Change, name: str) -> bool:
    """Revoke a key id or a node; False if it is revoked already.

    Raises:
        UsageFault: it is neither.
        CentralInvalid: what is published is damaged.
    """
    known = change.as_before(REVOKED_FILE)
    found = RevokedFile({}, {})
    if known is not None:
        found = directory.parse_revoked(strict.loads(known))
    kids, nodes = dict(found.kids), dict(found.nodes)
    at = format_time(change.now.replace(microsecond=0))
    if NODE.fullmatch(name):
        nodes.setdefault(name, at)
    elif KID.fullmatch(name):
        kids.setdefault(name, at)
    else:
        raise UsageFault(f"{name[:64]}: expected a node or a key id")
    body = RevokedFile(kids, nodes).as_object()
    return change.put(REVOKED_FILE, shapes.dumps(body))


def halted(change: Change) -> frozenset[int]:
    """Generations that are stopped.

    Raises:
        CentralInvalid: what is published is damaged.
    """
    known = change.as_before(HALT_FILE)
    return frozenset() if known is None else parse_halt(known)


def halt(change: Change, generation: int) -> bool:
    """Stop a generation; False if it is stopped already.

    Raises:
        UsageFault: no generation.
        CentralInvalid: what is published is damaged.
    """
    if generation < 1:
        raise UsageFault(f"generation: expected 1 or more, got {generation}")
    return change.put(HALT_FILE, halt_file(halted(change) | {generation}))
