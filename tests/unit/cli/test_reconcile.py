# SPDX-License-Identifier: Apache-2.0
"""``fep reconcile``: what it refuses, and the number that a word stands for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.local.client import LocalClient
from tests.unit.cli.conftest import Said

Fep = Callable[..., Said]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the daemon is asked; three deletes wait for a word."""
    bodies: list[Any] = []

    def post(_: LocalClient, path: str, body: dict[str, Any]) -> dict[str, Any]:
        bodies.append((path, body))
        return {"run": "r1", "resource": "1/1", "deletes_confirmed": 3}

    monkeypatch.setattr(LocalClient, "post", post)
    return bodies


def test_a_report_has_no_deletes_to_confirm(fep: Fep, asked: list[Any]) -> None:
    """Exit 2, and the daemon is not asked."""
    said = fep("reconcile", "1/1", "--report-only", "--confirm-deletes")
    assert said.code == 2
    assert asked == []


def test_the_number_that_is_confirmed_is_shown(fep: Fep, asked: list[Any]) -> None:
    """As with a pull."""
    said = fep("reconcile", "1/1", "--confirm-deletes")
    assert (said.code, len(asked)) == (0, 1)
    assert "at most 3 keys may go" in said.out
