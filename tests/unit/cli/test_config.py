# SPDX-License-Identifier: Apache-2.0
"""fep config: what holds, who said it, what the centre wants, a person's hold."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from agent.audit.events import AdminAction
from agent.control.applied import Applied
from agent.control.overlay import Overlay
from agent.daemon.central_desk import CentralDesk, Sight
from agent.local.server import People, application, serving
from agent.state import State
from agent.wire.grammar import format_time
from tests.support.central import merged, published
from tests.support.cli_json import faults, sections
from tests.support.settings_text import MINIMAL, write

Fep = Callable[..., Any]
CODE = "101001/000001"
SOURCE = """
[sources.rsj]
connector = "postgres"
host = "10.99.1.5"
database = "rsj"
user = "fep_read"
password = { file = "secrets/rsj" }
"""
CEILING = '[central]\nallow = ["schedule", "limits", "log", "off", "push"]\n'


def settings(folder: Path, extra: str = "", *, pinned: bool = True) -> None:
    """A site that listens to a centre."""
    pin = f'tuf_root_sha256 = "{"0" * 64}"\n' if pinned else ""
    paths = f'[paths]\nrun = "{folder}"\nstate = "{folder}"\n'
    write(folder, pin + paths + SOURCE + extra, MINIMAL)
    (folder / "ceiling.toml").write_text(CEILING, "utf-8")
    (folder / "ceiling.toml").chmod(0o640)


def runs(folder: Path, **own: Any) -> Overlay:
    """Let an overlay run."""
    found = merged(published(own=own), local={"push": {"workers": 2}})
    Applied(folder / "config").begin(found, at=format_time(NOW), watched=[])
    return found


def shown(fep: Fep, key: str) -> tuple[Any, str]:
    """Value and origin of a key."""
    body = json.loads(fep("config", "show", "--json").out)
    [word] = [word for word in body["settings"] if word["key"] == key]
    return word["value"], word["origin"]


NOW = datetime.now(UTC)


def test_show_says_who_set_each_key(fep: Fep, tmp_path: Path) -> None:
    """Default, agent.toml, the node's document, or a bound; without a daemon."""
    settings(tmp_path, "[push]\nworkers = 2\n")
    found = runs(
        tmp_path,
        push={"workers": 9},
        schedule={CODE: {"full": "every 1h"}},
        log={"level": "error"},
    )
    assert shown(fep, "log.level") == ("error", "nodes/11990100MB0000018H/rsj-fep1")
    assert shown(fep, f"schedule.{CODE}.full")[0] == "every 1h"
    assert shown(fep, "push.workers") == (2, "agent.toml")
    assert shown(fep, "push.poll_s") == (5.0, "default")
    body = json.loads(fep("config", "show", "--json").out)
    assert faults(sections()["`fep config show [--origin]`"], body) == []
    assert (body["digest"], body["refused"]) == (found.digest, None)
    said = fep("config", "show", "--origin")
    assert (said.code, said.err) == (0, "")
    assert 'log.level = "error"  # nodes/11990100MB0000018H/rsj-fep1' in said.out
    assert "push.poll_s = 5.0  # default" in said.out
    assert "push.poll_s = 5.0\n" in fep("config", "show").out


def test_show_never_tells_a_secret(fep: Fep, tmp_path: Path) -> None:
    """It reads none; of one the place is told, of a login in an address nothing."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "rsj").write_text("canary-1")
    proxy = (
        '[exchange.proxy]\nurl = "http://10.1.1.1:3128"\nuser = "fep"\n'
        'password = { file = "secrets/rsj" }\n'
        '[sources.x]\nconnector = "sqlite"\npath = "file://who:canary-2@host/x"\n'
    )
    settings(tmp_path, proxy)
    for words in (["--json"], ["--origin"], []):
        said = fep("config", "show", *words)
        assert said.code == 0, said.err
        assert "secrets/rsj" in said.out
        assert "canary" not in said.out + said.err
    write(tmp_path, '[sources.y]\nconnector = "postgres"\npassword = "canary-3"\n')
    said = fep("config", "show")
    assert said.code == 78
    assert "canary" not in said.out + said.err


def test_show_tells_why_what_the_centre_set_does_not_hold(
    fep: Fep, tmp_path: Path
) -> None:
    """A ceiling that was lowered, a damaged file; agent.toml alone holds."""
    settings(tmp_path)
    runs(tmp_path, log={"level": "error"})
    (tmp_path / "ceiling.toml").write_text("", "utf-8")
    said = fep("config", "show")
    assert 'log.level = "info"' in said.out
    assert "[ceiling-forbids]" in said.err
    assert "settings.log" in said.err
    running = tmp_path / "config" / "running.json"
    running.write_bytes(running.read_bytes()[:-9])
    body = json.loads(fep("config", "show", "--json").out)
    assert body["refused"]["code"] == "running-damaged"


def test_nothing_of_a_centre_holds_where_none_is_pinned(
    fep: Fep, tmp_path: Path
) -> None:
    """Whatever lies in the state folder."""
    settings(tmp_path)
    runs(tmp_path, log={"level": "error"})
    settings(tmp_path, pinned=False)
    assert shown(fep, "log.level") == ("info", "default")


def test_check_judges_the_ceiling_too(fep: Fep, tmp_path: Path) -> None:
    """With the settings, be they right or wrong; every fault of both."""
    settings(tmp_path)
    path = tmp_path / "ceiling.toml"
    path.write_text('[central]\nallow = ["sources"]\n', "utf-8")
    path.chmod(0o666)
    for extra in ("", "[pish]\n"):
        settings_text = (tmp_path / "agent.toml").read_text("utf-8")
        (tmp_path / "agent.toml").write_text(settings_text + extra, "utf-8")
        said = fep("config", "check")
        assert said.code == 78
        assert "central.allow.0" in said.out
        assert "mode 0666" in said.out
    assert "pish" in said.out


class Behind:
    """A daemon's socket, as far as the centre's configuration goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.applied = Applied(folder / "config")
        self.sight = Sight(pinned=True)
        self.told: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> Behind:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(60)

    async def _record(self, event: AdminAction) -> int:
        self.told.append(event.action)
        return 1

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        state = State(self._folder / "state.db", new_incarnation=lambda: "0" * 32)
        desk = CentralDesk(
            state.central,
            self.applied,
            look=lambda: self.sight,
            hint=lambda: None,
            now=lambda: datetime.now(UTC),
        )
        nobody = cast("Any", None)
        people = People(
            self._record,
            policies=nobody,
            audit=nobody,
            spool=nobody,
            keys=nobody,
            peers=nobody,
            config=desk,
        )
        try:
            async with serving(application(nobody, people), self._folder / "fep.sock"):
                self._ready.set()
                await self._over.wait()
        finally:
            state.close()


@pytest.fixture
def behind(fep: Fep, tmp_path: Path) -> Iterator[Behind]:
    """A running agent."""
    del fep
    settings(tmp_path)
    with Behind(tmp_path) as behind:
        yield behind


def test_diff_says_what_is_wanted_and_why_it_does_not_run(
    fep: Fep, behind: Behind, tmp_path: Path
) -> None:
    """Key by key with the origin; exit 1 until they are the same."""
    said = fep("config", "diff")
    assert (said.code, said.out) == (0, "What the centre wants runs.\n")
    old = runs(tmp_path, log={"level": "error"}, push={"poll_s": 9})
    files = published(
        own={"log": {"level": "debug"}}, groups={"g": {"push": {"poll_s": 9}}}
    )
    new = merged(files)
    behind.sight = Sight(
        pinned=True, wanted=new, reason="config-waits", detail="ring 2"
    )
    said = fep("config", "diff")
    assert said.code == 1
    node = "nodes/11990100MB0000018H/rsj-fep1"
    assert said.out == f'log.level: "error" → "debug"  # {node}\n'
    assert "[config-waits]" in said.err
    body = json.loads(fep("config", "diff", "--json").out)
    assert faults(sections()["`fep config diff`"], body) == []
    assert body["running"]["digest"] == old.digest
    assert body["changes"] == [
        {"key": "log.level", "running": "error", "desired": "debug", "origin": node}
    ]
    behind.sight = Sight(pinned=True, reason="document-invalid", detail="x: y")
    body = json.loads(fep("config", "diff", "--json").out)
    assert (body["changes"], body["desired"]) == ([], None)
    assert fep("config", "diff").code == 1


def test_hold_is_kept_with_its_reason_and_ends(fep: Fep, behind: Behind) -> None:
    """Recorded before it holds; in the history, newest first."""
    until = format_time(NOW.replace(microsecond=0) + timedelta(days=2))
    said = fep("config", "hold", "--until", until, "--reason", "年终", "--json")
    assert said.code == 0, said.out
    body = json.loads(said.out)
    assert faults(sections()["`fep config hold --until TIME | --release`"], body) == []
    assert (body["hold"]["until"], body["hold"]["reason"]) == (until, "年终")
    assert f"Held until {until}. 年终" in fep("config", "diff").out
    assert fep("config", "hold", "--release").out == "Nothing is held any more.\n"
    assert behind.told == [f"config hold {until}", "config release"]
    body = json.loads(fep("config", "history", "--json").out)
    assert faults(sections()["`fep config history`"], body) == []
    assert [turn["what"] for turn in body["history"]] == ["released", "held"]
    assert "年终" in fep("--lang", "zh", "config", "history").out


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--until", "2099-01-01"],
        ["--until", "2020-01-01"],
        ["--until", "soon"],
        ["--until", "2099-01-01", "--release"],
    ],
)
def test_a_hold_that_is_none_is_called_wrongly(
    fep: Fep, behind: Behind, words: list[str]
) -> None:
    """Without an end, over already, for ever, or both at once."""
    assert fep("config", "hold", *words).code == 2
    assert json.loads(fep("config", "history", "--json").out)["history"] == []
    del behind
