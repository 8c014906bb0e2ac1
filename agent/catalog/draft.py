# SPDX-License-Identifier: Apache-2.0
"""A resource document drafted from a table, for a person to finish; pure.

Nothing of a draft leaves: ``push`` and ``lookup`` are false, and what only people know
is missing, so that lint names it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from connectors.contract import FoundColumn, FoundTable

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_HEAD = """\
# 草稿，须由人工补全 / a draft, to be finished by a person: {table}
# 资源代码、共享类型、法律依据等见编制指南；补全后运行 fep config check
# Code, share type and legal basis are people's to give; then: fep config check
code = "000000/000000"
name = {name}
version = 1
push = false
lookup = false
share_type = "conditional"
share_condition = ""
secrecy_level = "unclassified"
"""


def draft(table: FoundTable, *, source: str) -> str:
    """The TOML of a draft.

    Args:
        table: as ``discover`` found it.
        source: name of the source in the settings.
    """
    names = list(_names(table.columns))
    parts = [
        _HEAD.format(
            table=_comment(".".join(table.table)),
            name=_text(table.comment or table.table[-1]),
        ),
        "[binding]",
        f"source = {_text(source)}",
        f"table = [{', '.join(_text(part) for part in table.table)}]",
    ]
    renamed = [
        f"{name} = {_text(column.name)}"
        for name, column in zip(names, table.columns, strict=True)
        if name != column.name
    ]
    if renamed:
        parts += ["", "[binding.columns]", *renamed]
    for name, column in zip(names, table.columns, strict=True):
        parts += ["", *_item(name, column)]
    return "\n".join(parts) + "\n"


def _item(name: str, column: FoundColumn) -> Iterator[str]:
    yield "[[items]]"
    yield f"name = {_text(name)}"
    yield f"title = {_text(column.comment or '')}"
    yield f"type = {_text(column.type)}  # {_comment(column.native)}"
    if column.length is not None:
        yield f"length = {column.length}"
    if column.scale is not None:
        yield f"scale = {column.scale}"
    if column.key:
        yield "key = true"
    if not column.nullable:
        yield "required = true"


def _names(columns: tuple[FoundColumn, ...]) -> Iterator[str]:
    """Names of the grammar, unique, near the columns' own."""
    taken: set[str] = set()
    for number, column in enumerate(columns, 1):
        name = re.sub(r"[^a-z0-9_]", "_", column.name.lower())[:63]
        if not _NAME.fullmatch(name) or name in taken:
            name = f"item_{number}"
        taken.add(name)
        yield name


def _comment(text: str) -> str:
    """On one line: the database's names and types may hold line ends."""
    return "".join(c if c.isprintable() else " " for c in text)


def _text(value: str) -> str:
    """A TOML basic string; JSON's escapes are among TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
