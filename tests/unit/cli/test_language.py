# SPDX-License-Identifier: Apache-2.0
"""Which language a call speaks."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.cli.common.language import language, peek


@pytest.mark.parametrize(
    ("argv", "environ", "expected"),
    [
        (["--lang", "en"], {"LANG": "zh_CN.UTF-8"}, "en"),
        (["--lang=zh"], {"LANG": "en_US.UTF-8"}, "zh"),
        ([], {"LANG": "zh_TW.UTF-8"}, "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "en_GB"}, "en"),
        ([], {"LANG": "C.UTF-8"}, "zh"),
        ([], {}, "zh"),
        (["--lang"], {"LANG": "en"}, "en"),
        (["--lang", "fr"], {"LANG": "en"}, "en"),
    ],
)
def test_the_nearest_wish_wins(
    argv: list[str], environ: dict[str, str], expected: str
) -> None:
    """--lang before the locale before the settings before Chinese."""
    environ = {"FEP_CONFIG": "/nonexistent", **environ}
    assert language(argv, environ) == expected


def test_the_settings_decide_where_the_locale_does_not(tmp_path: Path) -> None:
    """agent.language counts under LANG=C."""
    path = tmp_path / "agent.toml"
    path.write_text('[agent]\nlanguage = "en"\n')
    assert language(["--config", str(path)], {"LANG": "C"}) == "en"


@pytest.mark.parametrize("text", ["", "[agent", "agent = 3", "[paths]\nrun = 7"])
def test_broken_settings_do_not_stop_a_look(tmp_path: Path, text: str) -> None:
    """Defaults hold; config check will say what is wrong."""
    path = tmp_path / "agent.toml"
    path.write_text(text)
    assert peek(path).language is None


def test_a_relative_run_folder_starts_at_the_settings(tmp_path: Path) -> None:
    """As in the settings themselves."""
    path = tmp_path / "agent.toml"
    path.write_text('[paths]\nrun = "run"\n')
    assert peek(path).run == tmp_path / "run"
