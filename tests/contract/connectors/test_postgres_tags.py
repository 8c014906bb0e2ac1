# SPDX-License-Identifier: Apache-2.0
"""Rows that PostgreSQL digests itself: no change of any type may keep its tag."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from connectors.conformance import Subject, rule_name
from connectors.conformance_tags import TAG_RULES
from connectors.contract import ColumnSpec, Limits, Slice, SourceError, StreamSpec
from connectors.postgres.session import PostgresSession, session
from connectors.tags import TaggedKeys, TaggedPage
from tests.support.postgres import Server
from tests.support.subjects import postgres_subject

pytestmark = pytest.mark.contract

FOLDED = 5 << 32 | 0b0110, 3 << 32 | 0b0000
"""Both halves of each give the same bits by exclusive or; times count from 2000."""

DISTINCT: tuple[tuple[str, str, Sequence[str]], ...] = (
    # what a type's own hash function takes for equal
    ("numeric(12,2)", "N", ["5.00", "-5.00", "500.00", "0.05", "'NaN'"]),
    ("numeric", "C", ["1.1", "1.10", "-1.1", "'NaN'", "'Infinity'", "'-Infinity'"]),
    ("bigint", "I", [str(FOLDED[0]), str(FOLDED[1]), "1", "-2", "4294967296"]),
    ("timestamp", "T", [
        f"timestamp '2000-01-01' + {us} * interval '1 us'" for us in FOLDED
    ]),
    ("timestamptz", "T", [
        f"timestamptz '2000-01-01 00:00Z' + {us} * interval '1 us'" for us in FOLDED
    ]),
    ("double precision", "B", ["0", "1", "'NaN'", "'Infinity'", "'-Infinity'"]),
    ("char(3)", "C", ["'a'", "' a'", "'ab'", "''"]),
    ("bpchar", "C", ["'a'::bpchar", "'a '::bpchar", "'a  '::bpchar"]),
    ('text collate "blind"', "C", ["'a'", "'A'", "'á'", "'ａ'"]),
    ("varchar(9)", "C", ["'a'", "'a '", "''", "'张'"]),
    ("jsonb", "M", ["'1.1'", "'1.10'", """'{"a": 1}'""", "'null'"]),
    ("json", "M", ["'1.1'", "'1.10'", "'[ ]'", "'[]'"]),
    ("interval", "C", ["'1 month'", "'30 days'", "'720 hours'"]),
    ("money", "C", ["1.1", "-1.1"]),
    ("real", "B", ["0", "'-0'", "'NaN'", "1"]),
    ("citext_like", "C", ["'a'", "'A'"]),
    ("text[]", "M", ["'{a}'", "'{{a}}'", "'[0:0]={a}'", "'{null}'", "'{\"null\"}'"]),
    ("mood", "C", ["'good'", "'bad'"]),
    ("int4range", "C", ["'[1,5)'", "'(1,5)'", "'empty'"]),
    ("point", "C", ["'(0,1)'", "'(1,0)'"]),
    ("inet", "C", ["'10.0.0.1/8'", "'10.0.0.1'"]),
    ("bytea", "G", [r"'\x00'", r"'\x0000'", r"'\x'"]),
    ("uuid", "C", [f"'{'0' * 31}{i}'" for i in range(2)]),
    ("boolean", "L", ["true", "false"]),
    ("smallint", "I", ["1", "-1"]),
    ("date", "D", ["'2024-01-01'", "'infinity'", "'-infinity'", "'0001-01-01 BC'"]),
    ("time", "C", ["'24:00'", "'00:00'"]),
    ("timetz", "C", ["'12:00+08'", "'04:00+00'"]),
    ("bit(3)", "C", ["B'001'", "B'100'"]),
    ("xml", "M", ["'<a/>'", "'<a></a>'"]),
    ("oid", "C", ["1", "2"]),
    ('"char"', "C", ["'x'", "'y'"]),
)  # fmt: skip
"""(type, item type, values), of which no two are equal as they are read."""

ID = ColumnSpec("id", "I", None, None, key=True)


@pytest.fixture(scope="module")
def subject(server: Server) -> Subject:
    return postgres_subject(server)


@pytest.mark.parametrize("rule", TAG_RULES, ids=rule_name)
def test_tags_of_postgres_obey_the_contract(
    rule: Callable[[Subject], None], subject: Subject
) -> None:
    """The PostgreSQL connector obeys every rule of tags."""
    rule(subject)


@pytest.fixture(scope="module")
def types(server: Server) -> Server:
    server.sql(
        "create type mood as enum ('good', 'bad');"
        " create collation blind (provider = icu, locale = 'und-u-ks-level1',"
        " deterministic = false); create domain citext_like as text collate blind;"
    )
    return server


@contextmanager
def reading(
    server: Server, stream: StreamSpec
) -> Iterator[tuple[PostgresSession, Slice]]:
    with session(server.config(), Limits()) as found:
        found.frontier(stream)
        (part,) = found.plan(stream)
        yield found, part


def test_no_two_values_of_any_type_share_a_tag(types: Server) -> None:
    """Values that are read differently have different tags, NULL too."""
    made = []
    for i, (native, _, values) in enumerate(DISTINCT):
        rows = ", ".join(f"({v})" for v in [*values, "null"])
        made.append(f"create table v{i} (v {native}); insert into v{i} values {rows};")
    types.sql("".join(made))
    with session(types.config(), Limits()) as found:
        for i, (native, letter, values) in enumerate(DISTINCT):
            sizes = (12, 2) if letter == "N" else (4000, None)
            only = ColumnSpec("v", letter, *sizes, key=True)
            (part,) = found.plan(StreamSpec(("public", f"v{i}"), (only,)))
            read = [v for p in found.read(part) for v in p.rows.column(0).to_pylist()]
            tags = [tag for some in found.tags(part) for tag in some.tags.to_pylist()]
            assert len({repr(v) for v in read}) == len(values) + 1, native
            assert len(set(tags)) == len(values) + 1, native


STREAM = StreamSpec(("public", "person"), (ID, ColumnSpec("v", "C", 99, None, False)))


@pytest.fixture
def person(server: Server) -> Server:
    server.sql(
        "drop table if exists person; create table person (id int primary key, v text);"
        " insert into person select i, 'v' || i from generate_series(1, 9) i"
    )
    return server


def test_a_row_that_changes_between_the_passes_is_read_as_it_was(
    person: Server,
) -> None:
    """Both passes see the frontier's snapshot: what comes later comes next time."""
    with reading(person, STREAM) as (found, part):
        tags = {k: t for some in found.tags(part) for k, t in pairs(some)}
        keys = [some.keys for some in found.tags(part)]
        person.sql("update person set v = 'later' where id = 3")
        person.sql("delete from person where id = 4")
        pages = list(found.tagged(part, keys))
    rows = [tuple(row.values()) for page in pages for row in page.rows.to_pylist()]
    assert rows == [(i, f"v{i}") for i in range(1, 10)]
    assert {k: t for page in pages for k, t in pairs(page)} == tags


def pairs(found: TaggedKeys | TaggedPage) -> list[tuple[int, int]]:
    keys = found.keys if isinstance(found, TaggedKeys) else found.rows
    return list(zip(keys.column(0).to_pylist(), found.tags.to_pylist(), strict=True))


def test_a_server_before_14_digests_no_rows(person: Server) -> None:
    """It has no function for it: every row is read, as before."""
    with ExitStack() as stack:
        old = PostgresSession(person.config(), Limits(), 130_020, stack)
        old.frontier(STREAM)
        assert old.tagging(STREAM) is None


def test_a_server_without_the_function_digests_no_rows(person: Server) -> None:
    """A system that only speaks like PostgreSQL is asked before it is relied on."""
    person.sql("revoke execute on function hash_record_extended from public")
    person.sql("create role plain login; grant select on person to plain")
    with session(person.config("plain"), Limits()) as found:
        assert found.tagging(STREAM) is None
        assert [p.rows.num_rows for p in found.read(found.plan(STREAM)[0])] == [9]


@pytest.mark.parametrize(
    "change",
    [
        "alter table person alter v type varchar(99)",
        "alter table person alter v type jsonb using to_jsonb(v)",
        "alter database {} set timezone = 'UTC'",
    ],
)
def test_only_what_the_tags_depend_on_makes_others_of_them(
    person: Server, change: str
) -> None:
    """The name changes with the statement, and not with what it does not depend on."""
    before = named(person)
    person.sql(change.format(person.database))
    assert (named(person) == before) == ("jsonb" not in change)


def test_another_length_of_padded_texts_makes_other_tags(person: Server) -> None:
    """Each text has more blanks then, and no tag has any."""
    person.sql("alter table person alter v type char(9)")
    before = named(person)
    person.sql("alter table person alter v type char(12)")
    assert named(person) != before


def named(server: Server) -> str | None:
    with session(server.config(), Limits()) as found:
        found.frontier(STREAM)
        return found.tagging(STREAM)


def test_another_zone_makes_other_tags(person: Server) -> None:
    """Times with a zone are rendered by the session's: they might read differently."""
    with session(person.config(), Limits(timezone="UTC")) as found:
        assert found.tagging(STREAM) != named(person)


@pytest.mark.parametrize("during", ["tags", "tagged"])
def test_a_server_that_dies_in_either_pass_is_told(person: Server, during: str) -> None:
    """The error has a kind and no values, and the worker lives."""
    end = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity"
        " where application_name = 'fep' and pid <> pg_backend_pid()"
    )
    with reading(person, STREAM) as (found, part):
        keys = [some.keys for some in found.tags(part)]
        person.sql(end)
        with pytest.raises(SourceError) as caught:
            list(found.tags(part) if during == "tags" else found.tagged(part, keys))
    assert "v3" not in str(caught.value)
