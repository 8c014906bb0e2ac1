# SPDX-License-Identifier: Apache-2.0
"""Connectors by name: whatever is installed under the entry point group."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import cast

from agent.errors import ConfigInvalid
from connectors.contract import API, Connector

GROUP = "fep.connectors"


def names() -> tuple[str, ...]:
    """Names of the installed connectors, sorted; none of them is loaded."""
    return tuple(sorted({point.name for point in entry_points(group=GROUP)}))


@dataclass(frozen=True)
class Installed:
    """A connector that is installed.

    Args:
        name: as settings say it.
        package: the distribution that brings it, or None.
        version: of that, or None.
        connector: loaded; None if it cannot be used.
        trouble: why not, or None.
    """

    name: str
    package: str | None
    version: str | None
    connector: Connector | None
    trouble: str | None


def installed() -> tuple[Installed, ...]:
    """All connectors, sorted by name, each loaded."""
    return tuple(sorted(map(_loaded, entry_points(group=GROUP)), key=lambda i: i.name))


def _loaded(point: EntryPoint) -> Installed:
    dist = point.dist
    package, version = (None, None) if dist is None else (dist.name, dist.version)
    try:
        return Installed(point.name, package, version, find(point.name), None)
    except ConfigInvalid as e:
        return Installed(point.name, package, version, None, e.detail)
    except Exception as e:  # noqa: BLE001 - a foreign module may raise anything
        return Installed(point.name, package, version, None, type(e).__name__)


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
