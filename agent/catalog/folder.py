# SPDX-License-Identifier: Apache-2.0
"""Resource documents from a folder, or every fault of all of them at once."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from agent.catalog.document import CatalogItem, Resource
from agent.catalog.lint import errors
from agent.errors import CatalogInvalid, Fault, nearest, shown

LARGEST = 4 * 1024 * 1024
"""Most bytes of a document."""

_TABLES = {
    name: tuple(field.annotation.__args__[0].model_fields)  # type: ignore[union-attr]
    for name, field in Resource.model_fields.items()
    if name in ("legal_basis", "secrecy_review", "census", "binding")
}


def load_folder(path: Path, *, sources: Collection[str]) -> tuple[Resource, ...]:
    """All documents (``*.toml``) of a folder, by code.

    Args:
        path: the folder.
        sources: names of the sources that a binding may name.

    Raises:
        CatalogInvalid: with every fault of every file.
    """
    faults: list[Fault] = []
    found: dict[str, tuple[Path, Resource]] = {}
    for file in _files(path):
        try:
            resource = load_file(file)
        except CatalogInvalid as e:
            faults += e.faults
            continue
        if resource.code in found:
            other = found[resource.code][0].name
            faults.append(
                Fault(str(file), "code", "a code of its own", f"that of {other}")
            )
        found[resource.code] = (file, resource)
        faults += _unbound(file, resource, sources)
    if faults:
        raise CatalogInvalid(faults=tuple(faults))
    return tuple(found[code][1] for code in sorted(found))


def load_file(file: Path) -> Resource:
    """One document that lint finds no error in.

    Raises:
        CatalogInvalid: with every fault of it.
    """
    raw = _read(file)
    try:
        resource = Resource.model_validate(raw)
    except ValidationError as e:
        faults = [_fault(file, raw, error) for error in e.errors(include_url=False)]
        raise CatalogInvalid(faults=tuple(faults)) from None
    wrong = tuple(
        Fault(str(file), f.field, f"{f.text.zh} / {f.text.en}", None, f.article)
        for f in errors(resource)
    )
    if wrong:
        raise CatalogInvalid(faults=wrong)
    return resource


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        raise _one(path, "a folder of resource documents", "no such folder")
    return sorted(path.glob("*.toml"))


def _unbound(
    file: Path, resource: Resource, sources: Collection[str]
) -> Iterator[Fault]:
    if resource.binding is not None and resource.binding.source not in sources:
        got = resource.binding.source
        expected = nearest(got, sources, "a source of the settings")
        yield Fault(str(file), "binding.source", expected, repr(got))


def _read(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as e:
        raise _one(file, "a readable file", e.strerror or type(e).__name__) from None
    if len(data) > LARGEST:
        raise _one(file, f"at most {LARGEST} bytes", "more")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as e:
        raise _one(file, "UTF-8 text", f"another byte at {e.start}") from None
    except tomllib.TOMLDecodeError as e:
        raise _one(file, "TOML", str(e)) from None


def _one(path: Path, expected: str, got: str) -> CatalogInvalid:
    return CatalogInvalid(faults=(Fault(str(path), "", expected, got),))


def _fault(file: Path, raw: Mapping[str, Any], error: ErrorDetails) -> Fault:
    loc = error["loc"]
    key = ".".join(_named(raw, loc))
    if error["type"] == "extra_forbidden":
        expected = nearest(str(loc[-1]), _known(loc[:-1]), "a known key")
        return Fault(str(file), key, expected, "an unknown key", "指南")
    if error["type"] == "missing":
        return Fault(str(file), key, "a value (it has no default)", "nothing", "指南")
    expected = error["msg"].removeprefix("Input should ").removeprefix("be ")
    if error["type"] == "model_type":
        expected = "a table"
    return Fault(str(file), key, expected, shown(error["input"]), "指南")


def _named(raw: Mapping[str, Any], loc: tuple[int | str, ...]) -> Iterator[str]:
    """The place with an item's name in place of its number."""
    for i, part in enumerate(loc):
        if i == 1 and loc[0] == "items" and isinstance(part, int):
            item = raw["items"][part]
            name = item.get("name") if isinstance(item, dict) else None
            yield str(name or part + 1)
        else:
            yield str(part)


def _known(loc: tuple[int | str, ...]) -> tuple[str, ...]:
    """Keys of the table at a place of the document."""
    if not loc:
        return tuple(Resource.model_fields)
    if loc[0] == "items" and len(loc) == 2:
        return tuple(CatalogItem.model_fields)
    return _TABLES.get(str(loc[-1]), ())
