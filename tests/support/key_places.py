# SPDX-License-Identifier: Apache-2.0
"""Key files that only name their key."""

from __future__ import annotations

from pathlib import Path

TOKEN = (
    "pkcs11:token=fep;object=fep-sign?module-path=/nowhere.so&pin-source=file:/nowhere"
)


def name_in(path: Path, text: str) -> Path:
    """A key file with this line instead of its key."""
    path.unlink(missing_ok=True)
    path.write_text(f"{text}\n")
    path.chmod(0o400)
    return path


def hand_over(path: Path, folder: Path) -> Path:
    """Make a key a credential of this folder, as systemd hands it over; its file."""
    folder.mkdir(exist_ok=True)
    given = folder / path.name
    given.write_bytes(path.read_bytes())
    given.chmod(0o400)
    name_in(path, f"credential:{path.name}")
    return given
