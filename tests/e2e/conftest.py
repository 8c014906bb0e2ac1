# SPDX-License-Identifier: Apache-2.0
"""An empty place and an exchange in it, for stories that begin there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sandbox_process import SandboxProcess, running_sandbox


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder)


@pytest.fixture
def sandbox(place: Path) -> Iterator[SandboxProcess]:
    """A running exchange."""
    with running_sandbox(place / "centre") as sandbox:
        yield sandbox
