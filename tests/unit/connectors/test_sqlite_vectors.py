# SPDX-License-Identifier: Apache-2.0
"""Values of SQLite on their way to the centre: equal, or withheld by name.

Each vector is read, checked, packed and decoded as the exchange would.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from tests.support.centre import Sheet, Vector, Withheld, arrive, exact, paths, value

NO_NUMBER = Withheld("bad_number")
BEYOND = Withheld("out_of_range")
NO_DATE = Withheld("bad_date")
NO_TIME = Withheld("bad_time")
NO_TEXT = Withheld("undecodable")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


VECTORS: tuple[Vector, ...] = (
    # one column, values of every type
    Vector("", value("C"), {"1": "1", "1.5": "1.5", "'a'": "a", "x'E5BCA0'": "张",
                            "x'ff'": NO_TEXT, "''": "", "1e22": "1" + "0" * 22}),
    Vector("integer", value("I"), {"1": 1, "'2'": 2, "'x'": NO_NUMBER, "3.5": NO_NUMBER,
                                   "-9223372036854775808": -(2**63), "4.0": 4,
                                   "9223372036854775808": BEYOND, "x'31'": 1}),
    Vector("numeric", value("N", 38, 2), {
        "100": Decimal(100), "0.1": Decimal("0.1"), "'1.10'": Decimal("1.1"),
        "1e16": Decimal(10**16), "0.125": BEYOND, "9e999": NO_NUMBER,
        "'1e2x'": NO_NUMBER}),
    Vector("text", value("N", 38, 20), {
        "'12345678901234567890.12345678901234567891'": BEYOND,
        "'123456789012345678.12345678901234567891'":
            Decimal("123456789012345678.12345678901234567891"),
        f"'{2**128 + 5}'": BEYOND}),
    Vector("text", value("N", 38, 0), {f"'{2**128 + 5}'": BEYOND}),
    Vector("real", value("B"), {"0.1": 0.1, "0.1 + 0.2": 0.1 + 0.2, "9e999": BEYOND,
                                "-9e999": BEYOND, "5e-324": 5e-324}),
    Vector("", value("B"), {"9007199254740992": 2.0**53, "9007199254740993": BEYOND,
                            "0.5": 0.5, "'0.25'": 0.25, "'nan'": NO_NUMBER}),
    Vector("", value("L"), {"0": False, "1": True, "2": Withheld("bad_boolean"),
                            "'true'": True, "x'31'": True}),
    Vector("blob", value("G"), {"x'00ff'": b"\0\xff", "'text'": b"text", "''": b"",
                                "zeroblob(1048577)": Withheld("too_long")}),
    # dates and times are texts
    Vector("date", value("D"), {
        "'2024-02-29'": date(2024, 2, 29), "'2024-02-30'": NO_DATE,
        "'0000-00-00'": NO_DATE, "'2024-00-15'": NO_DATE, "'-0044-03-15'": NO_DATE,
        "20240229": date(2024, 2, 29), "2460370.5": NO_DATE, "1709164800": NO_DATE}),
    Vector("datetime", value("T"), {
        "'2024-01-02 03:04:05.000001'": at("2024-01-01 19:04:05.000001"),
        "'2024-01-02 03:04:05+00:00'": at("2024-01-02 03:04:05"),
        "'1986-05-04 02:30:00'": Withheld("time_gap"), "'2024-01-02 24:00'": NO_TIME,
        "1709164800": NO_TIME, "'infinity'": NO_TIME}),
    # texts
    Vector("text", value("C", 4), {
        "'𠮷䶮𪚥龦'": "𠮷䶮𪚥龦", "'𠮷䶮𪚥龦a'": Withheld("too_long"),
        "char(59491, 63743, 1114109)": "\ue863\uf8ff\U0010fffd",
        "'a' || char(0)": Withheld("nul_char"), "cast(x'd5c5' as text)": NO_TEXT,
        "'ab '": "ab "}),
    Vector("text", value("M"), {"printf('%.*c', 300000, 'x')": "x" * 300_000,
                                """'{"a": 1.10, "a": 2}'""": '{"a": 1.10, "a": 2}'}),
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A file with all vectors."""
    path, sheet = tmp_path_factory.mktemp("source") / "t.db", Sheet(VECTORS)
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"create table vectors ({', '.join(sheet.columns)})")
        for key, column, sql in sheet.inserts:
            db.execute(f"insert into vectors (id, {column}) values ({key}, {sql})")
        db.commit()
    return {"path": str(path)}


@pytest.fixture(scope="module")
def centre(
    source: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """What arrived of each vector."""
    sheet, folder = Sheet(VECTORS), tmp_path_factory.mktemp("centre")
    return sheet.of(arrive(folder, "sqlite", source, ("vectors",), sheet.items))


@pytest.mark.parametrize(
    "i", range(len(VECTORS)), ids=[f"{v.native}-{v.item.type}" for v in VECTORS]
)
def test_no_value_changes_silently(centre: list[Any], i: int) -> None:
    """Each value is the same at the centre, or it is named and stays."""
    assert centre[i] == [exact(v) for v in VECTORS[i].values.values()]


@pytest.mark.usefixtures("centre")
def test_check_tells_how_each_column_is_read(source: dict[str, Any]) -> None:
    """What is told native comes so where it fits; what is told text never does."""
    with closing(sqlite3.connect(source["path"])) as db, db:
        db.execute("delete from vectors")
        db.execute(f"insert into vectors {Sheet(VECTORS).usual}")
    found = paths("sqlite", source, ("vectors",), Sheet(VECTORS))
    assert [name for name, (told, met) in found.items() if told != met] == []
