# SPDX-License-Identifier: Apache-2.0
"""Fault switches: what is on, how often, for whom."""

from __future__ import annotations

from typing import Any

import pytest

from agent.errors import MalformedMessage
from sandbox.faults import Faults


def switches(*faults: dict[str, Any]) -> Faults:
    found = Faults()
    found.put({"faults": list(faults)})
    return found


def test_one_shot_is_used_up() -> None:
    """count 1 strikes once."""
    faults = switches({"kind": "drop", "count": 1})
    assert faults.strike("drop") is not None
    assert faults.strike("drop") is None


def test_permanent_stays_until_replaced() -> None:
    """Without count it strikes for ever; an empty list ends it."""
    faults = switches({"kind": "drop", "count": None})
    assert all(faults.strike("drop") for _ in range(5))
    faults.put({"faults": []})
    assert faults.strike("drop") is None


def test_skip_lets_requests_pass_first() -> None:
    """skip 2: the third one is hit."""
    faults = switches({"kind": "drop", "count": 1, "skip": 2})
    assert [bool(faults.strike("drop")) for _ in range(4)] == [
        False,
        False,
        True,
        False,
    ]


def test_route_is_the_begin_of_method_and_path() -> None:
    """Other requests are neither hit nor counted."""
    faults = switches({"kind": "busy", "count": 1, "route": "PATCH /v1/batches"})
    assert faults.strike("busy", "POST /v1/batches") is None
    assert faults.strike("busy", "PATCH /v1/batches/1") is not None


def test_other_kind_is_not_hit() -> None:
    """A switch is for its kind."""
    assert switches({"kind": "drop"}).strike("busy") is None


def test_relay_switch_names_its_act() -> None:
    """One of the list; other kinds have none."""
    fault = switches({"kind": "relay", "act": "swap"}).strike("relay")
    assert fault is not None
    assert fault.act == "swap"
    for broken in ({"kind": "relay"}, {"kind": "relay", "act": "read"}):
        with pytest.raises(MalformedMessage):
            switches(broken)
    with pytest.raises(MalformedMessage):
        switches({"kind": "drop", "act": "swap"})


def test_clock_offsets_add_up() -> None:
    """Back and forth, in seconds."""
    faults = switches(
        {"kind": "clock", "seconds": 3600}, {"kind": "clock", "seconds": -60}
    )
    assert faults.clock_offset_s == 3540


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"faults": {}},
        {"faults": [1]},
        {"faults": [{"kind": "x"}]},
        {"faults": [{"kind": "cut"}]},
        {"faults": [{"kind": "tls", "lie": "bad-signature"}]},
        {"faults": [{"kind": "status", "status": "500"}]},
    ],
    ids=str,
)
def test_broken_switch_is_refused_and_changes_nothing(body: dict[str, Any]) -> None:
    """All or nothing."""
    faults = switches({"kind": "drop"})
    with pytest.raises(MalformedMessage):
        faults.put(body)
    assert faults.strike("drop") is not None


def test_shown_is_what_is_on() -> None:
    """For people: kind and what is left of it."""
    (shown,) = switches({"kind": "receipt", "lie": "other-batch"}).shown()
    assert (shown["kind"], shown["lie"], shown["count"]) == (
        "receipt",
        "other-batch",
        None,
    )
