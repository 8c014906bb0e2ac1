# SPDX-License-Identifier: Apache-2.0
"""The centre's configuration is tried, stays, or goes back by itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from errno import ENOSPC
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from agent.audit.events import (
    CentralApplied,
    CentralGood,
    CentralRefused,
    CentralReverted,
    Event,
    Recorded,
    RunFailed,
)
from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.control.probation import Trial
from agent.daemon.central import AGAIN_S, Central
from agent.daemon.central_parts import Hands, Seams, Store, Wanted
from agent.daemon.life import begun
from agent.daemon.reload import Hands as ReloadHands
from agent.daemon.reload import Reloader
from agent.daemon.trial import AT_A_LOOK, Watch
from agent.daemon.wanted import AT_ONCE
from agent.daemon.work import Board, Work, load, tried
from agent.errors import (
    AuditWriteFailed,
    ConfigUnfit,
    DocumentInvalid,
    EndpointUnproven,
    ExchangeUnreachable,
    FepError,
    FilesInvalid,
    ResourceUnknown,
)
from agent.settings import Settings
from agent.state import State
from tests.support.catalog_text import COMPLETE
from tests.support.settings_text import MINIMAL, write

CODE = "101001/000001"
NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
SOURCE = '[sources.rsj]\nconnector = "sqlite"\npath = "rsj.db"\n'
PINNED = f'tuf_root_sha256 = "{"a" * 64}"\n'
CEILING = """\
[central]
allow = ["schedule", "push", "exchange", "log"]
endpoints = ["https://127.0.0.2:8443"]
"""
OTHER_URL = "https://127.0.0.2:8443"


def overlay(generation: int, **tables: Any) -> Overlay:
    """What the node's own document said."""
    origins = dict.fromkeys(_keys(tables), "nodes/11990100MB0000018H/rsj-fep1")
    return Overlay(generation, tables, frozenset(), origins)


def _keys(tables: dict[str, Any], before: str = "") -> Iterator[str]:
    for name, value in tables.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{name}.")
        else:
            yield before + name


TIMES = {"schedule": {"defaults": {"full": "every 60m"}}}
A = overlay(1, **TIMES)
B = overlay(2, **TIMES, push={"statement_timeout_s": 7})
HASTY = overlay(2, **TIMES, exchange={"read_timeout_s": 1})
MOVED = overlay(2, **TIMES, exchange={"url": OTHER_URL})


@dataclass
class Flow:
    """One stream whose runs end as told."""

    state: str = "idle"
    code: str = CODE
    trouble: Any = None
    run: Any = None
    waiting: str | None = None
    asked: list[str] = field(default_factory=list)

    def resource(self, resource: str) -> Any:
        if resource != self.code:
            raise ResourceUnknown(resource)
        return self

    async def request_pull(self, resource: str, *, kind: str) -> str:
        self.asked.append(kind)
        return self.waiting or "r1"

    def delivers(self, run: str) -> None:
        self.run, self.trouble = SimpleNamespace(run=run, state="read"), None
        self.run.delivered = True


class Site:
    """A daemon as far as the centre's configuration goes; nothing waits."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "catalog").mkdir(exist_ok=True)
        paths = f'[paths]\nstate = "{folder}/state"\nrun = "{folder}/run"\n'
        write(folder, PINNED + paths + SOURCE, MINIMAL)
        (folder / "ceiling.toml").write_text(CEILING)
        (folder / "ceiling.toml").chmod(0o644)
        (folder / "catalog" / "person.toml").write_text(COMPLETE, "utf-8")
        self.state = State(folder / "state.db", new_incarnation=lambda: "0" * 32)
        self.applied = Applied(folder / "state" / "config")
        self.flow = Flow()
        self.clock = 0.0
        self.wanted: Wanted | FepError = Wanted(None, frozenset(), AT_ONCE, frozenset())
        self.held: datetime | None = None
        self.recorded: list[Recorded] = []
        self.told: list[Event] = []
        self.log_fails: FepError | None = None
        self.unfit: FepError | None = None
        self.meanwhile: Callable[[], None] = int
        self.checked: list[set[str]] = []
        self.dead: set[str] = set()
        self.least_s = 0.0
        self.proven: list[str] = []
        self.begin()

    def begin(self) -> None:
        """The daemon starts."""
        self.applied.restart(most=3, reason="daemon-died")
        self.board = Board(load(self.folder / "agent.toml"))
        self.reloader = Reloader(
            self.board, ReloadHands(self.apply, self.record, self.told.append)
        )
        self.watch = Watch(
            self.flow, lambda code: self.board.settings.plans(code), lambda: NOW
        )
        self.central = Central(
            self.board,
            Store(self.applied, self.state.central, lambda: self.held),
            Hands(
                wanted=self.look,
                kept=lambda: cast("Any", object()),
                distrust=tuple,
                tried=lambda found: tried(self.folder / "agent.toml", found),
                check=self.check,
                reloads=self.reloader,
                record=self.record,
                tell=self.told.append,
            ),
            self.watch,
            self,
            Seams(lambda: NOW, lambda: self.clock),
        )

    def wants(self, found: Overlay, **gates: Any) -> None:
        """What the centre wants from now on."""
        parts = frozenset({found.generation})
        plain = Wanted(found, parts, AT_ONCE, frozenset())
        self.wanted = Wanted(**{**vars(plain), **gates})

    def look(self, _: object) -> Wanted:
        if isinstance(self.wanted, FepError):
            raise self.wanted
        return self.wanted

    async def apply(self, old: Work, new: Work) -> None:
        del old, new

    async def record(self, event: Any) -> None:
        if self.log_fails is not None:
            raise self.log_fails
        self.recorded.append(event)

    async def check(self, work: Work, resources: Collection[str]) -> None:
        del work
        self.checked.append(set(resources))
        self.meanwhile()
        if self.unfit is not None:
            raise self.unfit

    async def prove(self, found: Settings, urls: Iterable[str]) -> None:
        del found
        for url in urls:
            if url in self.dead:
                raise EndpointUnproven(url)
            self.proven.append(url)

    async def any(self, found: Settings, urls: Iterable[str]) -> bool:
        in_time = found.exchange.read_timeout_s >= self.least_s
        return in_time and any(url not in self.dead for url in urls)

    async def passes(self, seconds: float = 0.0) -> None:
        """A look after so many seconds."""
        self.clock += seconds
        await self.central.once()

    def fails(self, run: str, code: str = "source-timeout") -> None:
        """A run ends badly."""
        self.watch.hear(RunFailed(CODE, run, code, "expected 1 s"))

    @property
    def runs(self) -> str | None:
        found = self.board.work.overlay
        return None if found is None else found.digest

    def put_down(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.recorded if isinstance(event, kind)]

    @property
    def turns(self) -> list[str]:
        return [turn.what for turn in reversed(self.state.central.turns(99))]


@pytest.fixture
async def site(tmp_path: Path) -> Any:
    """A department that has never heard of the centre."""
    site = Site(tmp_path)
    await site.central.recover()
    yield site
    site.state.close()


async def proven(site: Site, found: Overlay) -> None:
    """An overlay has run well."""
    site.wants(found)
    await site.passes()
    site.flow.delivers(f"good{found.generation}")
    site.central.beaten(None)
    await site.passes(600)


async def test_good_configuration_runs_at_once_and_stays(site: Site) -> None:
    """Checked, recorded, running; the stream is asked once, by its own times."""
    site.wants(A)
    await site.passes()
    assert (site.runs, site.checked) == (A.digest, [{CODE}])
    assert site.board.settings.plans(CODE)["full"].times == "every 60m"
    assert site.applied.open()
    await site.passes(5)
    await site.passes(5)
    assert site.flow.asked == ["full"]
    site.flow.delivers("r1")
    site.central.beaten(None)
    await site.passes(580)
    assert site.applied.open()
    await site.passes(20)
    assert not site.applied.open()
    [applied], [good] = site.put_down(CentralApplied), site.put_down(CentralGood)
    assert (applied.digest, applied.before, good.digest) == (A.digest, "", A.digest)
    assert site.turns == ["applied", "good"]
    told = site.central.stand()
    assert (told.desired, told.running) == (A.digest, A.digest)
    assert (told.failed, told.reason, site.central.troubles()) == (None, None, [])


async def test_configuration_that_breaks_a_stream_goes_back_by_itself(
    site: Site,
) -> None:
    """Told as desired, failed, running, reason; tried again only as another one."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    assert site.board.settings.push.statement_timeout_s == 7
    site.fails("r2")
    site.fails("r3")
    await site.passes(5)
    assert (site.runs, site.applied.open()) == (A.digest, False)
    assert site.board.settings.push.statement_timeout_s == 3600
    told = site.central.stand()
    assert (told.desired, told.failed) == (B.digest, B.digest)
    assert (told.running, told.reason) == (A.digest, "source-timeout")
    assert [e.code for e in site.central.troubles()] == ["config-reverted"]
    [reverted] = site.put_down(CentralReverted)
    assert (reverted.digest, reverted.running) == (B.digest, A.digest)
    for _ in range(3):
        await site.passes(AGAIN_S)
    assert site.runs == A.digest
    again = overlay(3, **B.tables)
    await proven(site, again)
    assert site.runs == again.digest
    assert site.central.stand().failed is None


async def test_run_that_waited_already_is_not_the_one_that_was_asked_for(
    site: Site,
) -> None:
    """It is asked again once that one is gone."""
    site.flow.delivers("r0")
    site.flow.waiting = "r0"
    site.wants(A)
    await site.passes()
    await site.passes(5)
    await site.passes(5)
    site.flow.waiting = None
    await site.passes(5)
    await site.passes(5)
    assert len(site.flow.asked) == 3


async def test_failure_of_the_source_is_not_held_against_it(site: Site) -> None:
    """The database is away: the probation waits, and ends well when it is back."""
    site.wants(A)
    await site.passes()
    site.central.beaten(None)
    for n in range(9):
        site.fails(f"r{n}", "source-unreachable")
        await site.passes(600)
    assert (site.runs, site.applied.open()) == (A.digest, True)
    site.flow.delivers("r10")
    await site.passes(1)
    assert not site.applied.open()


async def test_run_that_began_before_proves_nothing(site: Site) -> None:
    """Neither its end nor its failure counts."""
    site.flow.delivers("r0")
    site.wants(A)
    await site.passes()
    site.central.beaten(None)
    site.fails("r0")
    site.fails("r0")
    await site.passes(9999)
    assert (site.runs, site.applied.open()) == (A.digest, True)


async def test_dead_address_is_never_used(site: Site) -> None:
    """The old one goes on; it is tried again, and holds once it has proven itself."""
    await proven(site, A)
    site.dead.add(OTHER_URL)
    site.wants(MOVED)
    await site.passes()
    assert (site.runs, site.board.settings.exchange.url) == (
        A.digest,
        "https://127.0.0.1:8443",
    )
    told = site.central.stand()
    assert (told.desired, told.failed) == (MOVED.digest, MOVED.digest)
    assert (told.running, told.reason) == (A.digest, "endpoint-unproven")
    assert [e.reason for e in site.put_down(CentralRefused)] == ["endpoint-unproven"]
    site.dead.clear()
    await site.passes(AGAIN_S - 1)
    assert site.runs == A.digest
    await site.passes(1)
    assert (site.runs, site.proven) == (MOVED.digest, [OTHER_URL])
    assert site.central.stand().reason is None


async def test_address_that_dies_goes_back_while_the_old_one_answers(
    site: Site,
) -> None:
    """Three heartbeats in a row; while both are away nothing is judged."""
    await proven(site, A)
    site.wants(MOVED)
    await site.passes()
    both = {OTHER_URL, "https://127.0.0.1:8443"}
    for dead in (both, {OTHER_URL}):
        site.dead = dead
        assert site.runs == MOVED.digest
        for _ in range(3):
            site.central.beaten(ExchangeUnreachable("refused"))
            await site.passes(1)
    assert site.runs == A.digest
    assert site.central.stand().reason == "exchange-unreachable"


async def test_time_that_is_too_short_for_an_answer_is_never_used(site: Site) -> None:
    """The addresses are the same, but they must answer within it."""
    await proven(site, A)
    site.least_s = 2.0
    site.wants(HASTY)
    await site.passes()
    assert site.runs == A.digest
    assert site.central.stand().reason == "endpoint-unproven"


async def test_time_that_cuts_the_line_later_goes_back(site: Site) -> None:
    """Three heartbeats in a row, while the old time is enough."""
    await proven(site, A)
    site.wants(HASTY)
    await site.passes()
    assert site.runs == HASTY.digest
    site.least_s = 2.0
    for _ in range(3):
        site.central.beaten(ExchangeUnreachable("expected an answer within 1 s"))
        await site.passes(1)
    assert site.runs == A.digest
    assert site.central.stand().reason == "exchange-unreachable"


async def test_source_that_says_no_keeps_it_out(site: Site) -> None:
    """What is wrong is named; what ran goes on."""
    await proven(site, A)
    site.unfit = ConfigUnfit("rsj: right: no SELECT")
    site.wants(B)
    await site.passes()
    assert site.runs == A.digest
    [trouble] = site.central.troubles()
    assert (trouble.code, trouble.detail) == ("config-unfit", "rsj: right: no SELECT")


async def test_stream_that_is_broken_already_is_not_asked(site: Site) -> None:
    """It would keep every configuration out for ever."""
    site.flow.trouble = SimpleNamespace(code="source-failed", detail="", since="")
    site.wants(A)
    await site.passes()
    site.central.beaten(None)
    await site.passes(600)
    assert (site.checked, site.flow.asked) == ([set()], [])
    assert not site.applied.open()


@pytest.mark.parametrize(
    ("gates", "held", "reason"),
    [
        ({"halted": frozenset({2})}, None, "config-halted"),
        ({"opens": NOW + timedelta(hours=1)}, None, "config-waits"),
        ({"opens": None}, None, "config-waits"),
        ({}, NOW + timedelta(hours=1), "config-held"),
    ],
)
async def test_what_waits_is_told_to_the_centre_and_is_no_trouble_here(
    site: Site, gates: dict[str, Any], held: datetime | None, reason: str
) -> None:
    """The brake, the ring and a person's hold; afterwards it is taken by itself."""
    await proven(site, A)
    site.held = held
    site.wants(B, **gates)
    await site.passes()
    assert (site.runs, site.central.stand().reason) == (A.digest, reason)
    assert site.central.troubles() == []
    site.held = None
    site.wants(B)
    await site.passes()
    assert site.runs == B.digest


async def test_older_generation_is_refused_and_told_once(site: Site) -> None:
    """Also after a restart: the floor is kept."""
    await proven(site, B)
    site.begin()
    await site.central.recover()
    site.wants(A)
    for _ in range(3):
        await site.passes(60)
    assert site.runs == B.digest
    assert site.central.stand().reason == "config-older"
    assert len(site.put_down(CentralRefused)) == 1


async def test_documents_with_faults_change_nothing(site: Site) -> None:
    """Told once; what runs goes on."""
    await proven(site, A)
    site.wanted = DocumentInvalid("groups/a: unknown key")
    for _ in range(3):
        await site.passes(60)
    assert site.runs == A.digest
    assert [e.code for e in site.central.troubles()] == ["document-invalid"]
    assert len(site.put_down(CentralRefused)) == 1


async def test_another_publication_does_not_make_good_what_was_never_proven(
    site: Site,
) -> None:
    """It is held against what ran well last, and watches what that one broke."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    site.fails("r2")
    site.flow.trouble = SimpleNamespace(code="source-timeout", detail="", since="")
    await site.passes(5)
    more = overlay(3, **B.tables, log={"level": "error"})
    site.wants(more)
    await site.passes(5)
    assert (site.runs, site.checked[-1]) == (more.digest, set())
    site.central.beaten(None)
    site.fails("r3")
    site.fails("r4")
    await site.passes(600)
    assert site.runs == A.digest
    assert site.turns == ["applied", "good", "applied", "applied", "reverted"]


async def test_other_fault_and_the_same_after_a_good_one_are_told_again(
    site: Site,
) -> None:
    """Each is another refusal to whoever reads the audit log."""
    for detail in ("groups/a: x", "groups/a: x", "groups/a: y"):
        site.wanted = DocumentInvalid(detail)
        await site.passes(60)
    assert len(site.put_down(CentralRefused)) == 2
    await proven(site, A)
    site.wanted = DocumentInvalid("groups/a: y")
    await site.passes(60)
    assert len(site.put_down(CentralRefused)) == 3


async def test_hold_that_comes_while_sources_are_asked_holds(site: Site) -> None:
    """So does the brake of the centre; nothing is refused by either."""

    def held() -> None:
        site.held = NOW + timedelta(hours=1)

    def halted() -> None:
        site.wants(A, halted=frozenset({1}))

    for meanwhile, reason in ((held, "config-held"), (halted, "config-halted")):
        site.held, site.meanwhile = None, meanwhile
        site.wants(A)
        await site.passes(AGAIN_S)
        await site.passes(1)
        assert (site.runs, site.applied.running()) == (None, None)
        assert site.central.stand().reason == reason
    assert site.put_down(CentralRefused) == site.put_down(CentralApplied) == []
    site.meanwhile = int
    site.wants(A)
    await site.passes(1)
    assert site.runs == A.digest


async def test_what_cannot_be_recorded_is_not_applied(site: Site) -> None:
    """Nothing runs that the audit log does not have."""
    site.log_fails = AuditWriteFailed("full")
    site.wants(A)
    await site.passes()
    assert (site.runs, site.applied.running()) == (None, None)


async def test_going_back_needs_nobody(site: Site) -> None:
    """Though the audit log cannot be written; the files go back at once."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    site.log_fails = AuditWriteFailed("full")
    site.fails("r2")
    site.fails("r3")
    await site.passes(5)
    running = site.applied.running()
    assert running is not None
    assert (running.digest, site.applied.open()) == (A.digest, False)
    assert site.runs == A.digest


@pytest.mark.parametrize("name", ["agent.toml", "catalog/other.toml", "ceiling.toml"])
async def test_typing_error_of_the_department_does_not_keep_it_from_going_back(
    site: Site, name: str
) -> None:
    """What ran well holds at once, and is told; the files are loaded once right."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    file = site.folder / name
    good = file.read_text() if file.exists() else ""
    file.write_text(good + "\nbroken = [\n")
    site.fails("r2")
    site.fails("r3")
    for _ in range(2):
        await site.passes(60)
        assert site.runs == A.digest
        assert site.board.settings.push.statement_timeout_s == 3600
        assert [o.resource for o in site.board.work.outgoing] == [CODE]
        told = site.central.stand()
        assert (told.running, told.failed) == (A.digest, B.digest)
        assert [e.code for e in site.central.troubles()] == ["config-reverted"]
    [trouble] = site.reloader.troubles()
    assert trouble.code == "config-broken"
    _ = file.write_text(good) if good else file.unlink()
    await site.reloader.look()
    assert (site.runs, site.reloader.troubles()) == (A.digest, [])


async def test_full_disk_ends_nothing(site: Site) -> None:
    """The daemon begins, lives, and goes back once there is room."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    step, site.applied._step = site.applied._step, full
    site.fails("r2")
    site.fails("r3")
    await site.passes(5)
    assert site.applied.open()
    work = begun(site.folder / "agent.toml", site.applied)
    assert work.overlay is not None
    site.applied._step = step
    await site.passes(5)
    assert (site.runs, site.applied.open()) == (A.digest, False)


async def test_start_that_a_typing_error_stops_is_no_death(site: Site) -> None:
    """However often somebody tries: the configuration of the centre stays."""
    site.wants(A)
    await site.passes()
    site.applied.stop()
    file = site.folder / "catalog" / "other.toml"
    file.write_text("code = [\n")
    for _ in range(4):
        with pytest.raises(FilesInvalid):
            begun(site.folder / "agent.toml", site.applied)
    file.unlink()
    site.begin()
    standing = site.applied.standing()
    assert standing is not None
    assert (site.runs, standing.deaths) == (A.digest, 0)


def full(step: str) -> None:
    """A disk without room."""
    if step.startswith("write"):
        raise OSError(ENOSPC, "No space left on device")


async def test_local_files_with_a_fault_keep_it_out(site: Site) -> None:
    """A typing error of the department is not blamed on the centre for ever."""
    file = site.folder / "agent.toml"
    good = file.read_text()
    file.write_text(good + "[posh]\n")
    site.wants(A)
    await site.passes()
    assert (site.runs, site.applied.open()) == (None, False)
    file.write_text(good)
    await site.passes(AGAIN_S)
    assert site.runs == A.digest


@pytest.mark.parametrize("how", ["gone", "paused", "recalled", "no times"])
async def test_stream_that_is_not_sent_any_more_is_not_waited_for(
    site: Site, how: str
) -> None:
    """Else the probation of a document that a person takes away would never end."""
    site.wants(A)
    await site.passes()
    site.central.beaten(None)
    if how == "gone":
        site.flow.code = ""
    elif how == "no times":
        site.watch._plans = lambda _: {}
    else:
        site.flow.state = how
    await site.passes(590)
    assert site.applied.open()
    await site.passes(10)
    assert not site.applied.open()


async def test_death_after_a_long_life_is_not_of_the_configuration(site: Site) -> None:
    """A power cut a day, while the source is away: the probation goes on."""
    site.wants(A)
    await site.passes()
    for _ in range(4):
        await site.passes(86400)
        site.begin()
        await site.central.recover()
        trial = site.central.sight().trial
        assert trial is not None
        assert (site.runs, trial.deaths) == (A.digest, 0)
    for deaths in (1, 2):
        site.begin()
        await site.central.recover()
        trial = site.central.sight().trial
        assert trial is not None
        assert trial.deaths == deaths
    await site.passes(86400)
    assert site.central.sight().trial == replace(trial, deaths=0, passed_s=86400)


async def test_probation_survives_two_deaths_and_not_three(site: Site) -> None:
    """It is taken up again with the streams that it watched, then given up."""
    await proven(site, A)
    site.wants(B)
    await site.passes()
    for _ in range(2):
        site.begin()
        await site.central.recover()
        trial = site.central.sight().trial
        assert trial is not None
        assert (site.runs, trial.watched) == (B.digest, {CODE})
    site.begin()
    await site.central.recover()
    await site.passes()
    told = site.central.stand()
    assert (site.runs, told.failed) == (A.digest, B.digest)
    assert (told.reason, told.desired) == ("daemon-died", B.digest)
    assert site.turns[-1] == "reverted"
    assert [e.reason for e in site.put_down(CentralReverted)] == ["daemon-died"]
    site.begin()
    await site.central.recover()
    assert len(site.put_down(CentralReverted)) == 1


async def test_many_streams_are_looked_at_by_turns() -> None:
    """None is left out, and no look takes long."""
    names = [f"101001/{n:06d}" for n in range(40)]
    plans = cast("Any", {"full": None})
    watch = Watch(cast("Any", Everything()), lambda _: plans, lambda: NOW)
    await watch.begin(names)
    trial = Trial(1, "x", watched=frozenset(names), awaited=frozenset(names))
    seen: list[str] = []
    for _ in range(3):
        found = [happened.resource for happened in watch.look(trial)]
        assert len(found) <= AT_A_LOOK
        seen += found
    assert sorted(seen) == names


class Everything:
    """A flow whose every look finds another run, which has delivered."""

    def __init__(self) -> None:
        self.looks = 0

    def resource(self, resource: str) -> Any:
        del resource
        self.looks += 1
        run = SimpleNamespace(run=self.looks, state="read", delivered=True)
        return SimpleNamespace(state="idle", trouble=None, run=run)


class DiedHere(BaseException):
    """The power went."""


def steps_of(count: int) -> Iterator[int]:
    yield from range(1, count)


@pytest.mark.parametrize("story", ["apply", "good", "revert"])
async def test_killed_at_any_step_of_the_daemon_it_goes_on_from_there(
    tmp_path: Path, story: str
) -> None:
    """Between files and rows too: the old or the new one runs, what failed stays so."""
    for at in range(1, 60):
        folder = tmp_path / f"{story}{at}"
        folder.mkdir()
        site = Site(folder)
        await site.central.recover()
        await proven(site, A)
        site.wants(B)
        try:
            await told(site, story, at)
        except DiedHere:
            died = True
        else:
            died = False
        site.state.close()
        again = Site(folder)
        await again.central.recover()
        again.wants(B)
        assert again.runs in {A.digest, B.digest}
        if story == "revert" and again.applied.given_up() is not None:
            await again.passes()
            assert (again.runs, again.central.stand().failed) == (A.digest, B.digest)
        elif again.runs == B.digest and story != "good":
            assert again.applied.open()
            assert again.central.sight().trial is not None
            assert again.turns.count("applied") == 2
        again.state.close()
        if not died:
            assert at > 4
            return
    raise AssertionError


async def told(site: Site, story: str, at: int) -> None:
    """Live a story, and die at a step of the disk."""
    taken = 0

    def step(_: str) -> None:
        nonlocal taken
        taken += 1
        if taken == at:
            raise DiedHere

    site.applied._step = step if story == "apply" else site.applied._step
    await site.passes()
    site.applied._step = step
    if story == "good":
        site.flow.delivers("r9")
        site.central.beaten(None)
        await site.passes(600)
    elif story == "revert":
        site.fails("r2")
        site.fails("r3")
        await site.passes(5)
