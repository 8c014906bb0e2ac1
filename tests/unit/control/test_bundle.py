# SPDX-License-Identifier: Apache-2.0
"""Diagnostics: what is taken of a log, a status and a disk, and how much at most."""

from __future__ import annotations

import json
import random
import string
from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.control import diagnosis
from agent.control.bundle import LEFT_OUT, manifest_of, pack, scrubbed
from agent.control.diagnosis import Told, last_events
from agent.wire.command import BUNDLE_CAP

NOW = datetime(2026, 11, 21, 8, tzinfo=UTC)
NAME, CITIZEN = "欧阳金丝雀", "340102199001011238"


@pytest.mark.parametrize(
    "text",
    [
        CITIZEN,
        "34010219900101123X",
        "340102900101123",
        f"id={CITIZEN}",
        f"人员{CITIZEN}不存在",
        "13955512345",
        "+86 13955512345",
        "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIGH",
        "eyJhbGciOiJFUzI1NiJ9.eyJ2IjoxfQ.c2ln",
        "postgres://fep:hunter2@10.1.1.1/rsj",
        "password=hunter2",
        int(CITIZEN),
    ],
)
def test_what_looks_personal_or_secret_is_taken_out(text: str | int) -> None:
    """Wherever it stands in a value, as a key too."""
    found = json.dumps(scrubbed({"a": [text], str(text): 1}), ensure_ascii=False)
    assert LEFT_OUT in found
    for part in (CITIZEN[:14], "900101123", "13955512345", "MIGH", "eyJ2", "hunter2"):
        assert part not in found


@pytest.mark.parametrize(
    "value",
    [
        "11990100MB0000018H/rsj-fep1",
        "101001/000001",
        "2026-11-21T08:00:00.123456Z",
        "sha256:" + "0123456789abcdef" * 4,
        "https://exchange.yunxi.example:8443",
        25_276_514_304,
        1.5,
        True,
        None,
    ],
    ids=str,
)
def test_what_support_needs_stays(value: object) -> None:
    """Names of nodes and resources, times, digests, sizes."""
    assert scrubbed(value) == value


def test_of_the_log_only_names_codes_and_times_are_taken() -> None:
    """Whatever else a line holds, and whatever a line is."""
    failed = {"event": "run.failed", "code": "source-login", "detail": NAME}
    lines = [
        json.dumps({"time": "2026-11-21T07:00:00Z", **failed}),
        json.dumps({"time": "2026-11-21T07:30:00Z", **failed}),
        f'{{"time": "{NAME}", "event": "{NAME}", "code": "{NAME}"}}',
        '{"time": ["x"], "event": ["x"], "code": {"x": 1}}',
        f"Traceback: {NAME} {CITIZEN}",
        "[]",
    ]
    found = last_events(lines)
    assert found == [
        {"event": "(other)", "code": None, "count": 4, "last": None},
        {
            "event": "run.failed",
            "code": "source-login",
            "count": 2,
            "last": "2026-11-21T07:30:00Z",
        },
    ]


def test_a_running_daemon_is_asked(tmp_path: Path) -> None:
    """Status, counters and events come from it; systemd's programs are asked, too."""
    asked: list[str] = []

    def ask(command: object) -> str | None:
        words = list(command)  # type: ignore[call-overload]
        asked.append(words[0])
        if words[0] == "systemctl":
            return f"ActiveState=active\nNRestarts=2\nDescription={NAME}\nno line\n"
        return f'{{"event": "daemon.ready", "text": "{NAME}"}}\n'

    counters = 'fep_rows_total{resource="1"} 3.0\nfep_x_created 1.0\nother 1\nfep_y z\n'
    events = [{"event": "daemon.ready", "code": None, "count": 1, "last": "x"}]
    told = Told({"healthy": True, "exchange": {"clock_offset_s": 2}}, counters, events)
    found = diagnosis.documents(tmp_path / "agent.toml", told, ask=ask, now=NOW)
    assert found["status"]["healthy"] is True
    assert found["counters"] == {'fep_rows_total{resource="1"}': 3.0}
    assert found["events"]["daemon"] == events
    assert found["events"]["journal"][0]["event"] == "daemon.ready"
    assert found["time"]["exchange_ahead_s"] == 2
    assert found["system"]["service"] == {"ActiveState": "active", "NRestarts": "2"}
    assert NAME not in json.dumps(found, ensure_ascii=False)
    assert set(asked) == {"systemctl", "journalctl", "timedatectl"}


def test_versions_of_the_citys_metadata_are_told(tmp_path: Path) -> None:
    """By role; what is no metadata is passed over."""
    signed = {"_type": "root", "version": 3, "expires": "2027-01-01T00:00:00Z"}
    (tmp_path / "root.json").write_text(json.dumps({"signed": signed}))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "odd.json").write_text(json.dumps({"signed": {"_type": NAME}}))
    found = diagnosis.tuf(tmp_path)
    assert found == [{"role": "root", "version": 3, "expires": signed["expires"]}]


def test_bundle_is_bounded_whatever_the_documents_hold() -> None:
    """The largest go, and the manifest says so."""
    noise = random.Random(7)

    def text(size: int) -> list[str]:
        return [
            "".join(noise.choices(string.ascii_letters, k=100)) for _ in range(size)
        ]

    found = {"status": text(16_000), "config": {"v": 1}, "events": text(6_000)}
    data = pack({**found, "huge": text(25_000)}, version="0", now=NOW)
    assert len(data) <= BUNDLE_CAP
    manifest = manifest_of(data)
    assert [f["name"] for f in manifest["files"]] == ["config.json", "events.json"]
    assert [f["name"] for f in manifest["left_out"]] == ["huge.json", "status.json"]
