# SPDX-License-Identifier: Apache-2.0
"""What the files say, as one value; and the value that holds now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from agent import registry, settings
from agent.catalog.document import Resource
from agent.catalog.folder import load_file, load_folder
from agent.catalog.gate import Offer, Outgoing, closed, leave, offers, refused
from agent.control import ceiling as ceilings
from agent.control.ceiling import Ceiling
from agent.control.overlay import Overlay
from agent.daemon.effective import Kept, effective, running
from agent.errors import CatalogInvalid, ConfigInvalid, Fault, FepError
from agent.model.place import Allowed, Place
from agent.settings import Settings

V = TypeVar("V")

TRIES = 5
"""So often files are read again because they changed meanwhile."""


@dataclass(frozen=True)
class Work:
    """What the files say.

    Args:
        config: the settings file.
        settings: of the agent.
        outgoing: what the gate lets leave.
        names: resource -> its name, of what may leave.
        kept: resource -> why the gate is shut for it.
        offers: what the gate opens for lookups.
        shut: resource -> why it is shut for lookups.
        digest: of all these files, ``sha256:<hex>``.
        ceiling: what the centre may set.
        overlay: what the centre has set; None: nothing, or nothing that may hold.
        refused: why what the centre had set does not hold, or not all of it.
        barred: resource -> why it is not sent though its document lets it leave.
    """

    config: Path
    settings: Settings
    outgoing: tuple[Outgoing, ...]
    names: Mapping[str, str]
    kept: Mapping[str, str]
    offers: Mapping[str, Offer]
    shut: Mapping[str, str]
    digest: str
    ceiling: Ceiling
    overlay: Overlay | None = None
    refused: FepError | None = None
    barred: Mapping[str, str] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """All codes of the catalogue, those too whose gate is shut."""
        return frozenset(o.resource for o in self.outgoing) | self.kept.keys()


class Board:
    """The work that holds now; what must follow a change reads it here.

    Args:
        work: what holds at the start.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    @property
    def work(self) -> Work:
        """What holds now."""
        return self._work

    @property
    def settings(self) -> Settings:
        """The settings that hold now."""
        return self._work.settings

    def turn(self, work: Work) -> None:
        """Let other work hold from now on, all of it at once."""
        self._work = work

    def outgoing(self, resource: str) -> Outgoing:
        """What may leave of a resource now.

        Raises:
            KeyError: nothing may.
        """
        for one in self._work.outgoing:
            if one.resource == resource:
                return one
        raise KeyError(resource)


class Live(Mapping[str, V]):
    """A mapping as it stands at every look.

    Args:
        now: gives the one that holds now.
    """

    def __init__(self, now: Callable[[], Mapping[str, V]]) -> None:
        self._now = now

    def __getitem__(self, key: str) -> V:
        """The value of now."""
        return self._now()[key]

    def __iter__(self) -> Iterator[str]:
        """The keys of now."""
        return iter(self._now())

    def __len__(self) -> int:
        """How many there are now."""
        return len(self._now())


def load(config: Path) -> Work:
    """Settings, what the gate lets leave, and what it does not.

    What changes while it is read is read again, so that the result is what stood in all
    files at one moment.

    Raises:
        ConfigInvalid, CatalogInvalid: with every fault.
    """
    for _ in range(TRIES):
        before = digest(config, settings.load(config, secrets=False))
        work = _load(config, before)
        if digest(config, work.settings) == before:
            return work
    raise ConfigInvalid(
        faults=(Fault(str(config), "", "files that stand still", "another change"),)
    )


def tried(config: Path, overlay: Overlay | None) -> Work:
    """The work with an overlay that does not hold yet, None for none.

    Raises:
        ConfigInvalid, CatalogInvalid: the local files cannot be used.
        DocumentInvalid, CeilingForbids: the overlay cannot.
    """
    work = _load(config, "", lambda _: (overlay, None))
    if work.refused is not None:
        raise work.refused
    return work


def _load(
    config: Path, stands: str, said: Callable[[Settings], Kept] = running
) -> Work:
    holds = effective(config, said)
    found = holds.settings
    known = registry.names()  # names only: loading a connector would load its driver
    faults = tuple(
        Fault(
            str(config),
            f"sources.{name}.connector",
            f"one of {', '.join(known)}",
            repr(source.connector),
        )
        for name, source in found.sources.items()
        if source.connector not in known
    )
    if faults:
        raise ConfigInvalid(faults=faults)
    allowed = holds.ceiling.tables
    resources = load_folder(found.agent.catalog, sources=found.sources)
    off = _off(holds.overlay)
    kept = {r.code: why for r in resources if (why := closed(r, allowed)) is not None}
    kept |= {r.code: off[r.code] for r in resources if r.code in off.keys() - kept}
    shut = {r.code: why for r in resources if (why := refused(r, allowed)) is not None}
    return Work(
        config=config,
        settings=found,
        outgoing=tuple(leave(r, allowed) for r in resources if r.code not in kept),
        names={r.code: r.name for r in resources if r.code not in kept},
        kept=kept,
        offers=offers(resources, allowed),
        shut=shut,
        digest=stands,
        ceiling=holds.ceiling,
        overlay=holds.overlay,
        refused=holds.refused,
        barred={r.code: kept[r.code] for r in resources if _barred(r, kept)},
    )


def _barred(resource: Resource, kept: Mapping[str, str]) -> bool:
    return resource.code in kept and closed(resource) is None


def _off(overlay: Overlay | None) -> dict[str, str]:
    """Resource -> why it is not sent, of those that the centre switches off."""
    if overlay is None:
        return {}
    who = {code: overlay.origins.get(f"off.{code}", "") for code in overlay.off}
    return {code: f"switched off by the centre ({who[code]})" for code in who}


LIVE: Mapping[str, frozenset[str]] = {
    "exchange": frozenset(
        {
            "url",
            "more_urls",
            "proxy",
            "connect_timeout_s",
            "read_timeout_s",
            "retry_base_s",
            "retry_cap_s",
            "clock_tolerance_s",
            "heartbeat_s",
            "probation_s",
        }
    ),
    "agent": frozenset({"timezone", "catalog", "ceiling", "language"}),
    "lookup": frozenset({"policy", "statement_timeout_s"}),
    "paths": frozenset(),
    "audit": frozenset(),
}
"""Sections that hold until a restart, but for these keys of them; others are live."""


def in_force(new: Work, now: Settings) -> tuple[Work, tuple[str, ...]]:
    """The new work with what needs a restart as it is now, and the keys of that."""
    waiting: list[str] = []
    sections: dict[str, Any] = {}
    for name, live in LIVE.items():
        old, section = getattr(now, name), getattr(new.settings, name)
        kept = {
            key: getattr(old, key)
            for key in type(section).model_fields
            if key not in live and getattr(old, key) != getattr(section, key)
        }
        waiting += [f"{name}.{key}" for key in kept]
        sections[name] = section.model_copy(update=kept)
    found = new.settings.model_copy(update=sections)
    return replace(new, settings=found), tuple(sorted(waiting))


def narrowed(work: Work) -> Work:
    """The same work without what a document closes, though other files have faults.

    A person who shuts a gate must not wait for another person's typing error.
    """
    kept, shut = dict(work.kept), dict(work.shut)
    allowed = _allowed(work)
    for file in sorted(work.settings.agent.catalog.glob("*.toml")):
        try:
            resource = load_file(file)
        except CatalogInvalid:
            continue
        if (why := closed(resource, allowed)) is not None:
            kept[resource.code] = why
        if (why := refused(resource, allowed)) is not None:
            shut[resource.code] = why
    # Their own documents may be those with the fault.
    for one in work.outgoing:
        if not one.place.within(allowed):
            kept.setdefault(one.resource, _forbidden(one.place))
    for code, offer in work.offers.items():
        if not offer.place.within(allowed):
            shut.setdefault(code, _forbidden(offer.place))
    return replace(
        work,
        ceiling=replace(work.ceiling, tables=allowed),
        outgoing=tuple(o for o in work.outgoing if o.resource not in kept),
        offers={code: o for code, o in work.offers.items() if code not in shut},
        kept=kept,
        shut=shut,
    )


def _forbidden(place: Place) -> str:
    return f"ceiling.toml does not allow columns of {place}"


def _allowed(work: Work) -> Allowed | None:
    """What may be read by the ceiling of now; by that of before if it has faults."""
    try:
        found = ceilings.load(work.settings.agent.ceiling)
    except ConfigInvalid:
        return work.ceiling.tables
    return found.tables if found.present else work.ceiling.tables


def digest(config: Path, found: Settings) -> str:
    """Changes when the settings, a resource document or what bounds them do.

    Raises:
        ConfigInvalid: a file cannot be read.
    """
    digested = hashlib.sha256()
    paths = [config, *sorted(found.agent.catalog.glob("*.toml"))]
    paths += [p for p in (found.agent.ceiling,) if p.exists()]
    for path in paths:
        try:
            data = path.read_bytes()
        except OSError as e:
            got = e.strerror or type(e).__name__
            fault = Fault(str(path), "", "a readable file", got)
            raise ConfigInvalid(faults=(fault,)) from None
        digested.update(f"{path.name}\n{len(data)}\n".encode() + data)
    digested.update(_stand(found.paths.running))
    return f"sha256:{digested.hexdigest()}"


def _stand(running: Path) -> bytes:
    """What the centre has set, as bytes; its faults are told elsewhere."""
    try:
        return running.read_bytes()
    except OSError as e:
        return type(e).__name__.encode()
