# SPDX-License-Identifier: Apache-2.0
"""Changed files hold all at once or not at all, and nobody has to ask."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import (
    ConfigChanged,
    ConfigRefused,
    ConfigReloaded,
    Event,
    ResourceClosed,
    ResourceOpened,
)
from agent.daemon import reload
from agent.daemon.reload import Hands, Reloader
from agent.daemon.watch import watching
from agent.daemon.work import Board, Work, load
from agent.errors import AuditWriteFailed
from tests.support.catalog_text import COMPLETE
from tests.support.settings_text import MINIMAL, write

CODE, OTHER = "101001/000001", "101001/000002"
SOURCE = '[sources.rsj]\nconnector = "sqlite"\npath = "rsj.db"\n'


class Site:
    """Files of a department, and what was done with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "catalog").mkdir()
        self.settings()
        self.document("person")
        self.document("firm", code=OTHER)
        self.applied: list[tuple[Work, Work]] = []
        self.holds = asyncio.Event()
        self.recorded: list[ConfigChanged] = []
        self.log_fails: Exception | None = None
        self.events: list[Event] = []
        self.board = Board(load(folder / "agent.toml"))
        self.reloader = Reloader(
            self.board, Hands(self.apply, self.record, self.events.append)
        )

    def settings(self, extra: str = "", base: str = MINIMAL) -> None:
        write(self.folder, SOURCE + extra, base)

    def document(self, name: str, *, code: str = CODE, **words: str) -> None:
        text = COMPLETE.replace(CODE, code)
        for old, new in words.items():
            text = text.replace(f"{old} = true", f"{old} = {new}")
        path = self.folder / "catalog" / f"{name}.toml"
        path.write_text(text, "utf-8")

    async def apply(self, old: Work, new: Work) -> None:
        assert self.board.work is new
        self.applied.append((old, new))
        self.holds.set()

    async def record(self, event: ConfigChanged) -> None:
        if self.log_fails is not None:
            raise self.log_fails
        self.recorded.append(event)

    @property
    def leaving(self) -> set[str]:
        return {o.resource for o in self.board.work.outgoing}

    @property
    def codes(self) -> list[str]:
        return [e.code for e in self.reloader.troubles()]

    def told(self, kind: type[Event]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Two documents that may leave."""
    return Site(tmp_path)


async def test_nothing_changes_while_files_stand_still(site: Site) -> None:
    """Touching a file is no change."""
    os.utime(site.folder / "agent.toml", (1, 1))
    await site.reloader.look()
    assert (site.applied, site.events) == ([], [])


async def test_a_change_holds_and_is_recorded_first(site: Site) -> None:
    """Settings are another value; the audit log has it before anything follows it."""
    before = site.board.settings
    site.settings("[push]\nworkers = 3\n")
    await site.reloader.look()
    assert (before.push.workers, site.board.settings.push.workers) == (1, 3)
    assert [e.digest for e in site.recorded] == [site.board.work.digest]
    assert site.told(ConfigReloaded)[0].changed == ("push",)
    assert len(site.applied) == 1


async def test_what_cannot_be_recorded_does_not_hold(site: Site) -> None:
    """It is tried again at the next look."""
    site.settings("[push]\nworkers = 3\n")
    site.log_fails = AuditWriteFailed("full")
    await site.reloader.look()
    assert (site.board.settings.push.workers, site.applied) == (1, [])
    site.log_fails = None
    await site.reloader.look()
    assert site.board.settings.push.workers == 3


async def test_a_broken_file_keeps_the_old_settings_and_shows_every_fault(
    site: Site,
) -> None:
    """Told once, shown until it is right, gone when it is."""
    site.settings('[push]\nworkers = "three"\npolll_s = 1\n')
    for _ in range(3):
        await site.reloader.look()
    assert (site.board.settings.push.workers, site.applied) == (1, [])
    assert len(site.told(ConfigRefused)) == 1
    [trouble] = site.reloader.troubles()
    assert trouble.code == "config-broken"
    assert "push.workers" in trouble.detail
    assert "push.polll_s" in trouble.detail
    site.settings("[push]\nworkers = 2\n")
    await site.reloader.look()
    assert (site.codes, site.board.settings.push.workers) == ([], 2)


async def test_a_file_that_is_put_back_is_no_trouble_any_more(site: Site) -> None:
    """The very bytes that hold: nothing is loaded, nothing is recorded."""
    good = (site.folder / "agent.toml").read_bytes()
    site.settings("not toml")
    await site.reloader.look()
    assert site.codes == ["config-broken"]
    (site.folder / "agent.toml").write_bytes(good)
    await site.reloader.look()
    assert (site.codes, site.applied, site.recorded) == ([], [], [])


@pytest.mark.parametrize("gone", ["agent.toml", "catalog"])
async def test_files_that_vanish_change_nothing(site: Site, gone: str) -> None:
    """An editor that moves them away, or a disk that is gone."""
    (site.folder / gone).rename(site.folder / "away")
    await site.reloader.look()
    assert (site.leaving, site.codes) == ({CODE, OTHER}, ["config-broken"])
    (site.folder / "away").rename(site.folder / gone)
    await site.reloader.look()
    assert site.codes == []


async def test_one_wrong_file_of_several_keeps_all_of_them_old(site: Site) -> None:
    """A resource's new version does not hold without the settings it was made for."""
    site.settings("[push]\nworkers = 2\n")
    (site.folder / "catalog" / "new.toml").write_text('code = "x"')
    await site.reloader.look()
    assert site.board.settings.push.workers == 1
    assert site.codes == ["config-broken"]


async def test_a_closed_gate_does_not_wait_for_another_files_fault(site: Site) -> None:
    """push = false acts although agent.toml is broken; nothing else of it holds."""
    site.settings("[push]\nworkers = many\n")
    site.document("person", push="false")
    await site.reloader.look()
    assert site.leaving == {OTHER}
    assert [e.resource for e in site.told(ResourceClosed)] == [CODE]
    assert site.codes == ["config-broken"]
    site.settings()
    await site.reloader.look()
    assert (site.leaving, site.codes) == ({OTHER}, [])
    site.document("person")
    await site.reloader.look()
    assert site.leaving == {CODE, OTHER}
    assert [e.resource for e in site.told(ResourceOpened)] == [CODE]


async def test_a_document_that_is_taken_away_closes_its_resource(site: Site) -> None:
    """No document, nothing leaves."""
    (site.folder / "catalog" / "person.toml").unlink()
    await site.reloader.look()
    assert site.leaving == {OTHER}


async def test_what_needs_a_restart_is_named_and_does_not_hold(site: Site) -> None:
    """Everything else does; putting it back ends the trouble."""
    other = MINIMAL.replace("rsj-fep1", "rsj-fep2").replace(":8443", ":9443")
    site.settings('[paths]\nstate = "s"\n[push]\nworkers = 2\n', base=other)
    await site.reloader.look()
    [trouble] = site.reloader.troubles()
    assert trouble.code == "restart-needed"
    assert trouble.detail == "agent.node, paths.state"
    now = site.board.settings
    assert (now.agent.node[-1], now.exchange.url[-4:], now.push.workers) == (
        "1",
        "9443",
        2,
    )
    site.settings()
    await site.reloader.look()
    assert site.codes == []


async def test_a_writer_of_several_files_is_waited_for(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Settings and document that belong together hold together, in one step."""
    task = asyncio.create_task(site.reloader.forever())
    try:
        await asyncio.sleep(0.1)
        site.document("person", push="false")
        site.settings("[push]\nworkers = 99\n")
        await asyncio.sleep(0.2)
        site.settings("[push]\nworkers = 2\n")
        await asyncio.wait_for(site.holds.wait(), 60)
    finally:
        task.cancel()
        await asyncio.wait({task})
    assert len(site.applied) == 1
    assert (site.board.settings.push.workers, site.leaving) == (2, {OTHER})
    assert site.told(ConfigRefused) == []
    assert reload.QUIET_S < reload.LONGEST_S < reload.LOOK_S


async def test_reading_a_file_is_no_hint(tmp_path: Path) -> None:
    """Else looking at files would have us look again, for ever."""
    hint = asyncio.Event()
    path = tmp_path / "agent.toml"
    path.write_text("a = 1")
    with watching(frozenset({tmp_path}), hint.set):
        await asyncio.sleep(0.1)
        hint.clear()
        path.read_text()
        (tmp_path / "other.txt").write_text("x")
        await asyncio.sleep(0.2)
        assert not hint.is_set()
        path.write_text("a = 2")
        await asyncio.wait_for(hint.wait(), 60)


async def test_a_folder_that_is_not_there_is_left_out(tmp_path: Path) -> None:
    """The others are watched."""
    hint = asyncio.Event()
    folders = frozenset({tmp_path / "none", tmp_path})
    with watching(folders, hint.set):
        (tmp_path / "x.toml").write_text("")
        await asyncio.wait_for(hint.wait(), 60)
