# SPDX-License-Identifier: Apache-2.0
"""A connector whose drivers are imported with its first call.

The daemon loads every connector to ask for its settings and must stay small.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from connectors.contract import (
    API,
    Caps,
    Finding,
    FoundTable,
    Health,
    Limits,
    LookupSession,
    LookupSpec,
    Session,
    StreamSpec,
)


class Parts(NamedTuple):
    """What a connector does; each as :class:`connectors.contract.Connector` says."""

    check: Callable[[Mapping[str, Any], Sequence[StreamSpec]], list[Finding]]
    discover: Callable[[Mapping[str, Any]], list[FoundTable]]
    capabilities: Callable[[Mapping[str, Any], StreamSpec], Caps]
    open: Callable[[Mapping[str, Any], Limits], AbstractContextManager[Session]]


class LookupParts(NamedTuple):
    """What answers lookups, as :class:`connectors.contract.LookupConnector` says."""

    lookup: Callable[[Mapping[str, Any], Limits], AbstractContextManager[LookupSession]]
    check: Callable[[Mapping[str, Any], Sequence[LookupSpec]], list[Finding]]


Feel = Callable[[Mapping[str, Any]], Health]
"""Says how a source feels, as :class:`connectors.contract.FeelingConnector` does."""


class LazyReader:
    """A connector that only reads, over parts that are imported when they are needed.

    Args:
        name: of the connector, as settings say it.
        spec: JSON Schema of the source's settings.
        parts: imports the modules that do the work.
        feel: imports what says how the source feels; None: nobody can say.

    Attributes:
        health: see the contract; None where nobody can say.
    """

    api = API

    def __init__(
        self,
        name: str,
        spec: Mapping[str, Any],
        parts: Callable[[], Parts],
        *,
        feel: Callable[[], Feel] | None = None,
    ) -> None:
        self.name = name
        self._spec = spec
        self._parts = parts
        self.health: Feel | None = None
        if feel is not None:
            self.health = lambda config: feel()(config)

    def spec(self) -> Mapping[str, Any]:
        """See the contract."""
        return self._spec

    def prepare(self) -> None:
        """See the contract."""
        self._parts()

    def check(
        self, config: Mapping[str, Any], streams: Sequence[StreamSpec]
    ) -> list[Finding]:
        """See the contract."""
        return self._parts().check(config, streams)

    def discover(self, config: Mapping[str, Any]) -> list[FoundTable]:
        """See the contract."""
        return self._parts().discover(config)

    def capabilities(self, config: Mapping[str, Any], stream: StreamSpec) -> Caps:
        """See the contract."""
        return self._parts().capabilities(config, stream)

    def open(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[Session]:
        """See the contract."""
        return self._parts().open(config, limits)


class LazyConnector(LazyReader):
    """The contract's connector, lookups included, over parts that are imported.

    Args:
        name: of the connector, as settings say it.
        spec: JSON Schema of the source's settings.
        parts: imports the modules that do the work.
        lookup: imports what answers lookups: less than a run needs.
        feel: imports what says how the source feels; None: nobody can say.
    """

    def __init__(
        self,
        name: str,
        spec: Mapping[str, Any],
        parts: Callable[[], Parts],
        *,
        lookup: Callable[[], LookupParts],
        feel: Callable[[], Feel] | None = None,
    ) -> None:
        super().__init__(name, spec, parts, feel=feel)
        self._lookup = lookup

    def lookup(
        self, config: Mapping[str, Any], limits: Limits
    ) -> AbstractContextManager[LookupSession]:
        """See the contract."""
        return self._lookup().lookup(config, limits)

    def check_lookup(
        self, config: Mapping[str, Any], specs: Sequence[LookupSpec]
    ) -> list[Finding]:
        """See the contract."""
        return self._lookup().check(config, specs)
