# SPDX-License-Identifier: Apache-2.0
"""The centre's documents: within every bound, or nothing of them at all."""

from __future__ import annotations

import json
import math
from datetime import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.control.ceiling import Ceiling
from agent.control.merge import fit, merge
from agent.control.overlay import Overlay, read
from agent.errors import CeilingForbids, DocumentInvalid, FilesInvalid, RunningDamaged
from agent.model.windows import any_open, inside
from agent.settings import load as settings_load
from agent.settings.load import overlaid
from agent.settings.model import Schedule, SourceLimits
from agent.wire.repository import LIMITS_FILE, group_file, node_file
from tests.support.central import (
    EVERYTHING,
    LOCAL,
    NODE,
    URL,
    ceiling,
    config,
    merged,
    published,
)
from tests.support.settings_text import write
from tests.support.tries import tries

CODE = "101001/000001"
EVIL = "https://evil.example:8443"


def refused(
    kind: type[FilesInvalid], files: dict[str, bytes], **more: Any
) -> list[str]:
    """``file key`` of each fault."""
    with pytest.raises(kind) as caught:
        merged(files, **more)
    return [f"{f.file} {f.key}".strip() for f in caught.value.faults]


# --- what is said, and by whom ------------------------------------------------------


def test_a_node_of_which_nothing_is_published_stays_as_it_is() -> None:
    """No document, no words."""
    found = merged({})
    assert (found.generation, found.tables, found.off) == (0, {}, frozenset())


def test_groups_count_in_the_order_of_the_list_and_the_node_over_them() -> None:
    """Key by key; the origin of each is kept."""
    found = merged(
        published(
            groups={
                "zeta": {"push": {"poll_s": 1}, "log": {"level": "error"}},
                "alfa": {"push": {"poll_s": 2}, "spool": {"quota_mb": 100}},
            },
            own={"spool": {"quota_mb": 200}},
        )
    )
    assert found.tables == {
        "push": {"poll_s": 2},
        "log": {"level": "error"},
        "spool": {"quota_mb": 200},
    }
    assert found.origins == {
        "push.poll_s": "groups/alfa",
        "log.level": "groups/zeta",
        "spool.quota_mb": f"nodes/{NODE}",
    }


def test_the_generation_is_the_highest_of_what_it_came_from() -> None:
    """Of the node's document, its groups and the city's bounds."""
    files = published(own={}, groups={"g": {}}, limits={})
    files[group_file("g")] = config(7)
    files[LIMITS_FILE] = config(5)
    assert merged(files).generation == 7


def test_a_group_that_is_not_published_refuses_everything() -> None:
    """A node does not run half of what it is to run."""
    files = {node_file(NODE): config(groups=["gone"])}
    assert refused(DocumentInvalid, files) == [f"{node_file(NODE)} groups"]


def test_faults_of_all_documents_are_told_at_once() -> None:
    """Central ops corrects them in one go."""
    files = published(
        groups={"g": {"lookup": {}}, "h": {"push": {"workers": "2"}}}, limits={"x": 1}
    )
    assert refused(DocumentInvalid, files) == [
        f"{LIMITS_FILE} x",
        f"{group_file('g')} settings.lookup",
        f"{group_file('h')} settings.push.workers",
    ]


def test_what_a_group_says_of_sources_elsewhere_is_left_out() -> None:
    """A group is for many nodes; in the node's own document it is a fault."""
    words = {"limits": {"other": {"rows_per_s": 5}, "rsj": {"rows_per_s": 6}}}
    assert merged(published(groups={"g": words})).tables == {
        "limits": {"rsj": {"rows_per_s": 6}}
    }
    assert refused(DocumentInvalid, published(own=words)) == [
        f"{node_file(NODE)} settings.limits.other"
    ]


# --- attacks ------------------------------------------------------------------------


def test_without_a_ceiling_the_centre_sets_nothing() -> None:
    """One reason, not one for each section."""
    nothing = Ceiling(ceiling().path)
    files = published(own={"push": {"poll_s": 1}, "log": {"level": "error"}})
    assert refused(CeilingForbids, files, under=nothing) == ["/etc/fep/ceiling.toml"]
    assert merged(published(own={}), under=nothing).tables == {}


def test_attack_widens_the_ceiling() -> None:
    """No key of a document reaches it, and its numbers are cut to it."""
    for words in ({"ceiling": {}}, {"bounds": {}}, {"agent": {"ceiling": "/tmp/c"}}):
        assert refused(DocumentInvalid, published(own=words))
    found = merged(
        published(own={"limits": {"rsj": {"rows_per_s": 0}}}),
        under=ceiling(rows_per_s=500),
    )
    assert found.tables["limits"]["rsj"]["rows_per_s"] == 500
    assert found.origins["limits.rsj.rows_per_s"] == "ceiling.toml"


def test_attack_sets_a_section_that_is_not_open() -> None:
    """One such section refuses what is allowed, too."""
    files = published(own={"push": {"poll_s": 1}, "log": {"level": "debug"}})
    under = ceiling(allow=frozenset({"push"}))
    assert refused(CeilingForbids, files, under=under) == [
        f"{node_file(NODE)} settings.log"
    ]


@pytest.mark.parametrize("key", ["url", "more_urls"])
@pytest.mark.parametrize(
    "url",
    [
        EVIL,
        "https://127.0.0.1:8444",
        "https://127.0.0.1",
        "https://127.0.0.1.:8443",
        "https://127.0.0.1.evil.example:8443",
        "https://127.0.0.1:99999",
    ],
)
def test_attack_points_to_a_forbidden_exchange(key: str, url: str) -> None:
    """Another host, another port, or one that only looks the same."""
    words = {"exchange": {key: url if key == "url" else [URL, url]}}
    assert refused(CeilingForbids, published(own=words)) == [
        f"{node_file(NODE)} settings.exchange.{key}"
    ]


def test_an_exchange_that_the_department_lists_may_be_chosen() -> None:
    """In agent.toml or in the ceiling, whatever the path and the case."""
    under = Ceiling(
        ceiling().path,
        present=True,
        allow=EVERYTHING,
        endpoints=frozenset({"https://b.example:443"}),
    )
    words = {"exchange": {"url": "https://B.example/fep", "more_urls": [URL + "/x"]}}
    assert merged(published(own=words), under=under).tables == words


def test_an_exchange_that_the_city_does_not_list_is_refused() -> None:
    """Even if the department lists it; an empty list allows none."""
    words = {"exchange": {"url": URL}}
    good = published(own=words, limits={"endpoints": [URL]})
    assert merged(good).tables == words
    for endpoints in ([], [EVIL]):
        files = published(own=words, limits={"endpoints": endpoints})
        assert refused(CeilingForbids, files) == [
            f"{node_file(NODE)} settings.exchange.url"
        ]


def test_attack_removes_a_running_resource() -> None:
    """Only where the ceiling lets the centre switch off; there is no word to remove."""
    files = {node_file(NODE): config(off=[CODE])}
    under = ceiling(allow=EVERYTHING - {"off"})
    assert refused(CeilingForbids, files, under=under) == [f"{node_file(NODE)} off"]
    found = merged(files)
    assert (found.off, found.tables) == ({CODE}, {})
    assert found.origins == {f"off.{CODE}": f"nodes/{NODE}"}


@pytest.mark.parametrize("ours", [CODE, "defaults"])
@pytest.mark.parametrize("kind", ["full", "incremental", "deletes", "reconcile"])
def test_attack_turns_on_what_the_department_turned_off(ours: str, kind: str) -> None:
    """A written `off` is the department's last word."""
    local = {"schedule": {ours: {kind: "off"}}}
    words = {"schedule": {ours: {kind: "every 1h"}}}
    assert refused(CeilingForbids, published(own=words), local=local) == [
        f"{node_file(NODE)} settings.schedule.{ours}.{kind}"
    ]


def test_a_word_about_all_does_not_turn_on_one_that_is_off() -> None:
    """What agent.toml says of the one resource stands."""
    local = {"schedule": {CODE: {"full": "off"}}}
    words = {"schedule": {"defaults": {"full": "every 1h"}}}
    found = merged(published(own=words), local=local)
    both = overlaid({**LOCAL, **local}, found.tables)["schedule"]
    assert both[CODE]["full"] == "off"
    assert both["defaults"]["full"] == "every 1h"


def test_attack_reads_by_day_through_a_window_that_is_left_out() -> None:
    """Times without windows, or an empty list of them, are cut to the ceiling's."""
    under = ceiling(windows=["20:00-06:00"])
    for said in ({}, {"off_peak": []}, {"off_peak": ["00:00-23:59"]}):
        words = {"schedule": {CODE: {"full": "every 1h", **said}}}
        found = merged(published(own=words), under=under)
        held = found.tables["schedule"][CODE]["off_peak"]
        assert not any_open(held, time(12))
        assert any_open(held, time(23))
        assert found.origins[f"schedule.{CODE}.off_peak"] == "ceiling.toml"


def test_attack_a_word_about_all_opens_hours_of_one() -> None:
    """A resource whose own windows were for other times is held, too."""
    local = {"schedule": {CODE: {"off_peak": ["08:00-18:00"]}}}
    words = {"schedule": {"defaults": {"full": "every 1h"}}}
    under = ceiling(windows=["17:00-06:00"])
    found = merged(published(own=words), local=local, under=under)
    assert found.tables["schedule"][CODE]["off_peak"] == ["17:00-18:00"]


def test_hours_that_have_none_in_common_are_refused() -> None:
    """There is no way to say never, and nothing else would be within the bound."""
    words = {"schedule": {CODE: {"full": "every 1h", "off_peak": ["08:00-10:00"]}}}
    under = ceiling(windows=["20:00-06:00"])
    assert refused(CeilingForbids, published(own=words), under=under) == [
        f"{node_file(NODE)} settings.schedule.{CODE}.off_peak"
    ]


def test_attack_makes_the_whole_day_off_peak() -> None:
    """Where the ceiling is silent, agent.toml's own hours are the bound."""
    words = {"limits": {"rsj": {"off_peak": ["00:00-23:59"]}}}
    local = {"limits": {"defaults": {"rows_per_s": 10}}}
    found = merged(published(own=words), local=local)
    assert found.tables["limits"]["rsj"]["off_peak"] == []
    assert found.origins["limits.rsj.off_peak"] == "agent.toml"


@pytest.mark.parametrize("key", ["probe_s", "busy_percent", "lock_waits"])
def test_attack_stops_the_care_for_the_source(key: str) -> None:
    """0 looks away: it is the loosest of all."""
    found = merged(published(own={"limits": {"defaults": {key: 0}}}))
    usual = SourceLimits.model_fields[key].default
    assert found.tables["limits"]["defaults"][key] == usual


def test_where_the_ceiling_is_silent_the_centre_can_only_be_stricter() -> None:
    """Than what agent.toml says, or its default."""
    local = {"push": {"workers": 2}, "uplink": {"streams": 3}}
    looser = merged(
        published(own={"push": {"workers": 9}, "uplink": {"streams": 9}}), local=local
    )
    assert looser.tables == {"push": {"workers": 2}, "uplink": {"streams": 3}}
    assert set(looser.origins.values()) == {"agent.toml"}
    stricter = merged(published(own={"push": {"workers": 1}}), local=local)
    assert stricter.tables == {"push": {"workers": 1}}


def test_the_ceiling_may_be_wider_than_agent_toml() -> None:
    """Then the centre may be, too, as far as the city lets it."""
    files = published(
        own={"push": {"workers": 9}, "exchange": {"heartbeat_s": 1}},
        limits={"limits": {"workers": 4, "heartbeat_s_min": 20}},
    )
    found = merged(files, under=ceiling(workers=8, heartbeat_s_min=5))
    assert found.tables == {"push": {"workers": 4}, "exchange": {"heartbeat_s": 20}}
    assert set(found.origins.values()) == {"limits.json"}


def test_bandwidth_is_the_narrower_at_every_minute() -> None:
    """Of what is wanted, of agent.toml's own, and of the city's."""
    local = {"uplink": {"bandwidth": [{"window": "08:00-12:00", "kb_s": 100}]}}
    words = {
        "uplink": {
            "bandwidth": [
                {"window": "10:00-14:00", "kb_s": 500},
                {"window": "11:00-13:00", "kb_s": 64},
            ]
        }
    }
    found = merged(published(own=words, limits={"limits": {"kb_s": 900}}), local=local)
    assert found.tables["uplink"]["bandwidth"] == [
        {"window": "08:00-12:00", "kb_s": 100},
        {"window": "12:00-14:00", "kb_s": 500},
        {"window": "14:00-08:00", "kb_s": 900},
    ]


def test_more_windows_than_the_settings_hold_are_refused() -> None:
    """They are not cut off: something would be unbounded."""
    ours = [{"window": f"{h:02}:00-{h:02}:30", "kb_s": 100} for h in range(16)]
    words = [{"window": f"{h:02}:20-{h:02}:40", "kb_s": 90} for h in range(16)]
    assert refused(
        CeilingForbids,
        published(own={"uplink": {"bandwidth": words}}),
        local={"uplink": {"bandwidth": ours}},
    ) == [f"{node_file(NODE)} settings.uplink.bandwidth"]


# --- properties ---------------------------------------------------------------------

CLOCK = st.builds("{:02}:{:02}".format, st.integers(0, 23), st.integers(0, 59))
WINDOW = st.builds("{}-{}".format, CLOCK, CLOCK).filter(lambda w: w[:5] != w[6:])
WINDOWS = st.lists(WINDOW, max_size=3)
RATE = st.one_of(st.just(0), st.integers(0, 1000))
TIMES = st.sampled_from(["off", "every 1h", "0 2 * * *"])


def some(**keys: Any) -> Any:
    """A table with some of these keys."""
    return st.fixed_dictionaries({}, optional=keys)


LIMITS = some(
    rows_per_s=RATE,
    off_peak_rows_per_s=RATE,
    off_peak=WINDOWS,
    busy_percent=st.integers(0, 100),
)
SCHEDULE = some(full=TIMES, deletes=TIMES, off_peak=WINDOWS)
SETTINGS = some(
    schedule=some(defaults=SCHEDULE, **{CODE: SCHEDULE, "101001/000002": SCHEDULE}),
    limits=some(defaults=LIMITS, rsj=LIMITS),
    uplink=some(
        streams=st.integers(1, 16),
        bandwidth=st.lists(
            st.fixed_dictionaries({"window": WINDOW, "kb_s": st.integers(64, 1000)}),
            max_size=3,
        ),
    ),
    push=some(workers=st.integers(1, 16), batch_raw_mb=st.integers(1, 60)),
    spool=some(quota_mb=st.integers(64, 9999)),
    exchange=some(heartbeat_s=st.integers(1, 3600), url=st.sampled_from([URL, EVIL])),
)
BOUNDS = some(
    rows_per_s=RATE,
    off_peak_rows_per_s=RATE,
    busy_percent=st.integers(0, 100),
    off_peak=WINDOWS,
    windows=WINDOWS,
    streams=st.integers(0, 16),
    kb_s=st.one_of(st.just(0), st.integers(64, 1000)),
    workers=st.integers(0, 16),
    quota_mb=st.one_of(st.just(0), st.integers(64, 9999)),
    heartbeat_s_min=st.integers(0, 3600),
)
LOCALS = SETTINGS.map(lambda s: {k: v for k, v in s.items() if k != "exchange"})
MINUTES = [time(m // 60, m % 60) for m in range(0, 1440, 13)]


def over(tables: dict[str, Any], section: str, name: str, model: Any) -> dict[str, Any]:
    """What holds for a name of a section."""
    found = tables.get(section, {})
    usual = {key: field.default for key, field in model.model_fields.items()}
    return {**usual, **found.get("defaults", {}), **found.get(name, {})}


def most(value: float) -> float:
    """0 is none."""
    return value or math.inf


def rate(limits: dict[str, Any], clock: time) -> float:
    """Rows a second that may be read at a time."""
    key = "off_peak_rows_per_s" if any_open(limits["off_peak"], clock) else "rows_per_s"
    return most(limits[key])


def kb_s(bandwidth: Any, clock: time) -> float:
    """Most that uploads may send at a time."""
    fits = (b["kb_s"] for b in bandwidth if inside(b["window"], clock))
    return float(next(fits, math.inf))


def worst(bounds: dict[str, Any]) -> float:
    """The fastest that bounds let a source be read, day or night."""
    return max(most(bounds["rows_per_s"]), most(bounds["off_peak_rows_per_s"]))


@tries(300)
@given(local=LOCALS, group=SETTINGS, own=SETTINGS, city=BOUNDS, top=BOUNDS)
def test_the_result_never_exceeds_ceiling_nor_city(
    local: dict[str, Any],
    group: dict[str, Any],
    own: dict[str, Any],
    city: dict[str, Any],
    top: dict[str, Any],
) -> None:
    """Whatever documents say: they are refused, or what comes of them is within."""
    files = published(own=own, groups={"g": group}, limits={"limits": city})
    under = ceiling(**top)
    whole = {**LOCAL, **local}
    try:
        found = merge(whole, files, node=NODE, ceiling=under)
    except CeilingForbids:
        return
    assert fit(found, whole, ceiling=under) == found
    both = overlaid(whole, found.tables)
    check_numbers(both, found.tables, (city, top))
    for name in ("defaults", "rsj"):
        check_limits(both, found.tables, name, (city, top))
    for name in ("defaults", CODE, "101001/000002", "unheard/of"):
        check_schedule(whole, both, name, (city, top))


def check_numbers(both: Any, said: Any, bounds: Any) -> None:
    """Keys of their own: what the centre set is within both bounds."""
    for section, key in (
        ("uplink", "streams"),
        ("push", "workers"),
        ("spool", "quota_mb"),
    ):
        if key in said.get(section, {}):
            assert all(both[section][key] <= most(b.get(key, 0)) for b in bounds)
    if "heartbeat_s" in said.get("exchange", {}):
        least = max(b.get("heartbeat_s_min", 0) for b in bounds)
        assert both["exchange"]["heartbeat_s"] >= least
    assert both["exchange"]["url"] == URL
    if "bandwidth" in said.get("uplink", {}):
        allowed = min(most(b.get("kb_s", 0)) for b in bounds)
        assert all(kb_s(both["uplink"]["bandwidth"], m) <= allowed for m in MINUTES)


def check_limits(both: Any, said: Any, name: str, bounds: Any) -> None:
    """A source of which the centre said anything is read within both bounds."""
    if not {"defaults", name} & said.get("limits", {}).keys():
        return
    if name == "rsj" and name not in said["limits"]:
        held = both["limits"].get(name, {})
        if said["limits"]["defaults"].keys() <= held.keys():
            return
    limits = over(both, "limits", name, SourceLimits)
    for bound in bounds:
        for key in ("rows_per_s", "off_peak_rows_per_s", "busy_percent"):
            assert most(limits[key]) <= most(bound.get(key, 0)), key
        if "off_peak" in bound:
            for minute in MINUTES:
                if any_open(limits["off_peak"], minute):
                    assert any_open(bound["off_peak"], minute)


def check_schedule(whole: Any, both: Any, name: str, bounds: Any) -> None:
    """What the centre made run runs within both windows, and nothing that is off."""
    before = over(whole, "schedule", name, Schedule)
    after = over(both, "schedule", name, Schedule)
    for key in ("full", "deletes"):
        written = whole.get("schedule", {})
        own, general = written.get(name, {}), written.get("defaults", {})
        if own.get(key, general.get(key)) == "off":
            assert after[key] == "off"
    if all(before[key] == after[key] for key in ("full", "deletes", "off_peak")):
        return
    for bound in bounds:
        if windows := bound.get("windows"):
            assert after["off_peak"]
            for minute in MINUTES:
                if any_open(after["off_peak"], minute):
                    assert any_open(windows, minute)


SAID = st.fixed_dictionaries({"full": TIMES, "deletes": TIMES})
TABLES = some(defaults=SAID, **{CODE: SAID})


@tries(200)
@given(local=TABLES, group=TABLES, own=TABLES)
def test_a_document_never_turns_on_what_is_written_off(
    local: dict[str, Any], group: dict[str, Any], own: dict[str, Any]
) -> None:
    """Whoever says it of one resource or of all."""
    whole = {**LOCAL, "schedule": local}
    files = published(own={"schedule": own}, groups={"g": {"schedule": group}})
    try:
        found = merge(whole, files, node=NODE, ceiling=ceiling())
    except CeilingForbids:
        return
    both = overlaid(whole, found.tables)
    for name in ("defaults", CODE, "unheard/of"):
        check_schedule(whole, both, name, ())


@tries(200)
@given(local=LOCALS, own=SETTINGS, top=BOUNDS, later=BOUNDS)
def test_a_ceiling_that_is_lowered_holds_for_what_runs(
    local: dict[str, Any], own: dict[str, Any], top: dict[str, Any], later: Any
) -> None:
    """What was merged before comes to what the documents would come to now."""
    whole = {**LOCAL, **local}
    files = published(own=own)
    now = ceiling(**{**top, **later})
    try:
        before = merge(whole, files, node=NODE, ceiling=ceiling(**top))
        found = fit(before, whole, ceiling=now)
    except CeilingForbids:
        return
    assert fit(found, whole, ceiling=now) == found
    said = {**LOCAL, **local}
    both = overlaid(said, found.tables)
    check_numbers(both, found.tables, ({**top, **later},))


def test_a_ceiling_that_closes_a_section_ends_what_runs() -> None:
    """Nothing of the overlay holds until the documents fit again."""
    found = merged(published(own={"push": {"poll_s": 1}}))
    with pytest.raises(CeilingForbids) as caught:
        fit(found, LOCAL, ceiling=ceiling(allow=frozenset({"log"})))
    [fault] = caught.value.faults
    assert (fault.file, fault.key) == (node_file(NODE), "settings.push")


# --- the file -----------------------------------------------------------------------


def test_an_overlay_comes_back_from_its_file(tmp_path: Any) -> None:
    """With the same name, and nothing without a file."""
    words = {"limits": {"rsj": {"mb_per_s": 1, "rows_per_s": 3}}}
    found = merged(published(own=words))
    path = tmp_path / "running.json"
    assert read(path) is None
    path.write_bytes(found.as_json())
    again = read(path)
    assert again == found
    assert again is not None
    assert again.digest == found.digest
    assert found.digest.startswith("sha256:")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-10],
        lambda data: b"",
        lambda data: b"null",
        lambda data: b"[]",
        lambda data: b"{}",
        lambda data: data.replace(b'"workers":1', b'"workers":9'),
        lambda data: data.replace(b'"generation":1', b'"generation":2'),
        lambda data: b"[" * 100_000,
        lambda data: b"\xff" + data,
    ],
)
def test_a_damaged_overlay_is_never_something_else(tmp_path: Any, spoil: Any) -> None:
    """One byte, half a file, another kind of file."""
    path = tmp_path / "running.json"
    path.write_bytes(spoil(merged(published(own={"push": {"workers": 1}})).as_json()))
    with pytest.raises(RunningDamaged):
        read(path)


def test_the_digest_names_all_of_it() -> None:
    """Where a value came from, too: that is what people compare."""
    one = Overlay(1, {}, frozenset(), {})
    others = [
        Overlay(2, {}, frozenset(), {}),
        Overlay(1, {"log": {"level": "info"}}, frozenset(), {}),
        Overlay(1, {}, frozenset({CODE}), {}),
        Overlay(1, {}, frozenset(), {"log.level": "groups/g"}),
    ]
    assert len({one.digest, *(o.digest for o in others)}) == 5
    assert json.loads(one.as_json())["digest"] == one.digest


def test_settings_take_an_overlay(tmp_path: Any) -> None:
    """Key by key, over the file; limits of a source that is gone are left out."""
    path = write(
        tmp_path,
        '[push]\nworkers = 2\npoll_s = 9\n[sources.rsj]\nconnector = "sqlite"\n',
    )
    overlay = {
        "push": {"workers": 1},
        "limits": {"rsj": {"rows_per_s": 5}, "gone": {"rows_per_s": 5}},
        "schedule": {CODE: {"full": "every 1h", "off_peak": ["20:00-06:00"]}},
    }
    found = settings_load(path, overlay=overlay, secrets=False)
    assert (found.push.workers, found.push.poll_s) == (1, 9.0)
    assert found.limits.keys() == {"rsj"}
    assert found.schedule_of(CODE).off_peak == ("20:00-06:00",)


# --- by another name ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["defaults", CODE])
def test_attack_a_plan_of_off_needs_the_right_to_switch_off(name: str) -> None:
    """What the department reads at its times would never be read again."""
    local = {"schedule": {"defaults": {"full": "0 2 * * *"}}}
    under = ceiling(allow=EVERYTHING - {"off"})
    said = published(own={"schedule": {name: {"full": "off"}}})
    assert refused(CeilingForbids, said, local=local, under=under) == [
        f"nodes/{NODE}/config.json settings.schedule.{name}.full"
    ]
    assert merged(said, local=local).tables["schedule"][name]["full"] == "off"
    assert merged(said, under=under).tables["schedule"][name]["full"] == "off"


def test_attack_hours_taken_away_do_not_lift_the_narrower_limit() -> None:
    """The department reads slowly at daytime; without the hours nothing would."""
    ours = {"off_peak": ["08:00-18:00"], "off_peak_rows_per_s": 100}
    said = published(own={"limits": {"rsj": {"off_peak": []}}})
    found = merged(said, local={"limits": {"rsj": ours}})
    assert found.tables["limits"]["rsj"] == {"off_peak": [], "rows_per_s": 100}
    assert found.origins["limits.rsj.rows_per_s"] == "agent.toml"
    local = {**LOCAL, "limits": {"rsj": ours}}
    assert fit(found, local, ceiling=ceiling(allow=EVERYTHING)) == found
