# SPDX-License-Identifier: Apache-2.0
"""What is wrong with tables, in words of whoever wrote them."""

from __future__ import annotations

from types import UnionType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from agent.errors import Fault, nearest, shown

Model = type[BaseModel]

SECRET_PLACES = frozenset({"exchange.proxy.url"})
"""Keys whose value is never told: there may be a password in it."""


def told(file: str, model: Model, error: ValidationError) -> list[Fault]:
    """Every fault, each with file, key, expected and got.

    Args:
        file: its name in complaints.
        model: what the tables were held against.
        error: what came of it.
    """
    return [_fault(file, model, e) for e in error.errors(include_url=False)]


def _fault(file: str, model: Model, error: ErrorDetails) -> Fault:
    loc = error["loc"]
    key = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        section = _section(model, loc[:-1])
        expected = nearest(str(loc[-1]), section, "a known key")
        return Fault(file, key, expected, "an unknown key")
    if error["type"] == "missing":
        return Fault(file, key, "a value (it has no default)", "nothing")
    expected = error["msg"].removeprefix("Value error, ").removeprefix("Input should ")
    if loc and loc[-1] == "[key]":
        key = key.removesuffix(".[key]")
        expected = _described_key(model, loc[:-2]) or expected
        return Fault(file, key, expected, shown(error["input"]))
    if error["type"] == "string_pattern_mismatch":
        expected = _described(model, loc) or expected
        if key in SECRET_PLACES:
            return Fault(file, key, expected, "another text")
    if error["type"] in {"model_type", "mapping_type", "dict_type"}:
        # Whatever stands in place of a table may be something out of it.
        return Fault(file, key, f"a table [{key}]", type(error["input"]).__name__)
    return Fault(file, key, expected.removeprefix("be "), shown(error["input"]))


def _section(model: Model, loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Keys of the table at a place of the file; () if no table belongs there."""
    found = _plain(_at(model, loc))
    if isinstance(found, type) and issubclass(found, BaseModel):
        return tuple(found.model_fields)
    return ()


def _described(model: Model, loc: tuple[int | str, ...]) -> str | None:
    """What is expected at a place of the file, if the model says it in words."""
    return _words(_at(model, loc))


def _described_key(model: Model, loc: tuple[int | str, ...]) -> str | None:
    """What the names of a table's tables are, if the model says it in words."""
    return _words((*get_args(_plain(_at(model, loc))), None)[0])


def _words(found: Any) -> str | None:
    if isinstance(found, FieldInfo):
        return found.description
    infos = (info for info in get_args(found)[1:] if isinstance(info, FieldInfo))
    return next((info.description for info in infos), None)


def _at(model: Model, loc: tuple[int | str, ...]) -> Any:
    """What the model says of a place of the file: a field, or an annotation."""
    found: Any = model
    for part in loc:
        plain = _plain(found)
        if isinstance(plain, type) and issubclass(plain, BaseModel):
            found = plain.model_fields[str(part)]
        elif get_origin(plain) is tuple:
            found = get_args(plain)[0]
        else:  # a mapping of tables, by names of the writer
            found = (*get_args(plain), BaseModel)[1]
    return found


def _plain(found: Any) -> Any:
    """The type itself, of a field, an annotation, or one that may be left out."""
    if isinstance(found, FieldInfo):
        found = found.annotation
    if get_origin(found) is Annotated:
        found = get_args(found)[0]
    if get_origin(found) is UnionType:
        found = get_args(found)[0]
    return found
