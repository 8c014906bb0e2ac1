# SPDX-License-Identifier: Apache-2.0
"""``fep audit`` over a real socket, with a real log behind it."""

from __future__ import annotations

import asyncio
import io
import json
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from agent.crypto.jose import message_digest
from agent.local.server import People, application, serving
from tests.support import cli_json
from tests.support.audit_log import (
    CONSUMER,
    Clock,
    WitnessDouble,
    reply_of,
    request_of,
    site,
)

Fep = Callable[..., Any]
DAY = "2026-11-21"


class Behind:
    """A log of five lookups with its local interface, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ready = threading.Event()
        self._over: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> Behind:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._loop is not None
        assert self._over is not None
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(20)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        clock, double = Clock(), WitnessDouble()
        async with site(self._folder / "log", clock=clock) as s:
            for i in range(1, 6):
                await s.lookup(i)
            await s.witness(double).round()
            clock.at += timedelta(days=2)
            people = People(
                record=s.log.append,
                policies=cast("Any", None),
                audit=s.desk(double),
                spool=cast("Any", None),
                keys=cast("Any", None),
                peers=cast("Any", None),
                config=cast("Any", None),
            )
            app = application(cast("Any", None), people)
            async with serving(app, self._folder / "fep.sock"):
                self._ready.set()
                await self._over.wait()


@pytest.fixture
def log(fep: Fep, tmp_path: Path) -> Iterator[Behind]:
    """A running agent, as far as its log goes."""
    del fep
    with Behind(tmp_path) as behind:
        yield behind


def documented(name: str, body: Any) -> list[str]:
    """Where an answer and docs/cli-json.md differ."""
    return cli_json.faults(cli_json.sections()[name], body)


def answer(fep: Fep, *words: str) -> Any:
    """What a command answers as JSON."""
    said = fep("audit", *words, "--json")
    assert said.code == 0, said.out
    return json.loads(said.out)


@pytest.mark.usefixtures("log")
def test_records_are_listed_newest_first(fep: Fep) -> None:
    """With their kind; the search itself is a record, before it is answered."""
    body = answer(fep, "search")
    assert documented("`fep audit search`", body) == []
    kinds = [r["kind"] for r in body["records"]]
    assert kinds == ["admin.action", *["lookup.decided"] * 5, "audit.started"]
    said = fep("audit", "search", "--kind", "lookup.decided", "--limit", "2")
    assert said.out.count("lookup.decided") == 2
    assert f"consumer={CONSUMER}" in said.out
    assert "subjects" not in said.out


@pytest.mark.usefixtures("log")
def test_a_subject_comes_from_a_file_or_stdin(
    fep: Fep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never from the command line."""
    (tmp_path / "key.json").write_text('{"id": "3"}')
    by = ("search", "--resource", "101001/000001", "--subject")
    found = answer(fep, *by, str(tmp_path / "key.json"))
    assert [r["n"] for r in found["records"]] == [3]
    typed = io.TextIOWrapper(io.BytesIO(b'{"id": "4"}'))
    monkeypatch.setattr(sys, "stdin", typed)
    assert [r["n"] for r in answer(fep, *by, "-")["records"]] == [4]


@pytest.mark.parametrize("text", ["", "[]", '{"id": 3}', "{}", "110101199003070011"])
@pytest.mark.usefixtures("log")
def test_a_subject_that_is_none_is_not_repeated(
    fep: Fep, tmp_path: Path, text: str
) -> None:
    """Exit 2; what was in the file is not told."""
    (tmp_path / "key.json").write_text(text)
    file = str(tmp_path / "key.json")
    said = fep("audit", "search", "--resource", "1/1", "--subject", file)
    assert said.code == 2
    assert "110101199003070011" not in said.err


@pytest.mark.usefixtures("log")
def test_a_record_is_proven_and_the_proof_holds(fep: Fep, tmp_path: Path) -> None:
    """prove, export for the keys, verify: exit 0; a changed leaf: exit 1."""
    body = answer(fep, "prove", "3")
    assert documented("`fep audit prove N`", body) == []
    proof, out = tmp_path / "3.tlog-proof", tmp_path / "out"
    assert "written" in fep("audit", "prove", "3", "-o", str(proof)).out
    answer(fep, "export", str(out))
    keys = ("--trust", str(out / "keys.json"))
    assert fep("audit", "verify", str(proof), *keys).code == 0
    leaf = tmp_path / "3.leaf"
    leaf.write_text(leaf.read_text().replace("get", "set", 1))
    said = fep("audit", "verify", str(proof), *keys)
    assert said.code == 1
    assert "DAMAGED" in said.out


@pytest.mark.usefixtures("log")
def test_a_proof_that_is_not_cosigned_yet_says_so(fep: Fep) -> None:
    """The newest record was written after the witness's last visit."""
    answer(fep, "search")
    said = fep("audit", "prove", "6")
    assert said.code == 0
    assert "not cosigned it yet" in said.err


@pytest.mark.usefixtures("log")
def test_an_export_verifies(fep: Fep, tmp_path: Path) -> None:
    """In both forms and languages; an edited record is named with exit 1."""
    out = tmp_path / "out"
    body = answer(fep, "export", str(out))
    assert documented("`fep audit export DIR`", body) == []
    verdict = answer(fep, "verify", str(out))
    assert documented("`fep audit verify DIR`", verdict) == []
    assert (verdict["good"], verdict["size"]) == (True, body["size"])
    assert "完好" in fep("audit", "verify", str(out), "--lang", "zh").out
    lines = (out / "leaves-00000.jsonl").read_text()
    (out / "leaves-00000.jsonl").write_text(lines.replace(CONSUMER, "X" * 25, 1))
    said = fep("audit", "verify", str(out))
    assert said.code == 1
    assert "first bad record: 1" in said.out


@pytest.mark.usefixtures("log")
def test_evidence_is_written_for_its_owner_only(fep: Fep, tmp_path: Path) -> None:
    """Exact messages, mode 0600; they verify beside the export."""
    out = tmp_path / "out"
    answer(fep, "export", str(out))
    body = answer(fep, "evidence", "2", str(out / "evidence"))
    assert documented("`fep audit evidence N DIR`", body) == []
    file = out / "evidence" / "2.request.jws"
    assert file.stat().st_mode & 0o777 == 0o600
    assert message_digest(file.read_text()) == message_digest(request_of(2))
    assert (out / "evidence" / "2.reply.jws").read_text() == reply_of(2)
    assert answer(fep, "verify", str(out))["good"]


@pytest.mark.usefixtures("log")
def test_a_day_is_erased_only_when_meant(
    fep: Fep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks; JSON needs --yes; afterwards the evidence is gone."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    assert fep("audit", "erase", DAY).code == 1
    assert fep("audit", "erase", DAY, "--json").code == 2
    body = answer(fep, "erase", DAY, "--yes")
    assert documented("`fep audit erase DAY`", body) == []
    assert body == {"day": DAY, "records": 5}
    said = fep("audit", "evidence", "2", "x")
    assert said.code == 1
    assert "[evidence-gone]" in said.err


@pytest.mark.usefixtures("log")
def test_a_record_that_is_not_there_ends_with_2(fep: Fep) -> None:
    """With how many there are."""
    said = fep("audit", "prove", "99999")
    assert said.code == 2
    assert "[record-unknown]" in said.err


def test_nothing_to_verify_ends_with_2(fep: Fep, tmp_path: Path) -> None:
    """No folder, no keys."""
    assert fep("audit", "verify", str(tmp_path / "absent")).code == 2
    assert fep("audit", "verify", str(tmp_path)).code == 2


@pytest.mark.parametrize(
    "words", [("search",), ("prove", "1"), ("export", "x"), ("erase", DAY, "--yes")]
)
def test_without_a_daemon_the_log_is_not_read(
    fep: Fep, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """One truth: nobody but the daemon opens the database."""
    if words[0] == "export":
        words = ("export", str(tmp_path / "out"))
    said = fep("audit", *words)
    assert said.code == 1
    assert "[no-daemon]" in said.err
