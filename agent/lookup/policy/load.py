# SPDX-License-Identifier: Apache-2.0
"""``policy.toml`` to a policy, or every fault of it at once."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from agent.catalog.gate import Offer
from agent.errors import Fault, PolicyInvalid, nearest, shown
from agent.lookup.policy.check import Wrong, alone, rivals, treatment
from agent.lookup.policy.document import (
    MOST_GRANTS,
    Document,
    Grant,
    Purpose,
    Validity,
)
from agent.lookup.policy.pattern import Pattern
from agent.lookup.policy.rules import Policy, Rule, checked

LARGEST = 1024 * 1024
"""Most bytes of a policy."""

FILE = "policy.toml"


def load(
    text: str,
    offers: Mapping[str, Offer],
    *,
    shut: Mapping[str, str] | None = None,
    file: str = FILE,
) -> Policy:
    """The policy of a text.

    Args:
        text: TOML; nothing at all is the policy that refuses everything.
        offers: what the gate opens for lookups, by code.
        shut: why the gate is shut for the other resources, to say it; by code.
        file: its name in complaints.

    Raises:
        PolicyInvalid: with every fault, each with file, key, expected and got.
    """
    faults: list[Fault] = []
    grants = list(_grants(_tables(text, file), file, faults))
    for grant in grants:
        wrongs = alone(grant, offers, shut or {})
        faults += [_at(file, grant.id, wrong) for wrong in wrongs]
    faults += [_at(file, name, wrong) for name, wrong in rivals(grants)]
    faults += _same_ids(file, grants)
    if faults:
        raise PolicyInvalid(faults=tuple(faults))
    return checked(tuple(_rule(grant) for grant in grants))


def read(path: Path) -> str:
    """The text of a policy file.

    Raises:
        PolicyInvalid: no such file, too large, or not UTF-8.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as e:
        raise _one(str(path), "a readable file", e.strerror or "none") from None
    if len(data) > LARGEST:
        raise _one(str(path), f"at most {LARGEST} bytes", "more")
    try:
        return data.decode()
    except UnicodeDecodeError as e:
        raise _one(str(path), "UTF-8 text", f"another byte at {e.start}") from None


def digest(text: str) -> str:
    """What names exactly this text: ``sha256:`` and lower hex."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _tables(text: str, file: str) -> dict[str, Any]:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _one(file, "Unicode text", "half of a character") from None
    if size > LARGEST:
        raise _one(file, f"at most {LARGEST} bytes", "more")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise _one(file, "TOML", "tables or lists nested too deeply") from None
    except ValueError as e:  # TOMLDecodeError, and numbers of thousands of digits
        raise _one(file, "TOML", str(e)) from None


def _grants(raw: Mapping[str, Any], file: str, faults: list[Fault]) -> Iterator[Grant]:
    """The grants whose form is right; what is wrong joins ``faults``."""
    for key in raw:
        if key != "grants":
            expected = nearest(key, Document.model_fields, "tables [[grants]]")
            faults.append(Fault(file, key, expected, "an unknown key"))
    tables = raw.get("grants", [])
    if not isinstance(tables, list):
        faults.append(Fault(file, "grants", "tables [[grants]]", shown(tables)))
        return
    if len(tables) > MOST_GRANTS:
        expected = f"at most {MOST_GRANTS} grants"
        faults.append(Fault(file, "grants", expected, str(len(tables))))
        return
    for number, table in enumerate(tables, 1):
        try:
            yield Grant.model_validate(table)
        except ValidationError as e:
            name = table.get("id") if isinstance(table, dict) else None
            at = f"grants.{name if isinstance(name, str) and name else number}"
            faults += [_fault(file, at, error) for error in _told(e)]


def _told(e: ValidationError) -> list[ErrorDetails]:
    """Its errors; a list that is short because its entries are wrong is not one."""
    errors = e.errors(include_url=False)
    wrong = {error["loc"][:n] for error in errors for n in range(len(error["loc"]))}
    return [e for e in errors if e["type"] != "too_short" or e["loc"] not in wrong]


def _fault(file: str, at: str, error: ErrorDetails) -> Fault:
    loc = error["loc"]
    parts = [str(part + 1) if isinstance(part, int) else part for part in loc]
    key = ".".join([at[:80], *parts])
    if error["type"] == "extra_forbidden":
        expected = nearest(str(loc[-1]), _known(loc[:-1]), "a known key")
        return Fault(file, key, expected, "an unknown key")
    if error["type"] == "missing":
        return Fault(file, key, "a value (it has no default)", "nothing")
    expected = error["msg"].removeprefix("Input should ").removeprefix("be ")
    if error["type"] == "string_pattern_mismatch":
        expected = _MEANING.get(str(loc[0]), expected)
    if error["type"] == "model_type":
        expected = "a table"
    return Fault(file, key, expected, shown(error["input"]))


_MEANING = {
    "id": "a-z, 0-9 and -, at most 64 characters",
    "consumers": "a unified social credit code of 18 characters",
}
_TABLES: Mapping[str, type[BaseModel]] = {"purposes": Purpose, "valid": Validity}


def _known(loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the table at a place of a grant, as they are written."""
    model = _TABLES.get(str(loc[0]), Grant) if loc else Grant
    return [field.alias or name for name, field in model.model_fields.items()]


def _same_ids(file: str, grants: list[Grant]) -> Iterator[Fault]:
    seen: set[str] = set()
    for grant in grants:
        if grant.id in seen:
            yield Fault(file, f"grants.{grant.id}.id", "an id of its own", "a used one")
        seen.add(grant.id)


def _at(file: str, grant: str, wrong: Wrong) -> Fault:
    key = f"grants.{grant}.{wrong.key}".removesuffix(".")
    return Fault(file, key, wrong.expected, wrong.got, wrong.article)


def _one(file: str, expected: str, got: str) -> PolicyInvalid:
    return PolicyInvalid(faults=(Fault(file, "", expected, got),))


def _rule(grant: Grant) -> Rule:
    """A grant without a fault, compiled."""
    fields = {name: treatment(text) for name, text in grant.fields.items()}
    return Rule(
        id=grant.id,
        consumers=grant.consumers,
        resource=grant.resource,
        ops=frozenset(grant.ops),
        keys=grant.keys,
        purposes={p.purpose: Pattern(p.basis) for p in grant.purposes},
        fields={name: found for name, found in fields.items() if found is not None},
        max_items=grant.max_items,
        first=grant.valid.first,
        last=grant.valid.last,
        note=grant.note,
    )
