# SPDX-License-Identifier: Apache-2.0
"""What can be chosen at the start."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.errors import ConfigInvalid
from sandbox.__main__ import main
from sandbox.options import Options


def test_file_changes_the_defaults(tmp_path: Path) -> None:
    """Keys are the names of the options."""
    path = tmp_path / "sandbox.toml"
    path.write_text('aud = "a.b"\nport = 5\nload = false\nhosts = ["x"]\n')
    options = Options(tmp_path).with_file(path)
    assert (options.aud, options.port, options.load) == ("a.b", 5, False)
    assert options.hosts == ("x",)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("nonsense = 1", "unknown key nonsense"),
        ("folder = '/'", "unknown key folder"),
        ("port = 'x'", "port: expected int, got str"),
        ("load = 1", "load: expected bool, got int"),
        ("= 1", "sandbox.toml"),
        ("aud = 'UPPER'", "expected an exchange id"),
        ("central = true\ntuf = '/x'", "central: expected no tuf besides"),
    ],
)
def test_broken_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    """File, key, expected and got."""
    path = tmp_path / "sandbox.toml"
    path.write_text(text)
    with pytest.raises(ConfigInvalid, match=complaint):
        Options(tmp_path).with_file(path)


def test_missing_file_is_named(tmp_path: Path) -> None:
    """No file, no start."""
    with pytest.raises(ConfigInvalid, match="nowhere"):
        Options(tmp_path).with_file(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--listen", "nowhere"], 2),
        (["--listen", "127.0.0.1:99999"], 2),
        (["--aud", "A B"], 78),
        (["--config", "/nowhere.toml"], 78),
    ],
)
def test_wrong_arguments_end_with_their_code(
    tmp_path: Path, args: list[str], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """2 for usage, 78 for settings, with the remedy on stderr."""
    assert main(["--dir", str(tmp_path / "x"), *args]) == code
    assert capsys.readouterr().err.count("\n") >= 2
