# SPDX-License-Identifier: Apache-2.0
"""The centre's documents to what they come to here: pure, all of it or nothing.

Rules

1. ``agent.toml`` < groups in the order that the node's document lists them < the node's
   document; key by key. A word of the department about one resource or source stands
   over a word of the centre about all of them.
2. Then every number and every window is held against ``limits.json`` and the ceiling
   (``agent.control.clamp``); a bound that did something is named as the origin.
3. What is not allowed at all refuses everything, with every fault: a section that the
   ceiling does not open, an address that is not listed, switching off where that is not
   allowed, and anything that would turn on what ``agent.toml`` turns off.
4. A group is for many nodes: what it says of sources that are not here is left out. In
   the node's own document that is a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from agent.control.ceiling import Ceiling
from agent.control.clamp import KEYS, TABLES, Rule, Unspeakable, lower, minutes_of
from agent.control.overlay import Overlay
from agent.errors import CeilingForbids, DocumentInvalid, Fault, nearest, shown
from agent.model.run import SCHEDULED
from agent.schedule import OFF
from agent.settings.model import (
    LIMITS_EXPECTED,
    Quota,
    Reading,
    Rhythm,
    Schedule,
    Section,
    SourceLimits,
    Uplink,
)
from agent.wire.configuration import (
    Bounds,
    CityLimits,
    GroupConfig,
    NodeConfig,
    parse,
)
from agent.wire.repository import LIMITS_FILE, group_file, node_file

AGENT, CEILING = "agent.toml", "ceiling.toml"
ALL = "defaults"

Place = tuple[str, ...]
"""Section and key, with the table's name between them where there are several."""


class Said(NamedTuple):
    """A value, and where it came from."""

    value: Any
    origin: str


Words = Mapping[Place, Said]
Tables = Mapping[str, Any]
"""Tables as ``agent.toml`` holds them."""


def merge(
    local: Tables, files: Mapping[str, bytes], *, node: str, ceiling: Ceiling
) -> Overlay:
    """What the documents come to on a node.

    Args:
        local: the tables of ``agent.toml``, valid, without any overlay.
        files: target path -> content, verified; others than needed do no harm.
        node: ``<department>/<machine>``.
        ceiling: see there.

    Raises:
        DocumentInvalid: a document has faults; with those of all documents.
        CeilingForbids: something is not allowed here; with all that is not.
    """
    wanted, city = _documents(files, node)
    words: dict[Place, Said] = {}
    off: dict[str, str] = {}
    faults: list[Fault] = []
    for origin, document in wanted:
        said = document.settings.model_dump(mode="json", exclude_unset=True)
        here = _spread(said, origin)
        if isinstance(document, NodeConfig):
            faults += _strangers(local, here, origin)
        words.update({p: s for p, s in here.items() if not _strange(local, p)})
        off |= dict.fromkeys(document.off, origin)
    if faults:
        raise DocumentInvalid(faults=tuple(faults))
    generations = [d.generation for _, d in wanted]
    if city is not None:
        generations.append(city.generation)
    frame = _Frame(local, ceiling, city)
    return frame.held(words, off, generation=max(generations, default=0))


def fit(overlay: Overlay, local: Tables, *, ceiling: Ceiling) -> Overlay:
    """An overlay of earlier by what is allowed now; the same one if that is as it was.

    Args:
        overlay: that was merged before.
        local: as for :func:`merge`.
        ceiling: of now.

    Raises:
        CeilingForbids: something of it is not allowed any more; with all that is not.
    """
    said = {
        place: Said(value, overlay.origins.get(".".join(place), AGENT))
        for place, (value, _) in _spread(overlay.tables, AGENT).items()
    }
    words = {p: s for p, s in said.items() if not _strange(local, p)}
    off = {code: overlay.origins.get(f"off.{code}", AGENT) for code in overlay.off}
    frame = _Frame(local, ceiling, None)
    return frame.held(words, off, generation=overlay.generation)


def _documents(
    files: Mapping[str, bytes], node: str
) -> tuple[Sequence[tuple[str, GroupConfig]], CityLimits | None]:
    """The documents of a node with their origins, in order, and the city's bounds.

    Raises:
        DocumentInvalid: with the faults of all of them.
    """
    faults: list[Fault] = []

    def parsed(path: str) -> Any:
        try:
            return parse(path, files[path])
        except DocumentInvalid as e:
            faults.extend(e.faults)
            return None

    city = parsed(LIMITS_FILE) if LIMITS_FILE in files else None
    own = parsed(node_file(node)) if node_file(node) in files else None
    found: list[tuple[str, Any]] = []
    for group in dict.fromkeys(own.groups if own is not None else ()):
        if group_file(group) in files:
            found.append((f"groups/{group}", parsed(group_file(group))))
        else:
            expected = "a group that is published"
            faults.append(Fault(node_file(node), "groups", expected, group))
    if own is not None:
        found.append((f"nodes/{node}", own))
    if faults:
        raise DocumentInvalid(faults=tuple(faults))
    return found, city


def _spread(tables: Tables, origin: str) -> dict[Place, Said]:
    """Tables, key by key; only sections that the centre may speak of."""
    found: dict[Place, Said] = {}
    for section in TABLES:
        for name, table in tables.get(section, {}).items():
            for key, value in table.items():
                found[section, name, key] = Said(value, origin)
    for section in (*KEYS, "log"):
        for key, value in tables.get(section, {}).items():
            found[section, key] = Said(value, origin)
    return found


def _strange(local: Tables, place: Place) -> bool:
    """Whether it is about a source that is not here."""
    return place[0] == "limits" and place[1] not in (ALL, *local.get("sources", {}))


def _strangers(local: Tables, words: Words, origin: str) -> Iterator[Fault]:
    names = dict.fromkeys(place[1] for place in words if _strange(local, place))
    for name in names:
        expected = nearest(name, local.get("sources", {}), LIMITS_EXPECTED)
        key = f"settings.limits.{name}"
        yield Fault(_file(origin), key, expected, "no such source")


@dataclass(frozen=True)
class _Frame:
    """What the centre's words are held against."""

    tables: Tables
    ceiling: Ceiling
    city: CityLimits | None

    def held(self, words: Words, off: Mapping[str, str], *, generation: int) -> Overlay:
        """The words within every bound.

        Raises:
            CeilingForbids: with everything that is not allowed at all.
        """
        local = _spread(self.tables, AGENT)
        faults = [
            *_closed(self.ceiling, words, off),
            *_switched_off(self.ceiling, local, words),
            *_addresses(self.tables, words, self.ceiling, self.city),
            *_turned_on(local, words),
        ]
        bounded = _Bounding(local, words, self.ceiling, self.city)
        faults += bounded.hold()
        if faults:
            raise CeilingForbids(faults=tuple(faults))
        origins = {".".join(p): said.origin for p, said in bounded.words.items()}
        return Overlay(
            generation=generation,
            tables=_gathered(bounded.words),
            off=frozenset(off),
            origins={**origins, **{f"off.{code}": who for code, who in off.items()}},
        )


def _gathered(words: Words) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for (*way, key), said in sorted(words.items()):
        table = tables
        for name in way:
            table = table.setdefault(name, {})
        table[key] = said.value
    return tables


def _file(origin: str) -> str:
    """The document that an origin names."""
    return (
        f"{origin}/config.json" if origin.startswith(("groups/", "nodes/")) else origin
    )


def _closed(ceiling: Ceiling, words: Words, off: Mapping[str, str]) -> Iterator[Fault]:
    """Sections that the ceiling does not open."""
    said = dict.fromkeys((s.origin, place[0]) for place, s in words.items())
    said |= dict.fromkeys((origin, "off") for origin in off.values())
    if said and not ceiling.present:
        expected = "a ceiling.toml that says what the centre may set"
        yield Fault(str(ceiling.path), "", expected, "no such file")
        return
    expected = "one of " + (", ".join(sorted(ceiling.allow)) or "nothing")
    for origin, section in said:
        if section not in ceiling.allow:
            key = section if section == "off" else f"settings.{section}"
            yield Fault(
                _file(origin),
                key,
                f"{expected} (central.allow of ceiling.toml)",
                section,
            )


def _switched_off(ceiling: Ceiling, local: Words, words: Words) -> Iterator[Fault]:
    """Plans that the centre takes away: that is switching off by another name."""
    if "off" in ceiling.allow:
        return
    for place, said in words.items():
        if place[0] != "schedule" or place[2] not in SCHEDULED or said.value != OFF:
            continue
        own = local.get(place) or local.get(("schedule", ALL, place[2]))
        if own is not None and own.value != OFF:
            key = f"settings.{'.'.join(place)}"
            expected = "a plan, or off in central.allow of ceiling.toml"
            yield Fault(_file(said.origin), key, expected, OFF)


def _addresses(
    local: Tables, words: Words, ceiling: Ceiling, city: CityLimits | None
) -> Iterator[Fault]:
    """Exchanges that neither the department nor the city lists."""
    exchange = local.get("exchange", {})
    ours = (exchange.get("url", ""), *exchange.get("more_urls", ()))
    known = {_server(url) for url in (*ours, *ceiling.endpoints)}
    for key in ("url", "more_urls"):
        said = words.get(("exchange", key), Said((), AGENT))
        for url in (said.value,) if isinstance(said.value, str) else said.value:
            place = (_file(said.origin), f"settings.exchange.{key}")
            if _server(url) not in known:
                expected = "an address of agent.toml or of ceiling.toml (endpoints)"
                yield Fault(*place, expected, shown(url))
            elif not _of_the_city(city, url):
                yield Fault(*place, f"an address of {LIMITS_FILE}", shown(url))


def _of_the_city(city: CityLimits | None, url: str) -> bool:
    if city is None or "endpoints" not in city.model_fields_set:
        return True
    return _server(url) in {_server(known) for known in city.endpoints}


def _server(url: str) -> tuple[str, int] | None:
    """Host and port of an address; None if it has none."""
    parts = urlsplit(url)
    try:
        port = parts.port or 443
    except ValueError:
        return None
    return (parts.hostname or "", port)


def _turned_on(local: Words, words: Words) -> Iterator[Fault]:
    """Times for what ``agent.toml`` says shall never run by itself."""
    for place, said in words.items():
        if place[0] != "schedule" or place[2] not in SCHEDULED or said.value == OFF:
            continue
        general = ("schedule", ALL, place[2])
        own = local.get(place) or local.get(general)
        if own is not None and own.value == OFF:
            key = f"settings.{'.'.join(place)}"
            expected = "off, as agent.toml says"
            yield Fault(_file(said.origin), key, expected, shown(said.value))


class _Bounding:
    """Holds words against bounds.

    Attributes:
        words: what comes of it.
    """

    def __init__(
        self, local: Words, words: Words, ceiling: Ceiling, city: CityLimits | None
    ) -> None:
        self.words = dict(words)
        self._local = local
        self._ceiling = ceiling
        self._city = city

    def hold(self) -> list[Fault]:
        """Replace what is beyond a bound; what cannot be said within one."""
        faults: list[Fault] = []
        for section, rules in KEYS.items():
            for key, rule in rules.items():
                if (section, key) in self.words:
                    faults += self._hold((section, key), rule)
        for section, rules in TABLES.items():
            # First the table for all: the others take over from it.
            for touched in (self._general, self._own):
                for name in touched(section):
                    for key, rule in rules.items():
                        faults += self._hold((section, name, key), rule)
                    if section == "limits":
                        self._keep_narrow(name)
        return faults

    def _keep_narrow(self, name: str) -> None:
        """Hours that are taken away keep their limit where it is the narrower one."""
        hours = ("limits", name, "off_peak")
        ours, found = (self._in_force(hours, w).value for w in ({}, self.words))
        if minutes_of(ours) <= minutes_of(found):
            return
        for key in ("rows_per_s", "mb_per_s"):
            if key in self._ceiling.bounds.model_fields_set:
                continue
            place = ("limits", name, key)
            narrow = self._in_force(("limits", name, f"off_peak_{key}"), {}).value
            said = self._in_force(place, self.words)
            kept = _stricter(said, lower(said.value, narrow), AGENT)
            if kept is not said:
                self.words[place] = kept

    def _general(self, section: str) -> list[str]:
        """The table for all, if the centre says anything in it."""
        return [ALL] if self._keys(section) else []

    def _own(self, section: str) -> list[str]:
        """Other tables in which anything of the centre's holds."""
        said = {p[1] for p in self.words if p[0] == section}
        general = self._keys(section)
        ours = {p[1] for p in self._local if p[0] == section}
        said |= {
            name
            for name in ours
            if any((section, name, key) not in self._local for key in general)
        }
        return sorted(said - {ALL})

    def _keys(self, section: str) -> set[str]:
        """What the centre says of all."""
        return {p[2] for p in self.words if p[:2] == (section, ALL)}

    def _hold(self, place: Place, rule: Rule) -> Iterator[Fault]:
        ours = self._in_force(place, {})
        said = self._in_force(place, self.words)
        found = said
        try:
            for origin, bounds in self._bounds():
                if rule.written(bounds):
                    found = _stricter(
                        found, rule.strictest(found.value, bounds), origin
                    )
            if not rule.written(self._ceiling.bounds):
                found = _stricter(found, rule.pick(found.value, ours.value), AGENT)
        except Unspeakable as e:
            key = f"settings.{'.'.join(place)}"
            yield Fault(_file(said.origin), key, str(e), shown(said.value))
        if found is not said:
            self.words[place] = found

    def _bounds(self) -> Iterator[tuple[str, Bounds]]:
        if self._city is not None:
            yield LIMITS_FILE, self._city.limits
        yield CEILING, self._ceiling.bounds

    def _in_force(self, place: Place, words: Words) -> Said:
        """What holds at a place with these words over those of ``agent.toml``."""
        ways = [place] if len(place) == 2 else [place, (place[0], ALL, place[2])]
        for way in ways:
            for said in (words.get(way), self._local.get(way)):
                if said is not None:
                    return said
        return Said(_default(place), AGENT)


def _stricter(said: Said, value: Any, origin: str) -> Said:
    return said if value == said.value else Said(value, origin)


_MODELS: Mapping[str, type[Section]] = {
    "schedule": Schedule,
    "limits": SourceLimits,
    "uplink": Uplink,
    "push": Reading,
    "exchange": Rhythm,
    "spool": Quota,
}


def _default(place: Place) -> Any:
    """What a key is where nobody says anything."""
    value = _MODELS[place[0]].model_fields[place[-1]].default
    return list(value) if isinstance(value, tuple) else value
