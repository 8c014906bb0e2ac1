# SPDX-License-Identifier: Apache-2.0
"""ceiling.toml: the department's word over the centre's, which nobody else writes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent.control.ceiling import KINDS, Document, load
from agent.errors import CeilingUnsafe, ConfigInvalid

ROOT = Path(__file__).resolve().parents[3]


def write(folder: Path, text: str, mode: int = 0o640) -> Path:
    """A ceiling of our own."""
    path = folder / "ceiling.toml"
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


def test_without_the_file_nothing_is_allowed(tmp_path: Path) -> None:
    """No settings, no commands; and no bound on what is read here."""
    found = load(tmp_path / "ceiling.toml")
    assert (found.present, found.allow, found.commands) == (
        False,
        frozenset(),
        frozenset(),
    )
    assert found.tables is None


def test_a_ceiling_is_read(tmp_path: Path) -> None:
    """Sections, servers, bounds, commands, and tables with dots or as lists."""
    path = write(
        tmp_path,
        """
[central]
allow = ["schedule", "off"]
endpoints = ["https://b.example:8443"]
commands = ["refresh"]
[bounds]
rows_per_s = 100
[[tables]]
source = "rsj"
table = "public.person"
columns = ["id"]
[[tables]]
source = "rsj"
table = ["a.b", "c"]
columns = ["x", "y"]
""",
    )
    found = load(path)
    assert (found.present, found.allow) == (True, {"schedule", "off"})
    assert found.endpoints == {"https://b.example:8443"}
    assert found.commands == {"refresh"}
    assert found.bounds.model_fields_set == {"rows_per_s"}
    assert found.tables == {
        ("rsj", ("public", "person")): {"id"},
        ("rsj", ("a.b", "c")): {"x", "y"},
    }


@pytest.mark.parametrize("mode", [0o660, 0o642, 0o606, 0o666])
def test_a_ceiling_writable_by_others_counts_for_nothing(
    tmp_path: Path, mode: int
) -> None:
    """Whoever could write it would be the department."""
    with pytest.raises(CeilingUnsafe) as caught:
        load(write(tmp_path, "", mode))
    [fault] = caught.value.faults
    assert fault.got == f"mode {mode:04o}"
    assert caught.value.exit_code == 78


def test_a_ceiling_of_another_user_counts_for_nothing(tmp_path: Path) -> None:
    """Root's, or that of who runs the agent; as root only root's."""
    path = write(tmp_path, "")
    owner = path.stat().st_uid
    assert load(path, uid=owner).present
    if owner == 0:
        os.chown(path, 4711, -1)
        owner = 4711
    with pytest.raises(CeilingUnsafe) as caught:
        load(path, uid=owner + 1)
    [fault] = caught.value.faults
    assert fault.got == f"one of uid {owner}"


def test_every_fault_of_a_ceiling_is_told_at_once(tmp_path: Path) -> None:
    """Mode, unknown keys, sections that do not exist, numbers as strings."""
    text = """
[central]
allow = ["sources"]
endpoints = ["https://b.example/x"]
commands = ["shell"]
[bounds]
rows_per_s = "many"
windows = ["all day"]
[tabels]
[[tables]]
source = ""
table = "t"
columns = []
"""
    with pytest.raises(CeilingUnsafe) as caught:
        load(write(tmp_path, text, 0o666))
    assert [f.key for f in caught.value.faults] == [
        "",
        "central.allow.0",
        "central.endpoints.0",
        "central.commands.0",
        "bounds.rows_per_s",
        "bounds.windows.0",
        "tables.0.source",
        "tables.0.columns",
        "tabels",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = ", "TOML"),
        ("a = " + "[" * 5000, "TOML"),
        ("a = " + "9" * 5000, "TOML"),
        ("#" * (1024 * 1024 + 1), "at most 1048576 bytes"),
    ],
)
def test_a_ceiling_that_is_no_toml_is_named(
    tmp_path: Path, text: str, expected: str
) -> None:
    """Deep, huge and broken ones, too."""
    with pytest.raises(ConfigInvalid) as caught:
        load(write(tmp_path, text))
    [fault] = caught.value.faults
    assert fault.expected == expected


def test_a_table_that_is_named_twice_is_a_fault(tmp_path: Path) -> None:
    """Nobody guesses which of the two was meant."""
    table = '[[tables]]\nsource = "s"\ntable = "t"\ncolumns = ["x"]\n'
    with pytest.raises(ConfigInvalid, match="each table once"):
        load(write(tmp_path, table + table))


def test_a_folder_in_its_place_is_a_fault(tmp_path: Path) -> None:
    """Not an absent file."""
    (tmp_path / "ceiling.toml").mkdir()
    with pytest.raises(ConfigInvalid, match="a regular file"):
        load(tmp_path / "ceiling.toml")


def test_the_ceiling_of_the_packages_names_every_key(tmp_path: Path) -> None:
    """It opens numbers and hours within bounds; no commands, nothing switched off."""
    text = (ROOT / "config/ceiling.toml").read_text("utf-8")
    found = load(write(tmp_path, text))
    assert found.allow == set(KINDS) - {"off"}
    assert (found.commands, found.endpoints) == (frozenset(), frozenset())
    for section in ("central", "bounds"):
        model = Document.model_fields[section].annotation
        assert model is not None
        for key in model.model_fields:
            assert f"\n{key} = " in text or f"\n# {key} = " in text, key
