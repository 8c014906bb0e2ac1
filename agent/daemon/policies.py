# SPDX-License-Identifier: Apache-2.0
"""The policy that judges, and the file that may become it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.audit.log import AuditLog
from agent.catalog.gate import Offer
from agent.errors import Fault, FepError, PolicyInvalid
from agent.lookup.flow import LookupFlow
from agent.lookup.policy import load as policies
from agent.lookup.policy.judge import Active
from agent.lookup.policy.rules import NOTHING

JsonObject = dict[str, Any]


@dataclass(frozen=True)
class Terms:
    """What a policy is loaded against.

    Args:
        file: where people write it.
        offers: what the gate opens for lookups, by code.
        shut: why it is shut for the others, by code.
    """

    file: Path
    offers: Mapping[str, Offer]
    shut: Mapping[str, str]

    def load(self, text: str) -> Active:
        """The policy of a text, under no revision yet.

        Raises:
            PolicyInvalid: with every fault.
        """
        found = policies.load(text, self.offers, shut=self.shut, file=str(self.file))
        return Active(0, found)


def in_force(log: AuditLog, terms: Terms) -> tuple[Active, PolicyInvalid | None]:
    """The active policy as it can be used today, and what is wrong with it.

    A policy that no longer fits the catalog refuses everything, under its own number.
    """
    kept = log.active()
    if kept is None:
        return Active(0, NOTHING), None
    try:
        return Active(kept.rev, terms.load(kept.text).policy), None
    except PolicyInvalid as e:
        return Active(kept.rev, NOTHING), e


class Policies:
    """Shows and activates policies.

    Args:
        log: remembers them.
        flow: judges by the active one.
        terms: see there.
        trouble: what is wrong with the active one.
    """

    def __init__(
        self,
        log: AuditLog,
        flow: LookupFlow,
        terms: Terms,
        *,
        trouble: PolicyInvalid | None,
    ) -> None:
        self._log = log
        self._flow = flow
        self._terms = terms
        self._turn = asyncio.Lock()
        self.trouble: FepError | None = trouble

    def standing(self) -> JsonObject:
        """For the status: revision, since when, whether the file is another text."""
        kept = self._log.active()
        try:
            digest = policies.digest(policies.read(self._terms.file))
            differs = digest != (kept.digest if kept else None)
        except PolicyInvalid:
            differs = True
        return {
            "rev": kept.rev if kept else 0,
            "activated_at": kept.activated_at if kept else None,
            "draft_differs": differs,
        }

    def show(self) -> JsonObject:
        """The active policy, the draft with its faults, and whether they differ."""
        kept = self._log.active()
        active = None
        if kept is not None:
            active = {
                "rev": kept.rev,
                "digest": kept.digest,
                "activated_at": kept.activated_at,
                "uid": kept.uid,
                "grants": len(self._flow.policy.policy.rules),
            }
        return {"active": active, "draft": self._draft(kept.digest if kept else None)}

    def _draft(self, active: str | None) -> JsonObject:
        digest: str | None = None
        faults: tuple[Fault, ...] = ()
        try:
            text = policies.read(self._terms.file)
            digest = policies.digest(text)
            self._terms.load(text)
        except PolicyInvalid as e:
            faults = e.faults
        return {
            "file": str(self._terms.file),
            "digest": digest,
            "differs": digest != active,
            "faults": [fault._asdict() for fault in faults],
        }

    async def renew(self, terms: Terms) -> None:
        """Hold the active policy against what the gate offers now.

        Args:
            terms: where the file is and what it is held against from now on.
        """
        async with self._turn:
            self._terms = terms
            async with self._flow.turning():
                active, self.trouble = await asyncio.to_thread(
                    in_force, self._log, terms
                )
                self._flow.use(active)

    async def activate(self, *, digest: str | None, uid: int) -> JsonObject:
        """Let the file judge from now on.

        Args:
            digest: of the text that was looked at; None takes whatever is there.
            uid: who asked.

        Raises:
            PolicyInvalid: the file has faults, or is another text; nothing changes.
            AuditWriteFailed: it could not be recorded; nothing changes.
        """
        async with self._turn:
            text = await asyncio.to_thread(policies.read, self._terms.file)
            found = policies.digest(text)
            if digest is not None and digest != found:
                raise PolicyInvalid("the file has changed since it was looked at")
            loaded = await asyncio.to_thread(self._terms.load, text)
            kept = self._log.active()
            changed = kept is None or kept.digest != found
            rev = kept.rev if kept else 0
            if changed:
                async with self._flow.turning():
                    rev = await self._log.activate(text, digest=found, uid=uid)
                    self._flow.use(Active(rev, loaded.policy))
            elif self.trouble is not None:
                self._flow.use(Active(rev, loaded.policy))
            self.trouble = None
        grants = len(loaded.policy.rules)
        return {"rev": rev, "digest": found, "changed": changed, "grants": grants}
