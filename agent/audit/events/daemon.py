# SPDX-License-Identifier: Apache-2.0
"""The daemon itself: start and stop, settings, resources, disk; what admins did."""

from __future__ import annotations

from dataclasses import dataclass

from agent.audit.events.event import Event, Recorded


@dataclass(frozen=True)
class DaemonReady(Event):
    """Spool and state are recovered; systemd was told READY."""

    name = "daemon.ready"
    version: str
    resources: int


@dataclass(frozen=True)
class DaemonStopping(Event):
    """A signal asked the daemon to stop."""

    name = "daemon.stopping"
    signal: str
    hurried: bool


@dataclass(frozen=True)
class AdminAction(Recorded):
    """Somebody used the local socket to change something, or to see evidence."""

    name = "admin.action"
    uid: int
    action: str
    resource: str | None


@dataclass(frozen=True)
class SecretChanged(Event):
    """A secret's file changed and was read again."""

    name = "secret.changed"
    key: str


@dataclass(frozen=True)
class ConfigReloaded(Event):
    """Changed files hold now.

    Args:
        changed: parts that are not as they were.
        restart: keys that wait for a restart.
    """

    name = "config.reloaded"
    digest: str
    changed: tuple[str, ...]
    restart: tuple[str, ...]


@dataclass(frozen=True)
class ConfigRefused(Event):
    """Changed files have faults; the old settings go on."""

    name = "config.broken"
    level = "error"
    faults: tuple[str, ...]


@dataclass(frozen=True)
class ResourceOpened(Event):
    """The gate lets a resource leave that it did not let before."""

    name = "resource.opened"
    resource: str


@dataclass(frozen=True)
class ResourceClosed(Event):
    """The gate is shut for a resource: nothing of it leaves from now on."""

    name = "resource.closed"
    level = "warning"
    resource: str
    why: str


@dataclass(frozen=True)
class BallastChanged(Event):
    """The reserve of the disk was given up, or made again.

    Args:
        held: it is there.
        free: bytes left on the disk.
    """

    name = "disk.reserve"
    level = "warning"
    held: bool
    free: int
