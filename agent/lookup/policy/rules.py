# SPDX-License-Identifier: Apache-2.0
"""A policy that was loaded: every grant is compiled, checked and without rivals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from datetime import date

from agent.lookup.policy.pattern import Pattern
from agent.model.treatment import Treatment


@dataclass(frozen=True)
class Rule:
    """One grant, ready to judge by; see ``document.Grant``.

    Args:
        id: of the grant.
        consumers: departments.
        resource: code.
        ops: operations.
        keys: names of the key items, in the grant's order.
        purposes: purpose -> pattern of its basis.
        fields: item -> what is allowed of it.
        max_items: most items of one request.
        first, last: days of validity, included; None is open.
        note: for people.
    """

    id: str
    consumers: tuple[str, ...]
    resource: str
    ops: frozenset[str]
    keys: tuple[str, ...]
    purposes: Mapping[str, Pattern]
    fields: Mapping[str, Treatment]
    max_items: int
    first: date | None
    last: date | None
    note: str

    def holds(self, day: date) -> bool:
        """Whether the grant is valid on a day."""
        return (self.first is None or self.first <= day) and (
            self.last is None or day <= self.last
        )


_PASS = object()


@dataclass(frozen=True)
class Policy:
    """Grants of which at most one fits any request.

    Args:
        rules: in the order of the file; the order means nothing.
        permit: proof that :func:`checked` made it.
    """

    rules: tuple[Rule, ...]
    permit: InitVar[object] = None
    _about: dict[tuple[str, str], tuple[Rule, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self, permit: object) -> None:
        if permit is not _PASS and self.rules:
            raise ValueError("expected rules that were checked against each other")
        for rule in self.rules:
            for consumer in rule.consumers:
                about = (consumer, rule.resource)
                self._about[about] = (*self._about.get(about, ()), rule)

    def about(self, *, consumer: str, resource: str) -> tuple[Rule, ...]:
        """The grants that name a department and a resource."""
        return self._about.get((consumer, resource), ())


NOTHING = Policy(())
"""The policy without grants: it refuses everything."""


def checked(rules: tuple[Rule, ...]) -> Policy:
    """A policy of rules that ``load`` found no fault in; for ``load`` only."""
    return Policy(rules, permit=_PASS)
