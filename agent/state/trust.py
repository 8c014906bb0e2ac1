# SPDX-License-Identifier: Apache-2.0
"""What the city's TUF repository said last, and below which versions it may not fall.

Kept beside the metadata's own folder, in another file: who deletes that folder, or puts
back an old copy of it, rolls nothing back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from sqlite_utils import Database

from agent.state.database import Connection

MOST_STOPPED = 20_000
"""Most keys, most nodes and most generations that are remembered as stopped. What is
beyond that is stopped while the repository says so: a thief who lists very many fills
the memory, not the disk."""
_KINDS = ("kid", "node", "generation")
_COUNT = "SELECT count(*) FROM tuf_stopped WHERE pin = ? AND kind = ?"
_ADD = "INSERT OR IGNORE INTO tuf_stopped (pin, kind, name, at) VALUES (?, ?, ?, ?)"
_STOPPED = "SELECT kind, name, at FROM tuf_stopped WHERE pin = ?"


@dataclass(frozen=True)
class KeptRole:
    """One role's metadata.

    Args:
        role: its name.
        version: of its metadata.
        keys: ids of the keys that a fall of its version must have to do with, sorted.
            While one of them is still good, the version only grows.
        expires: when the metadata expires, wire grammar; None if it was not part of
            what was verified last.
    """

    role: str
    version: int
    keys: tuple[str, ...]
    expires: str | None


@dataclass(frozen=True)
class KeptTrust:
    """What was verified last.

    Args:
        at: when it was last found to be the newest, wire grammar.
        roles: its metadata.
        files: target path -> SHA-256 of the content, lower hex.
    """

    at: str
    roles: tuple[KeptRole, ...]
    files: Mapping[str, str]


@dataclass(frozen=True)
class Stopped:
    """What the repository ever stopped: nobody lifts it by saying it no more.

    Args:
        kids: revoked key -> since when, wire grammar.
        nodes: revoked node -> since when.
        generations: of configuration, halted.
    """

    kids: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, str] = field(default_factory=dict)
    generations: frozenset[int] = frozenset()

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """Kind, name and time of each."""
        yield from (("kid", kid, at) for kid, at in self.kids.items())
        yield from (("node", node, at) for node, at in self.nodes.items())
        yield from (("generation", str(n), "") for n in self.generations)


class Trusts:
    """What is known of the repository, in the state; by the pinned root's digest.

    Args:
        connection: of the state.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def floors(self, pin: str) -> Mapping[str, KeptRole]:
        """Role -> the highest that was ever verified, whether still in use or not."""
        with self._connection.transaction() as db:
            found = db.execute(
                "SELECT role, version, keys, expires FROM tuf_roles WHERE pin = ?",
                [pin],
            ).fetchall()
        return {row[0]: _role(*row) for row in found}

    def keep(self, pin: str, kept: KeptTrust, stopped: Stopped | None = None) -> None:
        """What was verified now.

        Of roles that are not in it the floors stay; what was stopped stays stopped.
        """
        with self._connection.transaction() as db:
            db.execute("UPDATE tuf_roles SET expires = NULL WHERE pin = ?", [pin])
            for role in kept.roles:
                db.execute(
                    "INSERT OR REPLACE INTO tuf_roles"
                    " (pin, role, version, keys, expires) VALUES (?, ?, ?, ?, ?)",
                    _row(pin, role),
                )
            self._stop(db, pin, Stopped() if stopped is None else stopped)
            db.execute("DELETE FROM tuf_files")
            for file in kept.files.items():
                db.execute("INSERT INTO tuf_files (path, sha256) VALUES (?, ?)", file)
            db.execute("DELETE FROM tuf_kept")
            db.execute("INSERT INTO tuf_kept (pin, at) VALUES (?, ?)", [pin, kept.at])

    def _stop(self, db: Database, pin: str, stopped: Stopped) -> None:
        """Add what is new; of each kind there are at most :data:`MOST_STOPPED`."""
        room = {
            kind: MOST_STOPPED - db.execute(_COUNT, [pin, kind]).fetchone()[0]
            for kind in _KINDS
        }
        for kind, name, at in stopped.rows():
            if room[kind] > 0:
                room[kind] -= db.execute(_ADD, [pin, kind, name, at]).rowcount

    def stopped(self, pin: str) -> Stopped:
        """What was ever stopped under this pin."""
        found: dict[str, dict[str, str]] = {kind: {} for kind in _KINDS}
        with self._connection.transaction() as db:
            for kind, name, at in db.execute(_STOPPED, [pin]).fetchall():
                found[kind][name] = at
        generations = frozenset(int(n) for n in found["generation"])
        return Stopped(found["kid"], found["node"], generations)

    def kept(self, pin: str) -> KeptTrust | None:
        """What was verified last under this pin, or None."""
        with self._connection.transaction() as db:
            at = db.execute("SELECT at FROM tuf_kept WHERE pin = ?", [pin]).fetchone()
            if at is None:
                return None
            files = db.execute("SELECT path, sha256 FROM tuf_files").fetchall()
            roles = db.execute(
                "SELECT role, version, keys, expires FROM tuf_roles"
                " WHERE pin = ? AND expires IS NOT NULL",
                [pin],
            ).fetchall()
        return KeptTrust(at[0], tuple(_role(*row) for row in roles), dict(files))


def falls(floors: Mapping[str, KeptRole], found: Iterable[KeptRole]) -> list[str]:
    """What of these is older than what was verified before: role, expected, got."""
    return [
        f"{role.role}: expected version {floor.version} or later, got {role.version}"
        for role in found
        if (floor := floors.get(role.role)) is not None
        and role.version < floor.version
        and (not floor.keys or not frozenset(floor.keys).isdisjoint(role.keys))
    ]


def _role(role: str, version: int, keys: str, expires: str | None) -> KeptRole:
    return KeptRole(role, version, tuple(keys.split()), expires)


def _row(pin: str, role: KeptRole) -> list[str | int | None]:
    return [pin, role.role, role.version, " ".join(role.keys), role.expires]
