# SPDX-License-Identifier: Apache-2.0
"""Order, resuming and snapshots of the PostgreSQL connector."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from connectors.contract import ColumnSpec, Limits, Page, Slice, StreamSpec
from connectors.postgres import CONNECTOR
from connectors.postgres.catalog import bound
from connectors.postgres.login import connection
from connectors.postgres.session import planned
from tests.support.postgres import Server, private_server

pytestmark = pytest.mark.contract


def key(name: str, letter: str = "C") -> ColumnSpec:
    return ColumnSpec(name, letter, 40, 0, key=True)


NOTE = ColumnSpec("note", "C", 40, None, key=False)


@pytest.fixture(scope="module")
def chinese() -> Iterator[Server]:
    """A server whose texts are not ordered by their bytes."""
    with private_server(locale="C.UTF-8") as found:
        found.sql(
            "create collation words (provider = icu, locale = 'zh-u-kn-true');"
            " create collation blind (provider = icu, locale = 'und-u-ks-level1',"
            " deterministic = false)"
        )
        yield found


def stream_of(*columns: ColumnSpec) -> StreamSpec:
    return StreamSpec(("public", "keyed"), columns)


def make(server: Server, body: str) -> None:
    server.sql(f"drop table if exists keyed cascade; {body}")


def pages(server: Server, stream: StreamSpec, *, rows: int = 3) -> list[Page]:
    with CONNECTOR.open(server.config(), Limits(page_rows=rows)) as session:
        return list(session.read(Slice(stream, None)))


def firsts(found: Sequence[Page]) -> list[object]:
    return [value for page in found for value in page.rows.column(0).to_pylist()]


def plan_of(server: Server, stream: StreamSpec) -> str:
    """How the server would run the read with a big table."""
    with connection(server.config(), Limits()) as db:
        query = planned(db, server.config(), bound(db, stream), stream)
        db.execute("set local enable_seqscan = off")
        db.execute("set local enable_bitmapscan = off")
        lines = db.execute(f"explain {query.select('')}".encode()).fetchall()
    return "\n".join(line for (line,) in lines)


WORDS = (
    "insert into keyed values ('b10'), ('b9'), ('B9'), ('张'), ('阿'), ('b9'), (null)"
)


def test_an_index_in_its_own_collation_gives_the_order(chinese: Server) -> None:
    """With an index on a text key rows come in the index's order, without a sort."""
    make(chinese, f"create table keyed (k text collate words); {WORDS};"
         " create index on keyed (k)")  # fmt: skip
    assert "Sort" not in plan_of(chinese, stream_of(key("k")))
    found = firsts(pages(chinese, stream_of(key("k"))))
    assert found.index("b9") + 1 == found.index("b9", found.index("b9") + 1)
    assert found.index("b9") < found.index("b10")


def test_without_an_index_texts_come_in_byte_order(chinese: Server) -> None:
    """Without an index a text key comes in the order of its bytes, NULL last."""
    make(chinese, f"create table keyed (k text collate words); {WORDS}")
    found = firsts(pages(chinese, stream_of(key("k"))))
    assert found == ["B9", "b10", "b9", "b9", "张", "阿", None]


def test_a_collation_blind_to_case_does_not_mix_keys(chinese: Server) -> None:
    """Under a collation in which a equals A, equal keys still stand together."""
    make(chinese, "create table keyed (k text collate blind);"
         " insert into keyed values ('a'), ('A'), ('a'), ('A'), ('a');"
         " create index on keyed (k)")  # fmt: skip
    stream = stream_of(key("k"))
    assert firsts(pages(chinese, stream, rows=2)) == ["A", "A", "a", "a", "a"]


@pytest.mark.parametrize(
    ("index", "sorts"),
    [
        ("create index on keyed (b, a)", False),
        ("create index on keyed (a desc nulls first, b desc nulls first)", False),
        ("create index on keyed (a, b, note)", False),
        ("create index on keyed (a desc, b)", True),
        ("create index on keyed (a, b) where note is null", True),
        ("create index on keyed (a, note, b)", True),
        ("create index on keyed using hash (a)", True),
        ("create index on keyed (a text_pattern_ops, b)", True),
    ],
)
def test_an_index_is_used_if_it_gives_the_order(
    server: Server, index: str, sorts: bool
) -> None:
    """Any index over exactly the key's columns saves the sort; others do not."""
    make(server, f"create table keyed (a text, b int, note text); {index};"
         " insert into keyed select (i % 7)::text, i % 11, null"
         " from generate_series(1, 100) i")  # fmt: skip
    stream = stream_of(key("a"), key("b", "I"), NOTE)
    assert ("Sort" in plan_of(server, stream)) == sorts
    warned = [f.code for f in CONNECTOR.check(server.config(), [stream])]
    assert ("key-not-indexed" in warned) == sorts
    assert sum(p.rows.num_rows for p in pages(server, stream, rows=9)) == 100


@pytest.mark.parametrize(
    ("native", "letter", "values"),
    [
        ("uuid", "C", [f"md5('{i}')::uuid" for i in range(7)]),
        ("char(4)", "C", ["'a'", "'b '", "'张'", "''", "'a'"]),
        ("numeric(9,2)", "N", ["1.10", "-1", "'NaN'", "2", "1.1"]),
        ("numeric", "C", ["1.0", "1.00", "1.0", "1.00", "'NaN'"]),
        ("date", "D", ["'infinity'", "'0044-03-15 BC'", "'2024-01-01'", "'-infinity'"]),
        ("timestamp", "T", ["'infinity'", "'2024-01-01 01:02:03.000001'", "now()"]),
        (
            "timestamptz",
            "T",
            ["'infinity'", "'2024-01-01 01:02:03.000001+08'", "now()"],
        ),
        ("citext_like", "C", ["'喜'", "'sad'", "'喜'"]),
        ("varchar(9)", "I", ["'9'", "'10'", "'08'"]),
        ("text", "C", ["''", "E'\\\\'", "''''", "E'\\n'", "'𠮷'"]),
    ],
)
def test_every_kind_of_key_can_be_resumed(
    server: Server, native: str, letter: str, values: list[str]
) -> None:
    """After any row of any key type the rest comes, in a new session."""
    server.sql("drop type if exists citext_like cascade;"
               " create type citext_like as enum ('sad', '喜')")  # fmt: skip
    rows = ", ".join(f"({v})" for v in [*values, "null", "null"])
    make(server, f"create table keyed (k {native}); insert into keyed values {rows}")
    column = ColumnSpec("k", letter, 9, 2, key=True)
    stream = StreamSpec(("public", "keyed"), (column,))
    found = pages(server, stream, rows=1)
    with CONNECTOR.open(server.config(), Limits(page_rows=2)) as session:
        for done, page in enumerate(found, start=1):
            rest = list(session.read(Slice(stream, None), page.token))
            assert sum(p.rows.num_rows for p in rest) == len(found) - done
            assert [p.token for p in rest[-1:]] == [p.token for p in found[done:][-1:]]


def test_resuming_asks_for_the_rest_by_the_index(server: Server) -> None:
    """A resumed read seeks in the index; it neither sorts nor reads from the start."""
    make(server, "create table keyed (a int, b int, primary key (a, b));"
         " insert into keyed select i / 10, i % 10"
         " from generate_series(0, 999) i")  # fmt: skip
    stream = stream_of(key("a", "I"), key("b", "I"))
    page = pages(server, stream, rows=500)[0]
    with CONNECTOR.open(server.config(), Limits()) as session:
        (found,) = session.read(Slice(stream, None), page.token)
    assert found.rows.slice(0, 1).to_pylist() == [{"a": 50, "b": 0}]
    assert found.rows.num_rows == 500


def test_rows_deleted_at_the_resume_point_cost_no_others(server: Server) -> None:
    """Between a run and its resumption rows go and come; the others are all read."""
    make(server, "create table keyed (k int);"
         " insert into keyed select i from generate_series(1, 9) i")  # fmt: skip
    stream = stream_of(key("k", "I"))
    page = pages(server, stream, rows=4)[0]
    server.sql("delete from keyed where k in (3, 4); insert into keyed values (10)")
    with CONNECTOR.open(server.config(), Limits()) as session:
        rest = firsts(list(session.read(Slice(stream, None), page.token)))
    assert rest == [5, 6, 7, 8, 9, 10]


def test_views_and_partitions_are_read_like_tables(server: Server) -> None:
    """A view and a partitioned table give their rows in key order."""
    make(server, "create table keyed (k int primary key) partition by range (k);"
         " create table keyed_a partition of keyed for values from (0) to (5);"
         " create table keyed_b partition of keyed for values from (5) to (99);"
         " insert into keyed select i from generate_series(0, 9) i;"
         " create view keyed_view as select k from keyed")  # fmt: skip
    for name in ("keyed", "keyed_view"):
        stream = StreamSpec(("public", name), (key("k", "I"),))
        assert firsts(pages(server, stream)) == list(range(10))


def test_all_reads_of_a_session_see_one_snapshot(server: Server) -> None:
    """What is committed after the frontier is seen by no read of the session."""
    make(server, "create table keyed (k int); insert into keyed values (1)")
    stream = stream_of(key("k", "I"))
    with CONNECTOR.open(server.config(), Limits()) as session:
        frontier = session.frontier(stream)
        for k in (2, 3):
            server.sql(f"insert into keyed values ({k})")
            assert firsts(list(session.read(Slice(stream, None)))) == [1]
    assert json.loads(frontier.value)["xmin"] > 0
    assert frontier.as_of.endswith("Z")
