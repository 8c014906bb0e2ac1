# SPDX-License-Identifier: Apache-2.0
"""The sample department: the business database of a city that does not exist.

云溪市人力资源和社会保障局, SQLite, written by :func:`build`. Same rows and seed,
same values on every machine. Rules of the data:

1. Nobody's data. Administrative prefix 99 is assigned to no province, so the identity
   numbers pass GB 11643 and belong to nobody; mobile numbers use the unassigned prefix
   120 and telephones the unassigned area code 0400.
2. What is wrong with it, and in how many rows, stands in ``defects``.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path

from agent.demo.defects import Row, seeded, spoilt
from agent.demo.numbers import citizen_id, organisation, uscc

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
_INDEXES = """
create index employer_uscc on employer(uscc);
create index person_citizen_id on person(citizen_id);
"""

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
        yield table, spoilt(made, wanted, size=size.get(table, 0), rng=rng)


def _insert(db: sqlite3.Connection, table: str, made: Iterator[Row]) -> None:
    first = next(made)
    marks = ",".join("?" * len(first))
    insert = f"insert into {table} values ({marks})"  # noqa: S608 - names of ours
    db.execute(insert, tuple(first.values()))
    db.executemany(insert, (tuple(row.values()) for row in made))


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
        body = f"91{region}{organisation(f'MA{i + 1:06d}')}"
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
