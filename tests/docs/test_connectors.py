# SPDX-License-Identifier: Apache-2.0
"""The connector of docs/connectors.md is one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "connectors.md"
BLOCK = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pieces() -> dict[str, str]:
    """The files of the page, put together from their blocks."""
    found: dict[str, str] = {}
    for name, text in BLOCK.findall(PAGE.read_text("utf-8")):
        found[name] = found.get(name, "") + text + "\n\n"
    return found


def test_the_connector_of_the_page_obeys_the_contract(tmp_path: Path) -> None:
    """Its pieces, typed into two files, pass the suite of `fep connector test`."""
    for name, text in pieces().items():
        (tmp_path / name).write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", "from agent.cli.main import main; main()",
         "connector", "test", "csv_trial.py", "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, timeout=120, check=False,
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)

    assert [rule for rule in found["rules"] if not rule["ok"]] == []
    assert (done.returncode, found["ok"], found["connector"]) == (0, True, "csv-folder")
    assert f"all {len(found['rules'])} rules hold" in PAGE.read_text("utf-8")


def test_the_connector_of_the_page_has_about_sixty_lines() -> None:
    """As the page says, blank lines aside; nothing of it is wider than a page."""
    lines = [line for line in pieces()["csv_folder.py"].splitlines() if line.strip()]
    assert len(lines) <= 72
    assert max(map(len, lines)) <= 88
