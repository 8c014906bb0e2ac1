# SPDX-License-Identifier: Apache-2.0
"""What the centre has set holds within the bounds of now, or none of it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import ConfigChanged, Event, ResourceClosed, ResourceOpened
from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.daemon import swap
from agent.daemon.reload import Hands, Reloader
from agent.daemon.work import Board, Work, load
from agent.errors import CeilingUnsafe, ConfigInvalid
from tests.support.catalog_text import COMPLETE
from tests.support.central import config, merged, published
from tests.support.settings_text import write

CODE, OTHER = "101001/000001", "101001/000002"
PIN = f'tuf_root_sha256 = "{"0" * 64}"\n'
SOURCE = '[paths]\nstate = "state"\n[sources.rsj]\nconnector = "sqlite"\n'
OPEN = '[central]\nallow = ["schedule", "limits", "push", "log", "off"]\n'
TABLE = """
[[tables]]
source = "rsj"
table = "public.person"
columns = ["person_id", "zw"]
"""
LOOKUP = COMPLETE.replace("push = true", "push = true\nlookup = true")


class Site:
    """A department that listens to a centre."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "catalog").mkdir()
        self.document(LOOKUP)
        self.document(LOOKUP.replace(CODE, OTHER), "other")
        self.settings()
        self.ceiling(OPEN)
        self.events: list[Event] = []
        self.board = Board(self.load())
        hands = Hands(self.apply, self.record, self.events.append)
        self.reloader = Reloader(self.board, hands)

    def settings(self, extra: str = "") -> None:
        write(self.folder, PIN + SOURCE + extra)

    def document(self, text: str, name: str = "person") -> None:
        (self.folder / "catalog" / f"{name}.toml").write_text(text, "utf-8")

    def ceiling(self, text: str, mode: int = 0o640) -> None:
        path = self.folder / "ceiling.toml"
        path.write_text(text, "utf-8")
        path.chmod(mode)

    def load(self) -> Work:
        return load(self.folder / "agent.toml")

    @property
    def applied(self) -> Applied:
        return Applied(self.folder / "state/config")

    def runs(self, found: Overlay) -> None:
        self.applied.begin(found, at="2026-11-21T08:00:00Z", watched=[])

    async def look(self) -> Work:
        await self.reloader.look()
        return self.board.work

    async def apply(self, old: Work, new: Work) -> None:
        del old, new

    async def record(self, event: ConfigChanged) -> None:
        del event

    @property
    def codes(self) -> list[str]:
        return [e.code for e in self.reloader.troubles()]

    def told(self, kind: type[Event]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two resources of one table."""
    return Site(tmp_path)


def switched_off(*codes: str) -> Overlay:
    """The centre switches these off."""
    files = published(groups={"g": {}})
    files["groups/g/config.json"] = config(off=list(codes))
    return merged(files)


async def test_what_the_centre_sets_holds_and_is_seen_as_a_change(site: Site) -> None:
    """The digest of the files covers it; nothing else changes."""
    before = site.board.work
    found = merged(published(own={"push": {"poll_s": 9}}))
    site.runs(found)
    work = await site.look()
    assert work.settings.push.poll_s == 9.0
    assert (work.overlay, work.refused) == (found, None)
    assert work.digest != before.digest
    assert work.outgoing == before.outgoing


async def test_attack_removes_a_running_resource_when_that_is_allowed(
    site: Site,
) -> None:
    """It is shut for pushes alone, with the reason; what waits of it stays known."""
    site.runs(switched_off(CODE, "999999/000001"))
    work = await site.look()
    why = "switched off by the centre (groups/g)"
    assert work.kept == work.barred == {CODE: why}
    assert [r.resource for r in swap.leaving(work)] == [OTHER]
    assert CODE not in swap.plans(work)
    assert CODE in work.known
    assert work.offers.keys() == {CODE, OTHER}
    assert [(e.resource, e.why) for e in site.told(ResourceClosed)] == [(CODE, why)]
    site.runs(merged(published(own={})))
    assert (await site.look()).kept == {}
    assert [e.resource for e in site.told(ResourceOpened)] == [CODE]


async def test_attack_removes_a_running_resource_after_the_ceiling_changed(
    site: Site,
) -> None:
    """Where the department does not allow it any more the resource is sent again."""
    site.runs(switched_off(CODE))
    assert CODE in (await site.look()).kept
    site.ceiling('[central]\nallow = ["push"]\n')
    work = await site.look()
    assert (work.kept, work.overlay) == ({}, None)
    assert site.codes == ["ceiling-forbids"]


async def test_off_turns_nothing_on(site: Site) -> None:
    """A gate that the document shuts has the document's reason."""
    shut = LOOKUP.replace("push = true", "push = false")
    site.document(shut)
    site.runs(switched_off(CODE))
    work = await site.look()
    assert (work.kept[CODE], work.barred) == ("push is not true", {})
    site.runs(merged(published(own={})))
    assert (await site.look()).kept == {CODE: "push is not true"}


async def test_a_lowered_ceiling_holds_at_once(site: Site) -> None:
    """Without a word of the centre: numbers are cut, and nothing is told as wrong."""
    site.settings("[push]\nworkers = 4\n")
    local = {"push": {"workers": 4}}
    site.runs(merged(published(own={"push": {"workers": 4}}), local=local))
    assert (await site.look()).settings.push.workers == 4
    site.ceiling(f"{OPEN}[bounds]\nworkers = 2\n")
    assert (await site.look()).settings.push.workers == 2
    assert site.codes == []


async def test_attack_turns_on_what_is_turned_off_later(site: Site) -> None:
    """A written `off` ends what the centre had set before it."""
    words = {"schedule": {CODE: {"full": "every 1h"}}, "push": {"poll_s": 9}}
    site.runs(merged(published(own=words)))
    assert (await site.look()).settings.schedule_of(CODE).full == "every 1h"
    site.settings(f'[schedule."{CODE}"]\nfull = "off"\n')
    work = await site.look()
    assert work.settings.schedule_of(CODE).full == "off"
    assert work.settings.push.poll_s == 5.0
    assert site.codes == ["ceiling-forbids"]


async def test_a_source_that_is_gone_takes_its_limits_along(site: Site) -> None:
    """And nothing else: the daemon starts with what remains."""
    words = {"limits": {"rsj": {"rows_per_s": 9}}, "push": {"poll_s": 9}}
    site.runs(merged(published(own=words)))
    for name in ("person", "other"):
        (site.folder / "catalog" / f"{name}.toml").unlink()
    write(site.folder, PIN + '[paths]\nstate = "state"\n')
    found = site.load()
    assert (found.settings.limits, found.settings.push.poll_s) == ({}, 9.0)
    assert found.refused is None


@pytest.mark.parametrize("good", [True, False])
async def test_a_damaged_overlay_is_an_alarm_and_never_something_else(
    site: Site, good: bool
) -> None:
    """What ran well before it holds, or agent.toml alone; a start is not refused."""
    if good:
        site.runs(merged(published(own={"push": {"poll_s": 7}})))
        site.applied.prove()
    site.runs(merged(published(own={"push": {"poll_s": 9}})))
    path = site.folder / "state/config/running.json"
    path.write_bytes(path.read_bytes().replace(b"9", b"8", 1))
    work = await site.look()
    assert work.settings.push.poll_s == (7.0 if good else 5.0)
    assert site.codes == ["running-damaged"]
    assert site.load().settings == work.settings
    path.unlink()
    path.mkdir()
    assert site.load().refused is not None


@pytest.mark.parametrize(
    "tables",
    [
        {"limits": {"rsj": 3}},
        {"schedule": {"defaults": []}},
        {"exchange": {"url": 3}},
        {"push": 3},
    ],
)
def test_kept_file_of_another_shape_is_an_alarm(
    site: Site, tables: dict[str, Any]
) -> None:
    """Its digest fits, but nobody of us wrote it: agent.toml alone holds."""
    found = merged(published(own={"push": {"poll_s": 9}}))
    site.runs(replace(found, tables=tables))
    work = site.load()
    assert (work.overlay, work.settings.push.poll_s) == (None, 5.0)
    assert work.refused is not None


async def test_without_a_pinned_root_nobody_is_the_centre(site: Site) -> None:
    """Whatever lies in the state folder."""
    site.runs(merged(published(own={"push": {"poll_s": 9}})))
    write(site.folder, SOURCE)
    work = await site.look()
    assert (work.settings.push.poll_s, work.overlay) == (5.0, None)


# --- columns ------------------------------------------------------------------------


async def test_what_the_ceiling_names_may_be_read(site: Site) -> None:
    """Bound columns and items that are called like their column."""
    site.ceiling(OPEN + TABLE)
    work = await site.look()
    assert {o.resource for o in work.outgoing} == {CODE, OTHER}
    assert work.offers.keys() == {CODE, OTHER}


@pytest.mark.parametrize(
    "change",
    [
        ('title = "zw"', 'title = "salary"'),
        ('columns = { title = "zw" }', 'columns = { person_id = "salary" }'),
        ('table = "public.person"', 'table = "public.wage"'),
        ('table = "public.person"', 'table = ["public.person"]'),
        ('table = "public.person"', 'table = "person"'),
        ('columns = { title = "zw" }', 'columns = { title = "ZW" }'),
        ('columns = { title = "zw" }', 'columns = { title = "zw" }\nstamp = "salary"'),
        ('columns = { title = "zw" }', 'columns = { title = "zw" }\nnumber = "n"'),
    ],
)
async def test_attack_remaps_an_allowed_item_to_a_forbidden_column(
    site: Site, change: tuple[str, str]
) -> None:
    """Whoever wrote the document: it is shut for pushes and lookups, at once."""
    site.ceiling(OPEN + TABLE)
    await site.look()
    assert change[0] in LOOKUP
    site.document(LOOKUP.replace(*change))
    work = await site.look()
    assert [o.resource for o in work.outgoing] == [OTHER]
    assert work.offers.keys() == {OTHER}
    assert work.kept[CODE] == work.shut[CODE] == work.barred[CODE]
    assert work.kept[CODE].startswith("ceiling.toml does not allow ")
    assert [e.resource for e in site.told(ResourceClosed)] == [CODE]


async def test_an_item_that_is_not_shared_needs_no_column(site: Site) -> None:
    """Nothing of it is ever read."""
    secret = (
        '\n[[items]]\nname = "salary"\ntitle = "工资"\ntype = "I"\n'
        'share_type = "not_shared"\n[items.legal_basis]\nlevel = "law"\n'
        'title = "《某法》"\narticle = "第一条"\n'
    )
    site.document(LOOKUP + secret)
    site.ceiling(OPEN + TABLE)
    assert {o.resource for o in (await site.look()).outgoing} == {CODE, OTHER}


async def test_a_forbidden_column_is_shut_though_another_file_is_broken(
    site: Site,
) -> None:
    """A person who narrows the ceiling waits for nobody's typing error."""
    site.ceiling(OPEN + TABLE.replace(', "zw"', ""))
    site.settings("[pish]\n")
    work = await site.look()
    assert site.codes == ["config-broken"]
    assert (work.outgoing, work.offers) == ((), {})


async def test_attack_a_ceiling_that_others_can_write_changes_nothing(
    site: Site,
) -> None:
    """While the daemon runs the one before holds; it starts with none of these."""
    site.ceiling(OPEN + TABLE.replace(', "zw"', ""))
    await site.look()
    site.ceiling(OPEN, mode=0o666)
    work = await site.look()
    assert (work.outgoing, site.codes) == ((), ["config-broken"])
    with pytest.raises(CeilingUnsafe):
        site.load()
    site.ceiling("[central]\nallow = 5\n")
    with pytest.raises(ConfigInvalid):
        site.load()


async def test_a_forbidden_column_is_shut_though_its_own_document_is_broken(
    site: Site,
) -> None:
    """What was read by the document of before is not read any more."""
    site.ceiling(OPEN + TABLE.replace(', "zw"', ""))
    site.document("[")
    site.document("[", "other")
    work = await site.look()
    assert (site.codes, work.outgoing, work.offers) == (["config-broken"], (), {})
    assert work.ceiling.tables == {
        ("rsj", ("public", "person")): frozenset({"person_id"})
    }


async def test_a_ceiling_that_is_gone_opens_nothing(site: Site) -> None:
    """A file that was moved away is told; an empty one is a person's word."""
    site.ceiling(OPEN + TABLE.replace(', "zw"', ""))
    await site.look()
    (site.folder / "ceiling.toml").unlink()
    work = await site.look()
    assert (site.codes, work.outgoing) == (["config-broken"], ())
    site.ceiling("")
    assert len((await site.look()).outgoing) == 2
    assert site.codes == []
