# SPDX-License-Identifier: Apache-2.0
"""What is wrong with the sample department's rows, and in how many of them.

Every defect is seeded in a known number of rows and no row has two of them, so that a
test can ask for exact counts.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from agent.demo.numbers import USCC_ALPHABET, citizen_id

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


def spoilt(
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
    "uscc-check-character": _wrong_check("uscc", USCC_ALPHABET),
    "established-1900-01-01": _set("established_on", "1900-01-01"),
    "established-impossible": _set("established_on", "1999-02-29", "2003-11-31"),
    "uscc-missing": _set("uscc", None),
    "uscc-too-long": _longer("uscc", "（副本）"),
    "uscc-twice": _twice,
    "reg-date-impossible": _set("reg_date", "2025-06-31", "2025-99-01"),
    "secrecy-mark": _set("secrecy_mark", "机密★10年", "机密★5年", "机密★长期"),
}
