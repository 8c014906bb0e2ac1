# SPDX-License-Identifier: Apache-2.0
"""A smallest settings file, and ways to spoil it."""

from __future__ import annotations

from pathlib import Path

MINIMAL = """
[agent]
node = "11990100MB0000018H/rsj-fep1"

[exchange]
aud = "yunxi.exchange"
url = "https://127.0.0.1:8443"
ca_sha256 = "{ca}"
kid = "{kid}"
""".format(ca="ab" * 32, kid="k" * 43)


def write(folder: Path, extra: str = "", base: str = MINIMAL) -> Path:
    """``agent.toml`` with more text at its end."""
    path = folder / "agent.toml"
    path.write_text(base + extra, "utf-8")
    return path
