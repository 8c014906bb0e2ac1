# SPDX-License-Identifier: Apache-2.0
"""Connectors by name: whatever is installed under the entry point group."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import cast

from agent.errors import ConfigInvalid
from connectors.contract import API, Connector

GROUP = "fep.connectors"


def names() -> tuple[str, ...]:
    """Names of the installed connectors, sorted; none of them is loaded."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


def find(name: str) -> Connector:
    """The connector called ``name``, loaded.

    Raises:
        ConfigInvalid: none has this name, it cannot be imported, or it is written for
            another version of the contract.
    """
    for point in entry_points(group=GROUP, name=name):
        try:
            connector = cast("Connector", point.load())
        except ImportError as e:
            raise ConfigInvalid(
                f"connector {name!r} is installed but lacks the package {e.name!r}"
            ) from e
        if connector.api != API:
            raise ConfigInvalid(
                f"connector {name!r} is written for contract {connector.api},"
                f" this agent speaks {API}"
            )
        return connector
    raise ConfigInvalid(
        f"no connector is called {name!r}; installed: {', '.join(names()) or 'none'}"
    )
