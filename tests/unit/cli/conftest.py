# SPDX-License-Identifier: Apache-2.0
"""A command, run in this process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.cli.main import main
from tests.support.settings_text import write


class Said:
    """What a command wrote, and its exit code."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def fep(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[object]:
    """Runs a command in this process, in English, without a daemon."""
    monkeypatch.setenv("FEP_CONFIG", str(tmp_path / "agent.toml"))
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    write(tmp_path, f'\n[paths]\nrun = "{tmp_path}"\nstate = "{tmp_path}"\n')
    (tmp_path / "catalog").mkdir()

    def call(*words: str) -> Said:
        with pytest.raises(SystemExit) as e:
            main(words)
        said = capsys.readouterr()
        return Said(int(e.value.code or 0), said.out, said.err)

    before = os.umask(0o022)
    yield call
    os.umask(before)
