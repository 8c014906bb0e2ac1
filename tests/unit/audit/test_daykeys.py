# SPDX-License-Identifier: Apache-2.0
"""Day keys: durable before they are used, gone when they are destroyed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from agent.audit.daykeys import DayKeys
from agent.errors import AuditWriteFailed, SecretUnreadable

DAY = "2026-11-21"


def test_a_key_is_made_once(tmp_path: Path) -> None:
    """The same key again, in this life and the next; mode 0400 in 0700."""
    keys = DayKeys(tmp_path / "evidence")
    made = keys.make(DAY)
    assert keys.make(DAY) is made
    again = DayKeys(tmp_path / "evidence").find(DAY)
    assert again is not None
    assert again.secret == made.secret
    path = keys.path(DAY)
    assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert keys.days() == (DAY,)


def test_looking_makes_no_key(tmp_path: Path) -> None:
    """A day without records has none."""
    keys = DayKeys(tmp_path)
    assert keys.find(DAY) is None
    assert keys.days() == ()


def test_a_destroyed_key_is_overwritten_and_gone(tmp_path: Path) -> None:
    """A second name of the file shows other bytes; another key could be made."""
    keys = DayKeys(tmp_path)
    secret = keys.make(DAY).secret
    other = tmp_path / "held"
    os.link(keys.path(DAY), other)
    keys.destroy(DAY)
    assert keys.find(DAY) is None
    assert other.read_bytes() != secret
    assert len(other.read_bytes()) == 32
    keys.destroy(DAY)  # as after a crash in between


@pytest.mark.parametrize("day", ["2026-11-2", "../../../x", "", "2026-11-21.key"])
def test_what_is_no_day_has_no_path(tmp_path: Path, day: str) -> None:
    """Nothing from outside becomes a file name."""
    with pytest.raises(ValueError, match="expected a day"):
        DayKeys(tmp_path).find(day)


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 33])
def test_a_file_that_is_no_key_is_told(tmp_path: Path, content: bytes) -> None:
    """It is never used, nor replaced."""
    path = tmp_path / f"{DAY}.key"
    path.write_bytes(content)
    path.chmod(0o400)
    with pytest.raises(SecretUnreadable, match="expected 32 bytes"):
        DayKeys(tmp_path).make(DAY)
    assert path.read_bytes() == content


def test_a_key_open_to_others_is_refused(tmp_path: Path) -> None:
    """The mode is named."""
    keys = DayKeys(tmp_path)
    keys.make(DAY)
    keys.path(DAY).chmod(0o440)
    with pytest.raises(SecretUnreadable, match="0440"):
        DayKeys(tmp_path).find(DAY)


def test_a_symbolic_link_is_no_key(tmp_path: Path) -> None:
    """The key must be the file itself."""
    (tmp_path / "x").write_bytes(b"x" * 32)
    (tmp_path / f"{DAY}.key").symlink_to(tmp_path / "x")
    with pytest.raises(SecretUnreadable):
        DayKeys(tmp_path).find(DAY)


def test_a_folder_that_cannot_be_made_is_a_write_fault(tmp_path: Path) -> None:
    """Exit 74, with the path."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditWriteFailed, match="evidence"):
        DayKeys(tmp_path / "file" / "evidence")


def test_a_draft_of_a_crash_is_replaced(tmp_path: Path) -> None:
    """A half-written key never counts."""
    (tmp_path / f"{DAY}.tmp").write_bytes(b"half")
    keys = DayKeys(tmp_path)
    assert len(keys.make(DAY).secret) == 32
    assert [p.name for p in tmp_path.iterdir()] == [f"{DAY}.key"]
