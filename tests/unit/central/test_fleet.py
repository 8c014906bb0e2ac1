# SPDX-License-Identifier: Apache-2.0
"""How the fleet stands, and when a rollout is stopped."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from agent.central import fleet
from agent.central.fleet import Node, Wanted
from agent.errors import MalformedMessage, UsageFault
from agent.wire import strict
from agent.wire.rollout import Ring, Rollout, parse_halt, parse_rollout

NOW = datetime(2026, 11, 22, 8, tzinfo=UTC)
A, B = "11990100MB0000027F", "11990100000000019F"
OLD, NEW = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
ALL = Ring("all", NOW, ("*",))


def seen(node: str, **config: str | None) -> dict[str, object]:
    """A node of the exchange's view that runs OLD."""
    known = {"desired": NEW, "running": OLD, "failed": None, "reason": None}
    beat = {
        "agent": "fep/1",
        "config": known | config,
        "worst": [],
        "spool": {"blocked": False},
        "troubles": [],
    }
    shown = {"node": node, "stands": "healthy", "at": "2026-11-22T07:59:00Z"}
    return {**shown, "doubt": None, "beat": beat}


def nodes(count: int, reverted: int) -> dict[str, object]:
    """A view of so many nodes, the first of which gave NEW up."""
    found = [
        seen(f"{A}/n{i}", failed=NEW, reason="probation-failed")
        if i < reverted
        else seen(f"{A}/n{i}", running=NEW)
        for i in range(count)
    ]
    return {"nodes": found}


@pytest.mark.parametrize(("reverted", "stops"), [(0, False), (5, False), (6, True)])
def test_rollout_stops_above_five_percent_of_a_ring(reverted: int, stops: bool) -> None:
    """Of a hundred nodes five may revert; the sixth stops it."""
    rollout = Rollout(7, (ALL,))
    rings = fleet.rings(rollout, fleet.read(nodes(100, reverted), rollout), NOW)
    assert rings[0].running == 100 - reverted
    assert (fleet.to_stop(rings, fleet.MOST_PERCENT) is not None) is stops


def test_bad_first_ring_is_not_thinned_by_the_others() -> None:
    """Each ring is judged by itself."""
    rollout = Rollout(7, (Ring("first", NOW, (f"{A}/n0", f"{A}/n1")), ALL))
    rings = fleet.rings(rollout, fleet.read(nodes(100, 1), rollout), NOW)
    stopped = fleet.to_stop(rings, fleet.MOST_PERCENT)
    assert stopped is not None
    assert (stopped.name, stopped.nodes, stopped.percent) == ("first", 2, 50.0)


def test_older_failure_does_not_stop_another_generation() -> None:
    """What was given up is not what the centre wants now."""
    rollout = Rollout(7, (ALL,))
    view = {"nodes": [seen(f"{A}/n0", failed=OLD, running=NEW)]}
    rings = fleet.rings(rollout, fleet.read(view, rollout), NOW)
    assert fleet.to_stop(rings, 5) is None


def test_ring_that_has_not_started_stops_nothing() -> None:
    """Nobody can have tried it yet."""
    ring = replace(ALL, start=NOW + timedelta(hours=1))
    rollout = Rollout(7, (ring,))
    rings = fleet.rings(rollout, fleet.read(nodes(2, 2), rollout), NOW)
    assert fleet.to_stop(rings, 5) is None


def test_silent_nodes_count_for_nothing() -> None:
    """Who was never heard neither ran nor reverted."""
    rollout = Rollout(7, (ALL,))
    silent = {"node": f"{B}/x", "stands": "silent", "at": None, "doubt": None}
    view = nodes(10, 1)
    view["nodes"] += [silent | {"beat": None}] * 90  # type: ignore[operator]
    rings = fleet.rings(rollout, fleet.read(view, rollout), NOW)
    assert (rings[0].nodes, rings[0].percent) == (10, 10.0)


FLEET = (
    Node(f"{A}/a", "healthy", ring="first"),
    Node(f"{A}/b", "stuck"),
    Node(f"{B}/a", "late"),
    Node(f"{B}/b", "healthy", desired=NEW, running=OLD, failed=NEW),
)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (Wanted(), "a b a b"),
        (Wanted(frozenset({"stuck"})), "b"),
        (Wanted(frozenset({"stuck", "late"})), "b a"),
        (Wanted(frozenset({"late"}), failed=True), "a b"),
        (Wanted(failed=True), "b"),
        (Wanted(ring="first"), "a"),
        (Wanted(department=B), "a b"),
        (Wanted(frozenset({"stuck"}), department=B), ""),
        (Wanted(node=f"{A}/"), "a b"),
    ],
)
def test_filters_choose_nodes(wanted: Wanted, names: str) -> None:
    """States widen, all else narrows."""
    found = [n.node.rpartition("/")[2] for n in FLEET if wanted.takes(n)]
    assert found == names.split()


def test_who_gave_a_configuration_up_needs_somebody() -> None:
    """Though all its streams are well."""
    assert [n.needs_somebody for n in FLEET] == [False, True, True, True]


@pytest.mark.parametrize(
    "body", [None, [], {"nodes": [{}]}, {"nodes": [1]}, {"nodes": None}]
)
def test_other_documents_are_no_view(body: object) -> None:
    """A wrong file is told, not shown as an empty fleet."""
    with pytest.raises(UsageFault):
        fleet.read(body, None)


# --- rings ------------------------------------------------------------------------


def test_percent_takes_about_so_many_and_others_each_time() -> None:
    """By node and generation; a larger percent keeps those of a smaller one."""
    names = [f"{A}/n{i}" for i in range(2000)]

    def taken(percent: int, generation: int) -> set[str]:
        ring = Ring("some", NOW, ("*",), percent)
        return {n for n in names if ring.takes(n, generation)}

    assert 140 < len(taken(10, 1)) < 260
    assert taken(10, 1) < taken(50, 1) < taken(100, 1)
    assert taken(10, 1) != taken(10, 2)


def test_node_belongs_to_the_first_ring_that_takes_it() -> None:
    """By name, by department, or everybody."""
    first = Ring("first", NOW, (f"{A}/a",))
    second = Ring("second", NOW + timedelta(hours=1), (f"{A}/*",))
    rollout = Rollout(3, (first, second))
    assert rollout.ring(f"{A}/a") == first
    assert rollout.ring(f"{A}/b") == second
    assert rollout.ring(f"{B}/a") is None
    assert rollout.open_to(f"{A}/a", NOW)
    assert not rollout.open_to(f"{A}/b", NOW)
    assert not rollout.open_to(f"{B}/a", NOW)
    assert parse_rollout(strict.dumps(rollout.as_object())) == rollout


@pytest.mark.parametrize(
    "ring",
    [
        {"name": "a", "start": "2026-11-22T08:00:00Z", "nodes": []},
        {"name": "a", "start": "now", "nodes": ["*"]},
        {"name": "A", "start": "2026-11-22T08:00:00Z", "nodes": ["*"]},
        {"name": "a", "start": "2026-11-22T08:00:00Z", "nodes": ["x"]},
        {"name": "a", "start": "2026-11-22T08:00:00Z", "nodes": ["*"], "percent": 0},
        {"name": "a", "start": "2026-11-22T08:00:00Z", "nodes": ["*"], "else": 1},
    ],
)
def test_ring_of_another_form_is_refused(ring: dict[str, object]) -> None:
    """Nothing is guessed about who takes what when."""
    with pytest.raises(MalformedMessage):
        parse_rollout(strict.dumps({"v": 1, "generation": 1, "rings": [ring]}))


def test_halt_lists_generations() -> None:
    """Whole numbers from 1."""
    assert parse_halt(b'{"v":1,"generations":[3,5]}') == {3, 5}
    with pytest.raises(MalformedMessage):
        parse_halt(b'{"v":1,"generations":[0]}')


@pytest.mark.parametrize(
    ("rings", "fits"),
    [
        ((("*", 50), ("*", 50)), False),
        ((("*", 50), ("*", 100)), True),
        ((("*", 50), (f"{'0' * 18}/*", 50)), False),
        (((f"{'0' * 18}/*", 50), ("*", 50)), True),
    ],
)
def test_a_ring_that_takes_nobody_is_refused(
    rings: tuple[tuple[str, int], ...], fits: bool
) -> None:
    """Percents are of one lot: they do not add up."""
    at = "2026-12-02T01:00:00Z"
    said = [
        {"name": f"r{i}", "start": at, "nodes": [entry], "percent": percent}
        for i, (entry, percent) in enumerate(rings)
    ]
    data = strict.dumps({"v": 1, "generation": 1, "rings": said})
    with nullcontext() if fits else pytest.raises(MalformedMessage):
        parse_rollout(data)
