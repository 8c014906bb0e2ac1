# SPDX-License-Identifier: Apache-2.0
"""``fep leave``: which keys a person has to destroy is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.key_places import TOKEN, name_in


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A key in each kind of place."""
    folder = tmp_path / "keys"
    folder.mkdir()
    name_in(folder / "tls.key", "-----BEGIN PRIVATE KEY-----")
    name_in(folder / "sign.key", TOKEN)
    name_in(folder / "decrypt.key", "credential:fep.decrypt")
    return folder


def test_keys_that_remain_elsewhere_are_named(fep: Any, keys: Path) -> None:
    """Their files are gone, they are not counted as destroyed."""
    said = fep("leave", "--here", "--yes")
    assert said.code == 0, said.err
    assert "1 private keys are destroyed" in said.out
    assert "NOT destroyed: sign, in the token." in said.out
    assert "NOT destroyed: decrypt, in systemd's credential." in said.out
    assert list(keys.glob("*.key")) == []


def test_programs_hear_it_too(fep: Any, keys: Path) -> None:
    """Member ``remain`` of --json."""
    said = fep("--json", "leave", "--here", "--yes")
    body = json.loads(said.out)
    assert (body["destroyed"], body["remain"]) == (
        1,
        {"sign": "token", "decrypt": "credential"},
    )
    assert list(keys.glob("*.key")) == []
