# SPDX-License-Identifier: Apache-2.0
"""The sample department: the business database of a city that does not exist.

云溪市人力资源和社会保障局, SQLite, written by :func:`build`. Same rows and seed,
same values on every machine. Rules of the data:

1. Nobody's data. Administrative prefix 99 is assigned to no province, so the identity
   numbers pass GB 11643 and belong to nobody; mobile numbers use the unassigned prefix
   120 and telephones the unassigned area code 0400.
2. Every defect is seeded in a known number of rows, no row has two of them, and
   :func:`seeded` gives the numbers, so that a test can ask for exact counts.
3. The check characters are computed here and not by ``agent.catalog.identifiers``, so
   that builder and checker cannot share an error.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

SEED = 20261121
"""Seed of the data that documents and tests speak of."""

LEAST_ROWS = 500
"""Fewest persons that hold every seeded defect."""

USCC = "11990100MB0000018H"
"""Unified social credit code of the department (提供方代码)."""

NODE = "rsj-fep1"

SITES = 36

_SCHEMA = """
create table person(person_id integer primary key, citizen_id text, name text,
  gender_code text, ethnic_code text, birth_date text, region_code text, address text,
  mobile text, status text, updated_at text);
create table employer(employer_id integer primary key, uscc text, name text,
  legal_rep_name text, legal_rep_id text, industry_code text, region_code text,
  reg_status text, established_on text, updated_at text);
create table insurance(ins_id integer primary key, person_id integer,
  employer_id integer, ins_kind text, start_month text, end_month text, status text,
  updated_at text);
create table payment(pay_id integer primary key, ins_id integer, month text,
  base_amount numeric, personal_amount numeric, employer_amount numeric,
  arrived_on text);
create table unemployment(reg_no text primary key, person_id integer, reg_date text,
  reason_code text, end_date text, updated_at text);
create table certificate(cert_no text primary key, person_id integer, kind text,
  level text, issued_on text, valid_to text, file_name text, file_sm3 text);
create table arbitration(case_no text primary key, person_id integer,
  employer_id integer, filed_on text, content text, secrecy_mark text);
create table service_site(site_id text primary key, name text, kind text,
  region_code text, lon real, lat real, phone text);
"""
_INDEXES = "create index employer_uscc on employer(uscc);"

_REGIONS = (("990102", "临河区"), ("990103", "云山区"), ("990121", "青川县"))
_SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何高林罗郑梁谢宋唐许韩冯邓曹"
_GIVEN = "伟芳娜秀英敏静丽强磊军洋勇艳杰娟涛明超兰霞平刚桂文辉玲华建国志梅鑫波宁凯"
_ROADS = ("人民路", "解放路", "建设大道", "和平街", "云溪路", "滨河路", "学府街")
_TRADES = ("机械", "食品", "商贸", "建筑", "物流", "软件", "纺织", "餐饮", "医药")
_INDUSTRIES = ("C13", "C34", "E47", "F51", "G54", "H62", "I65", "Q84")
_ETHNIC = ("01",) * 46 + ("02", "03", "04", "05")
_KINDS = (("1", "社会保险经办"), ("2", "就业服务"), ("3", "劳动监察"))

_BIRTHS = date(1950, 1, 1)
_BIRTH_DAYS = 18_000
_NOW = datetime(2026, 11, 1, 8, 0, 0)  # noqa: DTZ001 - a source's naive local time
_SPREAD_S = 3 * 365 * 86_400

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)

Row = dict[str, Any]
Damage = Callable[[Row, int], None]
"""Spoils a row; the number counts the rows of this defect from 0."""


@dataclass(frozen=True)
class Seeded:
    """A defect in a known number of rows of one table.

    Args:
        table: table it stands in.
        name: what is wrong, stable.
        rows: how many rows have it.
        code: what the quality stage calls it, None if no rule looks for it.
        withheld: whether the row must not leave; else it is sent, with a warning if
            there is a code.
    """

    table: str
    name: str
    rows: int
    code: str | None = None
    withheld: bool = False


def seeded(rows: int) -> tuple[Seeded, ...]:
    """Every seeded defect of a department with ``rows`` persons."""
    return (
        Seeded("person", "id-check-character", rows // 200, "citizen_id"),
        Seeded("person", "id-15-digits", rows * 3 // 1000, "citizen_id_15"),
        Seeded("person", "id-full-width", 8, "citizen_id_form"),
        Seeded("person", "id-lower-x", 6, "citizen_id_form"),
        Seeded("person", "birth-differs-from-id", 25),
        Seeded("person", "birth-1900-01-01", 12),
        Seeded("person", "name-rare-character", 10),
        Seeded("person", "name-private-use-character", 2),
        Seeded("person", "name-dot-variant", 8),
        Seeded("person", "name-too-long", 3, "too_long", withheld=True),
        Seeded("person", "gender-code-unknown", 5, "code_list", withheld=True),
        Seeded("person", "birth-impossible", 4, "bad_date", withheld=True),
        Seeded("person", "updated-at-unreadable", 1, "bad_time", withheld=True),
        Seeded("employer", "uscc-check-character", 20, "uscc"),
        Seeded("employer", "established-1900-01-01", 5),
        Seeded("employer", "established-impossible", 2, "bad_date", withheld=True),
        Seeded("employer", "uscc-missing", 2, "key_missing", withheld=True),
        Seeded("employer", "uscc-too-long", 2, "too_long", withheld=True),
        Seeded("employer", "uscc-twice", 3, "duplicate_key", withheld=True),
        Seeded("unemployment", "reg-date-impossible", 2, "bad_date", withheld=True),
        Seeded("arbitration", "secrecy-mark", 3, withheld=True),
    )


def expected(rows: int, table: str, *, withheld: bool) -> dict[str, int]:
    """Code -> rows that the quality stage must find in a table.

    Args:
        rows: persons of the department.
        table: one of :func:`sizes`.
        withheld: the quarantined ones, else those sent with a warning.
    """
    found: dict[str, int] = {}
    for defect in seeded(rows):
        if defect.table == table and defect.code and defect.withheld == withheld:
            found[defect.code] = found.get(defect.code, 0) + defect.rows
    return found


def sizes(rows: int) -> dict[str, int]:
    """Rows of each table that is bound to a resource."""
    return {
        "person": rows,
        "employer": max(rows // 10, 200),
        "unemployment": max(rows // 20, 50),
        "service_site": SITES,
        "arbitration": 40,
    }


def build(path: Path, *, rows: int, seed: int = SEED) -> None:
    """Write the department's database; the file appears whole or not at all.

    Args:
        path: file to make; its folder exists.
        rows: persons, at least :data:`LEAST_ROWS`.
        seed: of every random choice.

    Raises:
        ValueError: too few rows.
    """
    if rows < LEAST_ROWS:
        raise ValueError(f"rows: expected at least {LEAST_ROWS}, got {rows}")
    tmp = path.with_name(path.name + ".tmp")
    tmp.unlink(missing_ok=True)
    db = sqlite3.connect(tmp)
    try:
        db.execute("pragma journal_mode=off")
        db.execute("pragma synchronous=off")
        db.executescript(_SCHEMA)
        for table, made in _tables(rows, seed):
            _insert(db, table, made)
        db.executescript(_INDEXES)
        db.commit()
    finally:
        db.close()
    tmp.replace(path)


def citizen_id(body: str) -> str:
    """17 digits with their GB 11643 check character."""
    total = sum(int(d) * w for d, w in zip(body, _ID_WEIGHTS, strict=True))
    return body + "10X98765432"[total % 11]


def uscc(body: str) -> str:
    """17 characters with their GB 32100 check character."""
    total = sum(_USCC_ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return body + _USCC_ALPHABET[(31 - total % 31) % 31]


def _tables(rows: int, seed: int) -> Iterator[tuple[str, Iterator[Row]]]:
    size = sizes(rows)
    makers: dict[str, Iterator[Row]] = {
        "person": _persons(size["person"], random.Random(f"{seed}/person")),  # noqa: S311
        "employer": _employers(size["employer"], random.Random(f"{seed}/employer")),  # noqa: S311
        "insurance": _insurance(rows, size["employer"]),
        "payment": _payments(rows),
        "unemployment": _unemployment(size["unemployment"], rows),
        "certificate": _certificates(rows // 10, rows),
        "arbitration": _arbitration(size["arbitration"], rows),
        "service_site": _sites(),
    }
    for table, made in makers.items():
        wanted = {s.name: s.rows for s in seeded(rows) if s.table == table}
        rng = random.Random(f"{seed}/defects/{table}")  # noqa: S311
        yield table, _spoilt(made, wanted, size=size.get(table, 0), rng=rng)


def _insert(db: sqlite3.Connection, table: str, made: Iterator[Row]) -> None:
    first = next(made)
    marks = ",".join("?" * len(first))
    insert = f"insert into {table} values ({marks})"  # noqa: S608 - names of ours
    db.execute(insert, tuple(first.values()))
    db.executemany(insert, (tuple(row.values()) for row in made))


def _spoilt(
    made: Iterator[Row], wanted: dict[str, int], *, size: int, rng: random.Random
) -> Iterator[Row]:
    """The rows, with each wanted defect in its number of them; the first is whole."""
    places = rng.sample(range(1, size), sum(wanted.values())) if wanted else []
    names = [name for name, count in wanted.items() for _ in range(count)]
    at = dict(zip(places, names, strict=True))
    done: dict[str, int] = {}
    before: Row = {}
    for i, row in enumerate(made):
        if i in at:
            name = at[i]
            row["before"] = before
            _DAMAGE[name](row, done.get(name, 0))
            del row["before"]
            done[name] = done.get(name, 0) + 1
        else:
            before = row
        yield row


# --- the tables -------------------------------------------------------------------


def _persons(rows: int, rng: random.Random) -> Iterator[Row]:
    pick = rng.choice
    for i in range(rows):
        region, district = _REGIONS[i % 3]
        born, seq = _birth_and_seq(i)
        yield {
            "person_id": 100_001 + i,
            "citizen_id": citizen_id(f"{region}{born:%Y%m%d}{seq:03d}"),
            "name": _name(rng),
            "gender_code": "1" if seq % 2 else "2",
            "ethnic_code": pick(_ETHNIC),
            "birth_date": born.isoformat(),
            "region_code": region,
            "address": f"云溪市{district}{pick(_ROADS)}{rng.randrange(1, 400)}号"
            f"{rng.randrange(1, 9)}单元{rng.randrange(101, 2505)}室",
            "mobile": f"120{rng.randrange(10**8):08d}",
            "status": pick("1111111112"),
            "updated_at": _instant(rng),
        }


def _employers(rows: int, rng: random.Random) -> Iterator[Row]:
    pick = rng.choice
    for i in range(rows):
        region, district = _REGIONS[i % 3]
        body = f"91{region}{_organisation(f'MA{i + 1:06d}')}"
        born, seq = _birth_and_seq(i)
        opened = date(1995, 1, 1) + timedelta(days=rng.randrange(11_000))
        yield {
            "employer_id": 500_001 + i,
            "uscc": uscc(body),
            "name": f"云溪市{district}{pick(_GIVEN)}{pick(_GIVEN)}"
            f"{pick(_TRADES)}有限公司",
            "legal_rep_name": _name(rng),
            "legal_rep_id": citizen_id(f"990100{born:%Y%m%d}{seq:03d}"),
            "industry_code": pick(_INDUSTRIES),
            "region_code": region,
            "reg_status": pick("1111112"),
            "established_on": opened.isoformat(),
            "updated_at": _instant(rng),
        }


def _insurance(rows: int, employers: int) -> Iterator[Row]:
    for i in range(rows):
        ended = i % 9 == 0
        yield {
            "ins_id": 1_000_001 + i,
            "person_id": 100_001 + i,
            "employer_id": 500_001 + i % employers,
            "ins_kind": "110",
            "start_month": f"{2010 + i % 15}{1 + i % 12:02d}",
            "end_month": f"2026{1 + i % 10:02d}" if ended else None,
            "status": "2" if ended else "1",
            "updated_at": f"2026-{1 + i % 10:02d}-05 09:30:00",
        }


def _payments(rows: int) -> Iterator[Row]:
    for i in range(rows * 3):
        cents = 380_000 + i * 7919 % 1_500_000
        yield {
            "pay_id": 5_000_001 + i,
            "ins_id": 1_000_001 + i // 3,
            "month": f"2026{8 + i % 3:02d}",
            "base_amount": cents / 100,
            "personal_amount": cents * 8 // 100 / 100,
            "employer_amount": cents * 16 // 100 / 100,
            "arrived_on": f"2026-{8 + i % 3:02d}-15",
        }


def _unemployment(rows: int, persons: int) -> Iterator[Row]:
    for i in range(rows):
        began = date(2025, 1, 1) + timedelta(days=i * 37 % 600)
        over = began + timedelta(days=180) if i % 3 == 0 else None
        yield {
            "reg_no": f"SY{began:%Y}{i + 1:08d}",
            "person_id": 100_001 + i * 17 % persons,
            "reg_date": began.isoformat(),
            "reason_code": "123459"[i % 6],
            "end_date": over.isoformat() if over else None,
            "updated_at": f"{began.isoformat()} 10:15:00",
        }


def _certificates(rows: int, persons: int) -> Iterator[Row]:
    for i in range(rows):
        issued = date(2015, 1, 1) + timedelta(days=i * 31 % 4000)
        yield {
            "cert_no": f"ZY{issued:%Y}{i + 1:08d}",
            "person_id": 100_001 + i * 13 % persons,
            "kind": ("电工", "焊工", "育婴员", "保育师")[i % 4],
            "level": "12345"[i % 5],
            "issued_on": issued.isoformat(),
            "valid_to": None,
            "file_name": f"ZY{i + 1:08d}.ofd",
            "file_sm3": None,
        }


def _arbitration(rows: int, persons: int) -> Iterator[Row]:
    for i in range(rows):
        yield {
            "case_no": f"云溪劳人仲案〔2026〕{i + 1}号",
            "person_id": 100_001 + i * 11 % persons,
            "employer_id": 500_001 + i,
            "filed_on": f"2026-{1 + i % 10:02d}-{1 + i % 28:02d}",
            "content": "申请人请求支付拖欠的劳动报酬。",
            "secrecy_mark": None,
        }


def _sites() -> Iterator[Row]:
    for i in range(SITES):
        region, district = _REGIONS[i % 3]
        code, kind = _KINDS[i % len(_KINDS)]
        yield {
            "site_id": f"{region}{i + 1:04d}",
            "name": f"云溪市{district}{kind}第{i // 3 + 1}服务网点",
            "kind": code,
            "region_code": region,
            "lon": 120.5 + i * 7 % 36 / 64,
            "lat": 31.25 + i * 5 % 36 / 128,
            "phone": f"0400-{6_100_000 + i}" if i % 12 else None,
        }


# --- values -----------------------------------------------------------------------


def _birth_and_seq(i: int) -> tuple[date, int]:
    """Birth day and sequence number; no two of the first 18 million are equal."""
    place = i * 15_485_863 % (_BIRTH_DAYS * 999)
    return _BIRTHS + timedelta(days=place % _BIRTH_DAYS), place // _BIRTH_DAYS + 1


def _name(rng: random.Random) -> str:
    second = rng.choice(_GIVEN) if rng.random() < 0.8 else ""
    return rng.choice(_SURNAMES) + rng.choice(_GIVEN) + second


def _instant(rng: random.Random) -> str:
    return str(_NOW - timedelta(seconds=rng.randrange(_SPREAD_S)))


def _organisation(body: str) -> str:
    """8 characters with their GB 11714 check character."""
    total = sum(int(c, 36) * w for c, w in zip(body, _ORG_WEIGHTS, strict=True))
    return body + "0123456789X0"[11 - total % 11]


# --- defects ----------------------------------------------------------------------


def _set(column: str, *values: str | None) -> Damage:
    def damage(row: Row, n: int) -> None:
        row[column] = values[n % len(values)]

    return damage


def _wrong_check(column: str, alphabet: str) -> Damage:
    def damage(row: Row, n: int) -> None:
        right = alphabet.index(row[column][-1])
        wrong = alphabet[(right + 1 + n % (len(alphabet) - 1)) % len(alphabet)]
        row[column] = row[column][:-1] + wrong

    return damage


def _fifteen(row: Row, _n: int) -> None:
    row["citizen_id"] = row["citizen_id"][:6] + row["citizen_id"][8:17]


def _full_width(row: Row, _n: int) -> None:
    wide = {ord(d): ord(d) + 0xFEE0 for d in "0123456789X"}
    row["citizen_id"] = row["citizen_id"].translate(wide)


def _lower_x(row: Row, _n: int) -> None:
    body = row["citizen_id"][:14]
    odd = int(row["citizen_id"][16]) % 2
    made = (citizen_id(f"{body}{seq:03d}") for seq in range(2 - odd, 1000, 2))
    row["citizen_id"] = next(i for i in made if i.endswith("X")).lower()


def _other_birth(row: Row, n: int) -> None:
    row["birth_date"] = (
        date.fromisoformat(row["birth_date"]) + timedelta(days=1 + n)
    ).isoformat()


def _rare(characters: str) -> Damage:
    def damage(row: Row, n: int) -> None:
        row["name"] = characters[n % len(characters)] + row["name"][1:]

    return damage


def _dot(row: Row, n: int) -> None:
    row["name"] = "阿依古丽" + "·•・‧"[n % 4] + "买买提"


def _longer(column: str, more: str) -> Damage:
    def damage(row: Row, _n: int) -> None:
        row[column] += more

    return damage


def _twice(row: Row, _n: int) -> None:
    row["uscc"] = row["before"]["uscc"]


_IMPOSSIBLE = ("1985-02-30", "1990-13-01", "2001-00-10", "不详")
_DAMAGE: dict[str, Damage] = {
    "id-check-character": _wrong_check("citizen_id", "0123456789X"),
    "id-15-digits": _fifteen,
    "id-full-width": _full_width,
    "id-lower-x": _lower_x,
    "birth-differs-from-id": _other_birth,
    "birth-1900-01-01": _set("birth_date", "1900-01-01"),
    "name-rare-character": _rare("𠮷䶮"),
    "name-private-use-character": _rare("\ue863"),
    "name-dot-variant": _dot,
    "name-too-long": _longer("name", "某" * 60),
    "gender-code-unknown": _set("gender_code", "M", "F", "3"),
    "birth-impossible": _set("birth_date", *_IMPOSSIBLE),
    "updated-at-unreadable": _set("updated_at", "上周五下午"),
    "uscc-check-character": _wrong_check("uscc", _USCC_ALPHABET),
    "established-1900-01-01": _set("established_on", "1900-01-01"),
    "established-impossible": _set("established_on", "1999-02-29", "2003-11-31"),
    "uscc-missing": _set("uscc", None),
    "uscc-too-long": _longer("uscc", "（副本）"),
    "uscc-twice": _twice,
    "reg-date-impossible": _set("reg_date", "2025-06-31", "2025-99-01"),
    "secrecy-mark": _set("secrecy_mark", "机密★10年", "机密★5年", "机密★长期"),
}
