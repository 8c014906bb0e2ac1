# SPDX-License-Identifier: Apache-2.0
"""``fep spool`` over a real socket: what is read, and asked before it is done."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from agent.audit.events import AdminAction
from agent.cli.common.times import since
from agent.errors import UsageFault
from agent.local.server import People, application, serving
from agent.local.spooling import SpoolDesk
from agent.model.batch import Rows
from agent.pipeline.flow.errands import Damage, Looked, Mended, Replay, Step
from agent.state import KeptReceipt, Proof
from tests.support.rotations import RESOURCE, Rotations, at

Fep = Callable[..., Any]
WAITED = Damage(RESOURCE, 1, 3, "waiting", "spool-damaged", "cut", "reread")
LOADED = Damage(RESOURCE, 1, 1, "loaded", "spool-damaged", "digest", "remove")
LOST = Step(1, 4, at(2026), "loaded", lost=True)


class Operations:
    """One resource."""

    def status(self, _resource: str | None) -> dict[str, Any]:
        return {"resources": [{"resource": RESOURCE, "name": "人员基本信息"}]}


class Tools:
    """A spool with two damaged files, and an exchange that lost one batch."""

    def __init__(self, keys: Rotations) -> None:
        self.mended: list[tuple[int, int]] = []
        self.sent = 0
        self.many = 0  # damaged ones that are loaded, and as many that wait
        self._proofs = []
        for seq in (1, 2):
            line = keys.line(seq)
            kept = KeptReceipt(
                epoch=1,
                seq=seq,
                state="loaded",
                code=None,
                rows=Rows(3, 0, 0),
                at=at(2026),
                jws=keys.receipt(seq, at(2026)),
                kept_at=at(2026),
                voucher="5a" * 32,
            )
            self._proofs.append(Proof(kept, line))

    async def proofs(
        self, _resource: str, *, since: str, after: tuple[int, int]
    ) -> tuple[Sequence[Proof], tuple[int, int] | None]:
        """A batch a page."""
        del since
        n = after[1]
        return self._proofs[n : n + 1], (1, n + 1) if n == 0 else None

    async def resources(self) -> Sequence[str]:
        return [RESOURCE]

    async def look(self, _resource: str, *, after: tuple[int, int]) -> Looked:
        if self.many:
            both = (
                replace(found, seq=seq)
                for found, first in ((LOADED, 1), (WAITED, 10_001))
                for seq in range(first, first + self.many)
            )
            return Looked(2 * self.many, 1, tuple(both), None)
        if after == (0, 0):
            return Looked(2, 200, (LOADED,), (1, 2))
        return Looked(1, 100, (WAITED,), None)

    async def mend(self, _resource: str, places: Sequence[tuple[int, int]]) -> Mended:
        self.mended += places
        waited = places[-1] == (1, 10_001 if self.many else 3)
        return Mended(len(places) - waited, 2 if waited else None)

    async def replay(self, resource: str, since: str, *, do: bool) -> Replay:
        assert since.endswith("Z")
        self.sent += do
        return Replay(resource, (1, 3), "send", None, 1, (LOST,), done=do)


class Behind:
    """The tools behind a socket, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.keys = Rotations()
        self.tools = Tools(self.keys)
        self.told: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> Behind:
        vouchers = self._folder / "vouchers"
        vouchers.mkdir()
        (vouchers / f"{'5a' * 32}.jws").write_text(self.keys.signed(2026))
        (self._folder / "directory.jws").write_text(self.keys.signed(2027))
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _record(self, event: AdminAction) -> int:
        self.told.append(event.action)
        return 1

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        desk = SpoolDesk(
            self.tools,
            directory=self._folder / "directory.jws",
            vouchers=self._folder / "vouchers",
        )
        nobody = cast("Any", None)
        people = People(
            self._record,
            policies=nobody,
            audit=nobody,
            spool=desk,
            keys=nobody,
            peers=nobody,
            config=nobody,
        )
        app = application(cast("Any", Operations()), people)
        async with serving(app, self._folder / "fep.sock"):
            self._ready.set()
            await self._over.wait()


@pytest.fixture
def spool(fep: Fep, tmp_path: Path) -> Iterator[Behind]:
    """A running agent, as far as its spool goes."""
    del fep
    with Behind(tmp_path) as behind:
        yield behind


def test_damages_are_named_with_their_cure_in_both_languages(
    fep: Fep, spool: Behind
) -> None:
    """All pages, exit 1; nothing is changed by looking."""
    said = fep("spool", "verify")
    assert said.code == 1
    assert "3 files (300 B) compared, 2 damaged." in said.out
    assert f"✗ {RESOURCE} 1/3 [spool-damaged] cut" in said.out
    assert "read again in a new epoch" in said.out
    chinese = fep("--lang", "zh", "spool", "repair", "--dry-run")
    assert chinese.code == 1
    assert "已核对 3 个文件" in chinese.out
    assert "中心已有：仅删除此副本" in chinese.out
    assert (spool.tools.mended, spool.told) == ([], [])


def test_nothing_is_mended_without_a_yes(
    fep: Fep, spool: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked back, and who cannot be asked back must say so in the call."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert fep("spool", "repair").code == 1  # nobody answers
    refused = fep("spool", "repair", "--json")
    assert (refused.code, "--yes or --dry-run" in refused.out) == (2, True)
    assert spool.tools.mended == []
    said = fep("spool", "repair", RESOURCE, "--yes")
    assert said.code == 0, said.err
    assert spool.tools.mended == [(1, 1), (1, 3)]
    assert "epoch 2 has begun" in said.out
    assert spool.told == ["spool repair"]


def test_a_spool_that_is_damaged_all_over_is_mended(fep: Fep, spool: Behind) -> None:
    """Six thousand places fit into no request: in slices, one that waits at the end."""
    spool.tools.many = 6000
    said = fep("spool", "repair", "--yes", "--json")
    assert said.code == 0, said.err
    (done,) = json.loads(said.out)["mended"]
    assert done == {"resource": RESOURCE, "removed": 6000, "epoch": 2}
    assert spool.tools.mended == [(1, n) for n in (*range(1, 6001), 10_001)]
    assert len(spool.told) == 7


def test_nothing_is_sent_again_without_a_yes(
    fep: Fep, spool: Behind, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the exchange lost is named first; a time is needed."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    words = ("spool", "replay", RESOURCE)
    assert fep(*words, "--yes").code == 2
    dry = fep(*words, "--since", "2026-11-21", "--dry-run")
    assert (dry.code, spool.tools.sent) == (0, 0)
    assert "the exchange has up to 1/3" in dry.out
    assert "✗ 1/4" in dry.out
    assert fep(*words, "--since", "2026-11-21").code == 1  # nobody answers
    assert spool.tools.sent == 0
    done = fep(*words, "--since", "2026-11-21T08:00", "--yes", "--lang", "zh")
    assert (done.code, spool.tools.sent) == (0, 1)
    assert "中心丢失 1 个批次，将原样重发" in done.out
    assert spool.told == ["spool replay"]


@pytest.mark.usefixtures("spool")
def test_receipts_are_listed_over_all_pages(fep: Fep) -> None:
    """Oldest first, in a table or as JSON."""
    body = json.loads(fep("spool", "receipts", RESOURCE, "--json").out)
    assert [r["seq"] for r in body["receipts"]] == [1, 2]
    assert fep("spool", "receipts", RESOURCE).out.count("loaded") == 2


def test_a_pack_is_written_once_and_verifies(
    fep: Fep, spool: Behind, tmp_path: Path
) -> None:
    """What was written is judged by the slip alone; a file is never written over."""
    file = str(tmp_path / "p.zip")
    said = fep("spool", "export", file)
    assert said.code == 0, said.err
    assert "2 receipts" in said.out
    assert spool.told == ["spool export"]
    assert fep("spool", "export", file).code == 2
    good = fep("verify", file, "--kid", spool.keys.x.public.kid)
    assert good.code == 0, good.out
    assert "genuine" in good.out
    assert fep("verify", file, "--kid", "A" * 43).code == 1


def test_a_pack_that_could_not_be_ended_is_not_left_behind(
    fep: Fep, spool: Behind, tmp_path: Path
) -> None:
    """Half of the evidence looks like all of it."""
    (tmp_path / "directory.jws").unlink()
    said = fep("spool", "export", str(tmp_path / "p.zip"))
    assert said.code == 78, said.out
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("2026-11-21T08:00:00Z", "2026-11-21T08:00:00Z"),
        ("2026-11-21T08:00:00.5+08:00", "2026-11-21T00:00:00.500000Z"),
        (None, None),
    ],
)
def test_a_time_is_taken_with_its_zone(typed: str | None, meant: str | None) -> None:
    """And told to the exchange in UTC."""
    assert since(typed) == meant


@pytest.mark.parametrize("typed", ["yesterday", "", "2026-13-01", "0001-01-01+14:00"])
def test_what_is_no_time_is_a_usage_fault(typed: str) -> None:
    """It names the form that is expected."""
    with pytest.raises(UsageFault, match="--since"):
        since(typed)
