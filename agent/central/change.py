# SPDX-License-Identifier: Apache-2.0
"""What a publication would change, before anybody signs it.

Rules

1. A role whose word changes gets the next version, once, and loses its signatures.
2. A role speaks only of paths that are its own; the client would not look at others.
3. Who changes the holders of a role makes that role speak anew as well, so that its
   word is signed by those who hold it now.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tuf.api.metadata import Metadata, TargetFile, Targets

from agent.central import roles, standing
from agent.central.roles import Holders, Terms
from agent.central.standing import Signed, Standing
from agent.errors import UsageFault
from agent.wire.repository import (
    BRAKE,
    DIRECTORY,
    DIRECTORY_CAP,
    FILE_CAP,
    RELEASES,
    TOP,
)


@dataclass
class Change:
    """Words that are new, and files that they speak of.

    Args:
        before: what is published, None before the first publication.
        terms: how long words hold.
        now: aware UTC.
        words: new metadata by role.
        files: content of new or changed files by path.
    """

    before: Standing | None
    terms: Terms
    now: datetime
    words: dict[str, Metadata[Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)

    def newest(self, role: str) -> Metadata[Any] | None:
        """The word of a role as it would be, None if it has none."""
        if role in self.words:
            return self.words[role]
        return None if self.before is None else self.before.metadata.get(role)

    def word(self, role: str) -> Metadata[Any]:
        """The next word of a role, to be changed by the caller."""
        if role not in self.words:
            known = self.newest(role)
            if known is None:
                self.words[role] = roles.new_targets(self.terms.until(role, self.now))
            else:
                self.words[role] = copy.deepcopy(known)
                roles.renew(self.words[role], role, self.terms, self.now)
        self.words[role].signatures.clear()
        return self.words[role]

    def begin(self, holders: Mapping[str, Holders]) -> None:
        """The first words of all: root, and every role but departments'."""
        until = self.terms.until("root", self.now)
        self.words["root"] = roles.new_root(holders, until)
        for role in (BRAKE, DIRECTORY, RELEASES):
            roles.hold_delegated(self.word("targets").signed, role, holders[role])
            if role != BRAKE:
                self.word(role)

    def hold(self, role: str, holders: Holders) -> None:
        """Let others hold a role.

        Raises:
            UsageFault: there is no such role, or it has no keys yet.
        """
        if not roles.known_role(role):
            raise UsageFault(f"{role[:64]}: no role of this name")
        if roles.delegator_of(role) == "root":
            roles.hold_top(self.word("root").signed, role, holders)
        else:
            roles.hold_delegated(self.word("targets").signed, role, holders)
        if role != "root" and not roles.is_online(role):
            self.word(role)

    def held(self, role: str) -> Holders:
        """Who holds a role.

        Raises:
            UsageFault: nobody does.
        """
        above = self.newest(roles.delegator_of(role))
        if above is None or not _holds(above.signed, role):
            raise UsageFault(f"{role[:64]}: nobody holds a role of this name")
        signed = above.signed
        known = signed.keys if role in TOP else signed.delegations.keys
        found = signed.get_delegated_role(role)
        return Holders(tuple(known[k] for k in found.keyids), found.threshold)

    def put(self, path: str, content: bytes) -> bool:
        """Let a file say this; False if it says so already.

        Raises:
            UsageFault: no role may say it, or it is too long.
        """
        role = roles.role_of(path)
        self._held(role)
        cap = DIRECTORY_CAP if role == DIRECTORY else FILE_CAP
        if role == RELEASES:
            cap = standing.TARGET_CAP
        if len(content) > cap:
            raise UsageFault(
                f"{path}: expected at most {cap} bytes, got {len(content)}"
            )
        found = TargetFile.from_data(path, content, ["sha256"])
        known = self.newest(role)
        if known is not None and known.signed.targets.get(path) == found:
            return False
        self.word(role).signed.targets[path] = found
        self.files[path] = content
        return True

    def remove(self, path: str) -> None:
        """Let a file be no more.

        Raises:
            UsageFault: there is none.
        """
        role = roles.role_of(path)
        known = self.newest(role)
        if known is None or path not in known.signed.targets:
            raise UsageFault(f"{path}: is not published")
        del self.word(role).signed.targets[path]
        self.files.pop(path, None)

    def _held(self, role: str) -> None:
        targets = self.newest("targets")
        if role == "targets" or targets is None:
            return
        if role not in roles.delegated(targets.signed):
            raise UsageFault(
                f"{role}: has no keys yet; `fep central member` gives it some"
            )

    def signed(self) -> tuple[Signed, ...]:
        """How far each new word is signed, root first."""
        return tuple(self._signed(role) for role in order(self.words))

    def _signed(self, role: str) -> Signed:
        above = self.newest("root" if role == "root" else roles.delegator_of(role))
        if above is None or not _holds(above.signed, role):
            raise UsageFault(f"{role}: nobody says who holds it")
        old = None if self.before is None else self.before.root
        return standing.verified(
            role, self.words[role], old=old, delegator=above.signed
        )

    def holders(self, role: str) -> frozenset[str]:
        """Ids of the keys that have a part in a new word of a role."""
        above = [self.newest("root" if role == "root" else roles.delegator_of(role))]
        if role == "root" and self.before is not None:
            above.append(self.before.metadata["root"])
        return frozenset(
            keyid
            for found in above
            if found is not None and _holds(found.signed, role)
            for keyid in found.signed.get_delegated_role(role).keyids
        )

    def published(self, path: str) -> bool:
        """Whether a file would be the one that is published already."""
        known = None if self.before is None else self.before.files.get(path)
        found = self.targets_of(roles.role_of(path)).get(path)
        return known is not None and known == found

    def as_before(self, path: str) -> bytes | None:
        """What a file says until now, None if there is none.

        Raises:
            CentralInvalid: it is damaged.
        """
        if self.before is None or path not in self.before.files:
            return None
        return self.before.content(path)

    def as_now(self, path: str) -> bytes | None:
        """What a file would say, None if there would be none.

        Raises:
            CentralInvalid: it is damaged.
        """
        if path in self.files:
            return self.files[path]
        known = self.newest(roles.role_of(path))
        gone = known is None or path not in known.signed.targets
        return None if gone else self.as_before(path)

    def paths(self) -> set[str]:
        """Every file that there would be."""
        targets = self.newest("targets")
        held = () if targets is None else roles.delegated(targets.signed)
        return {p for role in ("targets", *held) for p in self.targets_of(role)}

    def targets_of(self, role: str) -> Mapping[str, TargetFile]:
        """The files of a role as they would be."""
        found = self.newest(role)
        if found is None or not isinstance(found.signed, Targets):
            return {}
        return found.signed.targets


def _holds(above: Any, role: str) -> bool:
    if isinstance(above, Targets):
        return role in roles.delegated(above)
    return role in above.roles


def order(names: Iterable[str]) -> list[str]:
    """Roles as people sign them: root, targets, then by name."""
    first = {"root": 0, "targets": 1}
    return sorted(names, key=lambda role: (first.get(role, 2), role))
