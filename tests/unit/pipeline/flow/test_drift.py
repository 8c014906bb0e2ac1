# SPDX-License-Identifier: Apache-2.0
"""A table that was changed: what goes on, what is held, and how a person goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agent.audit.events import ColumnsChanged, RunHeld
from agent.model.column import Column
from agent.model.job import Failed
from agent.pipeline.flow.drift import changes
from tests.support.push import PERSON, Resource, World, pull, until


def column(
    name: str, native: str, *, nullable: bool = True, key: bool = False
) -> Column:
    """A column; the item types are not what is judged."""
    return Column(name, native, "C", None, None, nullable, key)


ID = column("id", "bigint", nullable=False, key=True)
NAME = column("name", "varchar(20)")
TABLE = (ID, NAME)


def judged(before: str, after: str) -> str | None:
    """What is said of one bound column of these types."""
    found = changes((column("a", before),), (column("a", after),), bound={"a"})
    return found[0].what if found else None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("varchar(20)", "varchar(40)"),
        ("character varying(20)", "character varying(40)"),
        ("varchar(20)", "varchar"),
        ("varchar(20)", "text"),
        ("character varying(20)", "text"),
        ("smallint", "integer"),
        ("integer", "bigint"),
        ("int4", "int8"),
        ("numeric(10,2)", "numeric(12,2)"),
        ("numeric(10,2)", "numeric(12,4)"),
        ("numeric(10,2)", "numeric"),
        ("real", "double precision"),
        ("VARCHAR(20)", "VARCHAR(40)"),
        ("int(11)", "bigint(20)"),
        ("int(10) unsigned", "bigint(20) unsigned"),
        ("varchar(20)", "longtext"),
        ("datetime", "datetime(6)"),
    ],
)
def test_what_holds_all_that_was_there_and_more_is_wider(
    before: str, after: str
) -> None:
    """Every value of before fits as it is."""
    assert judged(before, after) == "widened"


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        ("varchar(40)", "varchar(20)", "narrowed"),
        ("varchar", "varchar(20)", "narrowed"),
        ("numeric(12,2)", "numeric(12,4)", "narrowed"),
        ("numeric(12,4)", "numeric(12,2)", "narrowed"),
        ("numeric", "numeric(12,2)", "narrowed"),
        (
            "timestamp(6) without time zone",
            "timestamp(3) without time zone",
            "narrowed",
        ),
        ("text", "varchar(20)", "type"),
        ("bigint", "integer", "type"),
        ("bigint", "text", "type"),
        ("char(18)", "varchar(18)", "type"),
        ("date", "timestamp without time zone", "type"),
        ("timestamp without time zone", "timestamp with time zone", "type"),
        ("double precision", "numeric", "type"),
        ("int unsigned", "int", "type"),
        ("int(11)", "bigint(20) unsigned", "type"),
        ("enum('a','b')", "enum('a')", "type"),
        ("", "TEXT", "type"),
    ],
)
def test_what_may_hold_less_or_something_else_is_not(
    before: str, after: str, what: str
) -> None:
    """Fewer digits before the point, another meaning of a time, blanks of a char."""
    assert judged(before, after) == what


@pytest.mark.parametrize("native", ["varchar(20)", "int", "", "my type(3)"])
def test_what_is_the_same_is_no_change(native: str) -> None:
    """Whatever it is called."""
    assert judged(native, native) is None


def test_how_wide_a_whole_number_is_shown_is_no_change() -> None:
    """MySQL's int(11) and int(10) hold the same numbers."""
    assert judged("int(11)", "int(10)") is None


def test_emptiness_that_is_allowed_is_safe_and_forbidden_is_not() -> None:
    """A bound column may be empty now, or may not be any more."""
    strict = replace(NAME, nullable=False)
    assert [c.what for c in changes((strict,), (NAME,), bound={"name"})] == ["nullable"]
    assert [c.what for c in changes((NAME,), (strict,), bound={"name"})] == ["not-null"]


def test_a_renamed_column_is_named_as_such() -> None:
    """One gone, one like it come: not two findings."""
    after = (ID, replace(NAME, name="full_name"))
    [found] = changes(TABLE, after, bound={"id", "name"})
    assert str(found) == "~ name varchar(20) -> as full_name (renamed)"
    assert not found.safe


def test_two_candidates_are_no_rename() -> None:
    """Nobody guesses between two columns that are alike."""
    after = (ID, replace(NAME, name="a"), replace(NAME, name="b"))
    found = changes(TABLE, after, bound={"id", "name"})
    assert [str(c) for c in found] == [
        "- name varchar(20)",
        "+ a varchar(20)",
        "+ b varchar(20)",
    ]


def test_another_key_is_never_safe() -> None:
    """The centre's rows go by it, whether or not its columns are bound."""
    after = (replace(ID, key=False), replace(NAME, key=True))
    [found] = changes(TABLE, after, bound=())
    assert (str(found), found.safe) == ("~ PRIMARY KEY (id) -> (name) (key)", False)


def test_what_never_travels_holds_nothing() -> None:
    """A column that no item is bound to may go, or become anything."""
    other = column("salary", "numeric(8,2)")
    for after in ((*TABLE,), (*TABLE, column("salary", "text"))):
        [found] = changes((*TABLE, other), after, bound={"id", "name"})
        assert (found.what, found.safe) == ("other", True)


# --- in the flow --------------------------------------------------------------------


@pytest.fixture
def world(tmp_path: Path) -> World:
    """A table that was read once; the double binds no column but what a test says."""
    world = World(tmp_path)
    world.bound = ("id", "name")
    world.scripts[PERSON].columns = TABLE
    return world


async def test_a_wider_table_goes_on_and_is_told_once(world: World) -> None:
    """One event, then it is how the table is."""
    await world.pulled()
    wider = (ID, replace(NAME, native="varchar(40)"), column("phone", "text"))
    world.scripts[PERSON].columns = wider
    for _ in range(2):
        assert (await world.pulled()).delivered
    [told] = world.told(ColumnsChanged)
    assert told.changes == (
        "~ name varchar(20) -> varchar(40) (widened)",
        "+ phone text",
    )


async def test_a_narrower_table_is_held_with_its_difference(world: World) -> None:
    """Nothing of it is sent; undoing the change is enough."""
    await world.pulled()
    before = len(world.exchange.batches)
    world.scripts[PERSON].columns = (ID, replace(NAME, native="varchar(10)"))
    async with world.serving() as flow:
        report = await pull(flow)
        assert (report.state, report.code) == ("held", "schema-drift")
        assert "~ name varchar(20) -> varchar(10) (narrowed)" in (report.detail or "")
        status = await until(flow, lambda s: s.state == "held")
        assert status.trouble is not None
        assert len(world.exchange.batches) == before
        assert [e.code for e in world.told(RunHeld)] == ["schema-drift"]
        world.scripts[PERSON].columns = TABLE
        assert (await pull(flow)).delivered
        assert flow.resource(PERSON).state == "idle"


async def test_a_table_that_cannot_be_read_is_named_with_its_difference(
    world: World,
) -> None:
    """The source's word names it: it mends itself. The difference goes along."""
    await world.pulled()
    gone = Failed("source-missing", "no column name")
    world.scripts[PERSON].columns = (ID,)
    world.scripts[PERSON].failures = [gone]
    report = await world.pulled()
    assert (report.state, report.code) == ("failed", "source-missing")
    assert report.detail == "no column name\n- name varchar(20)"
    assert report.successor is not None


async def test_a_right_that_was_taken_away_is_no_difference(world: World) -> None:
    """Columns that an account may not see any more are still there."""
    await world.pulled()
    world.scripts[PERSON].columns = ()
    world.scripts[PERSON].failures = [Failed("source-right", "no SELECT")]
    report = await world.pulled()
    assert (report.code, report.detail) == ("source-right", "no SELECT")


async def test_a_higher_version_of_the_document_accepts_the_table(
    world: World,
) -> None:
    """A person has looked: what is there is the measure from now on."""
    await world.pulled()
    narrow = (ID, replace(NAME, native="varchar(10)"))
    world.scripts[PERSON].columns = narrow
    assert (await world.pulled()).state == "held"
    world.resources = (Resource(PERSON, version=2),)
    assert (await world.pulled()).delivered
    world.scripts[PERSON].columns = TABLE
    assert (await world.pulled()).delivered
    assert len(world.told(ColumnsChanged)) == 1


async def test_a_held_table_stays_the_measure(world: World) -> None:
    """The refused columns do not become what the next run compares with."""
    await world.pulled()
    world.scripts[PERSON].columns = (ID, replace(NAME, native="varchar(10)"))
    for _ in range(2):
        assert (await world.pulled()).code == "schema-drift"
