# SPDX-License-Identifier: Apache-2.0
"""`fep verify` of a single file, by what this machine has kept."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.support.rotations import PAYLOAD, Rotations
from tests.support.settings_text import MINIMAL, write

Fep = Callable[..., Any]


def test_kept_directories_are_read_newest_first_and_no_more_than_needed(
    fep: Fep, tmp_path: Path
) -> None:
    """A node that enrolled anew: the one kept last has its old key."""
    keys, anew = Rotations(), Rotations()
    here = f'\n[paths]\nrun = "{tmp_path}"\nstate = "{tmp_path}"\n'
    write(tmp_path, here, MINIMAL.replace("k" * 43, keys.x.public.kid))
    now = replace(keys.directory(2026), departments=anew.directory(2026).departments)
    signed = keys.x.sign("fep-directory+jws", now.payload())
    (tmp_path / "directory.jws").write_text(signed)
    vouchers = tmp_path / "vouchers"
    (vouchers / "old.jws").mkdir(parents=True)  # whoever reads this fails
    os.utime(vouchers / "old.jws", (1000, 1000))
    (vouchers / "new.jws").write_text(keys.signed(2026))
    file = tmp_path / "x.fepb"
    file.write_bytes(keys.line(1).encode() + b"\n" + PAYLOAD)
    said = fep("verify", str(file), "--json")
    assert (said.code, json.loads(said.out)["genuine"]) == (0, True), said.err
    (vouchers / "new.jws").unlink()
    assert "old.jws" in fep("verify", str(file)).err
