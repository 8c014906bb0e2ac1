# SPDX-License-Identifier: Apache-2.0
"""Types of MariaDB and MySQL that drivers are known to change (docs/adr/0006)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from connectors.contract import ColumnSpec, Limits, SourceError, StreamSpec
from connectors.mysql import CONNECTOR
from tests.support.mariadb import Mariadb

pytestmark = pytest.mark.contract

ID = ColumnSpec("id", "I", None, None, key=True)

AS_TEXT: tuple[tuple[str, str, Sequence[str]], ...] = (
    ("date", "D", ["'0000-00-00'", "'2024-00-15'", "'2024-02-30'", "'2024-02-29'"]),
    ("date", "C", ["'0000-00-00'", "'2024-02-29'"]),
    ("datetime(6)", "T", ["'0000-00-00 00:00:00'", "'2024-01-02 03:04:05.000001'"]),
    ("datetime", "C", ["'2024-01-02 03:04:05'", "'9999-12-31 23:59:59'"]),
    ("time", "C", ["'838:59:59'", "'-838:59:59'", "'00:00:00'"]),
    ("time(6)", "C", ["'-100:00:01.000001'"]),
    ("year", "C", ["2024", "'0000'"]),
    ("bigint unsigned", "I", ["18446744073709551615", "0"]),
    ("bigint unsigned", "C", ["18446744073709551615"]),
    ("int(6) zerofill", "C", ["42"]),
    ("tinyint(1)", "L", ["2", "-1", "1"]),
    ("decimal(65,30)", "N", ["9" * 35 + "." + "9" * 30, "-0.5"]),
    ("decimal(12,2)", "C", ["1.10", "-0.00"]),
    ("decimal(12,4)", "N", ["1.1000"]),
    ("enum('喜','sad','')", "C", ["'喜'", "'sad'", "''"]),
    ("set('a','b','张')", "C", ["'a,张'", "''"]),
    ("json", "M", ["""'{"b": 1.10, "a": null, "b": 2}'""", "'null'"]),
    ("char(5)", "C", ["'ab'", "'张'", "''"]),
    ("varchar(9)", "C", ["'ab '", "' '"]),
    ("varchar(9) charset utf8mb3", "C", ["'张三'"]),
    ("varchar(9) charset latin1", "C", ["x'E9 A9 80'"]),
    ("varchar(9) charset ucs2", "C", ["'张'"]),
    ("uuid", "C", ["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("inet6", "C", ["'::1'"]),
    ("text", "N", ["'12'", "'x'"]),
    ("point", "C", ["point(1.5, -2)"]),
)
"""(native type, item type, values): read as the server's own text."""


def stream_of(*columns: ColumnSpec) -> StreamSpec:
    return StreamSpec(("town", "pitfall"), (ID, *columns))


def spec(
    letter: str, length: int | None = None, scale: int | None = None
) -> ColumnSpec:
    return ColumnSpec("v", letter, length, scale, key=False)


def fill(server: Mariadb, native: str, values: Sequence[str]) -> None:
    rows = ", ".join(f"({i}, {v})" for i, v in enumerate([*values, "null"]))
    server.sql(
        "set sql_mode = 'ALLOW_INVALID_DATES'",
        "drop table if exists pitfall",
        f"create table pitfall (id int primary key, v {native} null)",
    )
    with server.connect() as db, db.cursor() as cursor:
        cursor.execute("set sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+08:00'")
        cursor.execute(f"insert into pitfall values {rows.replace(' A9 80', 'A980')}")
        db.commit()


def read(server: Mariadb, stream: StreamSpec, **config: Any) -> pa.Table:
    with CONNECTOR.open({**server.config(), **config}, Limits()) as session:
        (part,) = session.plan(stream)
        batches = [page.rows for page in session.read(part)]
    for batch in batches:
        batch.validate(full=True)
    return pa.Table.from_batches(batches)


def server_text(server: Mariadb, value: str = "v") -> list[str | None]:
    """As the server's own client would print it."""
    wanted = f"convert(cast({value} as char) using utf8mb4)"
    return [r[0] for r in server.sql(f"select {wanted} from pitfall order by id")]


@pytest.mark.parametrize(("native", "letter", "values"), AS_TEXT)
def test_what_does_not_fit_is_the_servers_text(
    mariadb: Mariadb, native: str, letter: str, values: Sequence[str]
) -> None:
    """A value that its item's type cannot carry arrives as the server prints it."""
    fill(mariadb, native, values)
    length, scale = (38, 4) if letter == "N" else (4000, None)
    if native == "decimal(12,4)":
        length, scale = 10, 1
    found = read(mariadb, stream_of(spec(letter, length, scale))).column("v")
    wanted = server_text(mariadb, "st_astext(v)" if native == "point" else "v")
    if native == "decimal(12,4)":  # 1.1000 is 1.1, exactly
        assert found.to_pylist() == [Decimal("1.1"), None]
    else:
        assert found.type == pa.string()
        assert found.to_pylist() == wanted


@pytest.mark.parametrize(
    ("native", "item", "values", "wanted"),
    [
        ("bigint", spec("I"), ["-9223372036854775808"], [-(2**63)]),
        ("bigint unsigned", spec("N", 20, 0), ["18446744073709551615"],
         [Decimal(2**64 - 1)]),
        ("int(6) zerofill", spec("I"), ["42"], [42]),
        ("year", spec("I"), ["2024"], [2024]),
        ("tinyint(1)", spec("L"), ["1", "0"], [True, False]),
        ("bit(1)", spec("L"), ["b'1'", "b'0'"], [True, False]),
        ("bit(64)", spec("N", 20, 0), ["x'ffffffffffffffff'"], [Decimal(2**64 - 1)]),
        ("bit(5)", spec("C", 5), ["b'00101'"], ["00101"]),
        ("decimal(38,10)", spec("N", 38, 10), ["1.1"], [Decimal("1.1000000000")]),
        ("date", spec("D"), ["'0001-01-01'", "'9999-12-31'"],
         [date(1, 1, 1), date(9999, 12, 31)]),
        ("datetime(6)", spec("T"), ["'1969-12-31 23:59:59.999999'"],
         [datetime(1969, 12, 31, 23, 59, 59, 999999)]),  # noqa: DTZ001
        ("timestamp(6) default 0", spec("T"), ["'2024-01-01 08:00:00.000001'"],
         [datetime(2024, 1, 1, 0, 0, 0, 1, UTC)]),
        ("timestamp default 0", spec("C", 40), ["'2024-01-01 08:00:00'"],
         ["2024-01-01 00:00:00+00:00"]),
        ("varbinary(9)", spec("G"), ["x'00ff80'", "''"], [b"\x00\xff\x80", b""]),
        ("binary(3)", spec("G"), ["x'61'"], [b"a\x00\x00"]),
        ("longblob", spec("G"), ["repeat(x'ff', 70000)"], [b"\xff" * 70000]),
        ("varchar(9) charset gbk", spec("C", 9), ["'张三'"], ["张三"]),
        ("varchar(9) charset gb2312", spec("C", 9), ["'张三'"], ["张三"]),
        ("varchar(9) charset big5", spec("C", 9), ["'張'"], ["張"]),
        ("text charset utf8mb4", spec("M"), ["'𠮷😀'"], ["𠮷😀"]),
    ],
)  # fmt: skip
def test_what_fits_is_exact(
    mariadb: Mariadb,
    native: str,
    item: ColumnSpec,
    values: Sequence[str],
    wanted: list[Any],
) -> None:
    """A value that its item's type can carry arrives in it, exactly."""
    fill(mariadb, native, values)
    found = read(mariadb, stream_of(item)).column("v")
    assert found.to_pylist()[: len(wanted)] == wanted


@pytest.mark.parametrize("native", ["float", "double"])
def test_floats_keep_their_bits(mariadb: Mariadb, native: str) -> None:
    """A float arrives as the number that it is, not as the six digits of its text."""
    values = ["0.1", "-0.0", "16777217", "3.4028234663852886e38", "1e-30"]
    fill(mariadb, native, values)
    found = read(mariadb, stream_of(spec("B"))).column("v").to_pylist()[:-1]
    width = "f" if native == "float" else "d"
    wanted = [struct.unpack(width, struct.pack(width, float(v)))[0] for v in values]
    assert [abs(v) for v in found] == [abs(v) for v in wanted]


def test_only_the_page_of_a_zero_date_is_text(mariadb: Mariadb) -> None:
    """Only the page of an odd value is text."""
    fill(mariadb, "date", ["'0000-00-00'", *["'2024-01-01'"] * 9])
    with CONNECTOR.open(mariadb.config(), Limits(page_rows=5)) as session:
        (part,) = session.plan(stream_of(spec("D")))
        kinds = [page.rows.column(1).type for page in session.read(part)]
    assert kinds == [pa.string(), pa.date32(), pa.date32()]


def test_a_latin1_column_may_hold_something_else(mariadb: Mariadb) -> None:
    """With the source's encoding, GBK in a column declared latin1 is read rightly."""
    fill(mariadb, "varchar(9) charset latin1", [f"x'{'张三'.encode('gbk').hex()}'"])
    found = read(mariadb, stream_of(spec("C", 9)), encoding="gb18030")
    assert found.column("v").to_pylist() == ["张三", None]


def test_bytes_that_a_charset_cannot_map_are_kept(mariadb: Mariadb) -> None:
    """A code that the server prints as ``?`` arrives as bytes or as a character."""
    fill(mariadb, "varchar(9) charset gbk", ["x'A2A1'", "x'FDA9'", "'张'"])
    printed = server_text(mariadb)
    found = read(mariadb, stream_of(spec("C", 9))).column("v").to_pylist()
    assert "?" not in [v for v in found if isinstance(v, str)]
    assert len([v for v in found if v is not None]) == len(printed) - 1


def test_a_row_longer_than_a_packet_arrives_whole(mariadb: Mariadb) -> None:
    """A value of more than 16 MiB, which comes in several packets, is put together."""
    mariadb.sql("set global max_allowed_packet = 1073741824")
    sizes = [5, 2**24 - 1, 2**24 - 6, 2**24 + 10, 40_000_000, 3]
    mariadb.sql(
        "drop table if exists pitfall",
        "create table pitfall (id int primary key, v longtext)",
        *(f"insert into pitfall values ({i}, repeat('x', {n}))"
          for i, n in enumerate(sizes)),
    )  # fmt: skip
    found = read(mariadb, stream_of(spec("M"))).column("v").to_pylist()
    assert [len(v) for v in found] == sizes


@pytest.mark.parametrize(
    ("native", "letter"),
    [("blob", "C"), ("datetime", "D"), ("int", "G"), ("date", "N"), ("time", "I")],
)
def test_a_type_that_can_never_fit_is_told_at_once(
    mariadb: Mariadb, native: str, letter: str
) -> None:
    """A binding that loses or never gives values is refused by plan and check."""
    fill(mariadb, native, [])
    stream = stream_of(spec(letter, 10, 0))
    with (
        CONNECTOR.open(mariadb.config(), Limits()) as session,
        pytest.raises(SourceError) as caught,
    ):
        session.plan(stream)
    assert caught.value.kind == "type"
    found = CONNECTOR.check(mariadb.config(), [stream])
    assert [f.column for f in found if f.code == "type-unfit"] == ["v"]


def test_strange_names_are_quoted(mariadb: Mariadb) -> None:
    """Names with backticks, quotes, blanks and Chinese are read like any other."""
    mariadb.sql(
        "create table if not exists `部 门``'\"` (`编号 1` int primary key,"
        " `a'``b` text)",
        "replace into `部 门``'\"` values (1, 'x''y\\\\')",
    )
    stream = StreamSpec(
        ("town", "部 门`'\""),
        (
            ColumnSpec("编号 1", "I", None, None, key=True),
            ColumnSpec("a'`b", "C", 9, None, key=False),
        ),
    )
    assert read(mariadb, stream).to_pylist() == [{"编号 1": 1, "a'`b": "x'y\\"}]


@pytest.mark.parametrize(
    "key", ["varchar(20)", "varchar(20) charset gbk", "decimal(12,2)", "date",
            "varchar(20) charset ascii", "varchar(20) charset greek",
            "timestamp(3) default 0", "double", "varchar(20) collate utf8mb4_bin"],
)  # fmt: skip
@pytest.mark.parametrize("unique", [True, False])
def test_every_kind_of_key_can_be_resumed_after(
    mariadb: Mariadb, key: str, unique: bool
) -> None:
    """Whatever the key's type and index, the pages after each token make the rest."""
    texts = key.startswith("varchar")
    numbers = key.startswith(("decimal", "double"))
    values = ["'2024-01-01'", "'2023-05-05'", "'2025-01-01 00:00:00'"]
    if texts:
        values = ["'a'", "'B'", "'b '", "'张'", "''", "'é'"]
    if numbers:
        values = ["-1.5", "3", "20"]
    if texts and unique and "gbk" in key:
        values.remove("'é'")
    if "ascii" in key or "greek" in key:
        values = ["'a'", "'B'", "'b '", "''", "x'41'", "x'63'"]
    rows = ", ".join(f"({v}, {i})" for i, v in enumerate(values))
    mariadb.sql(
        "drop table if exists pitfall",
        f"create table pitfall (k {key} not null, v int not null"
        + (", unique (k, v))" if unique else ")"),
        f"insert into pitfall values {rows}",
    )
    letter = "C" if texts else "B" if key == "double" else "N"
    letter = {"date": "D", "tim": "T"}.get(key[:3], {"date": "D"}.get(key, letter))
    stream = StreamSpec(
        ("town", "pitfall"),
        (
            ColumnSpec("k", letter, 12, 2 if letter == "N" else None, key=True),
            ColumnSpec("v", "I", None, None, key=True),
        ),
    )
    with CONNECTOR.open(mariadb.config(), Limits(page_rows=1)) as session:
        (part,) = session.plan(stream)
        pages = list(session.read(part))
        for i, page in enumerate(pages):
            rest = [r for p in session.read(part, page.token)
                    for r in p.rows.column(1).to_pylist()]  # fmt: skip
            assert rest == [p.rows.column(1)[0].as_py() for p in pages[i + 1 :]]
    assert len(pages) == len(values)


def test_a_read_does_not_go_on_after_a_key_that_is_no_ascii(mariadb: Mariadb) -> None:
    """Nothing in its column's order equals it: the end is named, and no row lost."""
    mariadb.sql(
        "drop table if exists pitfall",
        "create table pitfall (k varchar(9) charset ascii primary key)",
        "insert into pitfall values ('a'), (x'D5C5'), (x'D5C6')",
    )
    stream = StreamSpec(("town", "pitfall"), (ColumnSpec("k", "C", 9, None, key=True),))
    with CONNECTOR.open(mariadb.config(), Limits(page_rows=1)) as session:
        (part,) = session.plan(stream)
        pages = list(session.read(part))
        assert [p.rows.column(0)[0].as_py() for p in pages] == [
            "a",
            b"\xd5\xc5",
            b"\xd5\xc6",
        ]
        with pytest.raises(SourceError) as caught:
            list(session.read(part, pages[1].token))
    assert caught.value.kind == "text"
