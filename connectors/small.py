# SPDX-License-Identifier: Apache-2.0
"""What connectors of small sources share, whose tables fit into memory: say files.

A database sorts and seeks by itself; for what does not, :func:`pages_of` puts a table
into the order of its key and cuts it into pages that can be resumed after.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from connectors import findings
from connectors.contract import (
    Connector,
    Finding,
    FoundColumn,
    FoundTable,
    Limits,
    Page,
    Slice,
    SourceError,
    StreamSpec,
)
from connectors.sql import PAGE_BYTES, Key, mark_after, mark_of, token_of

_WHOLE = re.compile(r"-?[0-9]+")


def pages_of(
    table: pa.Table, part: Slice, limits: Limits, resume: str | None
) -> Iterator[Page]:
    """A table in the order of its key (rule 3), in pages; after ``resume`` if given.

    Args:
        table: all rows; the stream's columns in its order, keys as whole numbers or
            texts.
        part: its stream says which columns are keys.
        limits: of the session.
        resume: token of one of these pages.

    Raises:
        SourceError: failed: the token is of another stream.
    """
    names = [column.name for column in part.stream.columns if column.key]
    found = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    order = sorted(range(len(found)), key=lambda i: _place(found[i]))
    keys = [found[i] for i in order]
    mark, begin = None, 0
    if resume is not None:
        mark = mark_of(resume, len(names))
        begin = bisect_left(keys, _place(mark.key), key=_place)
        begin += min(mark.rows, keys[begin:].count(mark.key))
    fits = PAGE_BYTES * len(keys) // max(table.nbytes, 1)
    step = max(min(limits.page_rows, fits), 1)
    for at in range(begin, len(keys), step):
        taken = table.take(order[at : at + step]).combine_chunks()
        (rows,) = taken.to_batches()
        mark = mark_after(rows.num_rows, lambda i, at=at: keys[at + i], mark)  # type: ignore[misc]
        yield Page(rows, token_of(mark))


def _place(key: Key) -> list[tuple[bool, bool, int, str]]:
    """Where a key stands: NULL first, then whole numbers, then texts by characters."""
    return [_of(value) for value in key]


def _of(value: object) -> tuple[bool, bool, int, str]:
    text = "" if value is None else str(value)
    whole = _WHOLE.fullmatch(text) is not None and len(text) <= 4000
    return value is not None, not whole, int(text) if whole else 0, text


def table_found(name: str, schema: pa.Schema) -> FoundTable:
    """A table for ``discover``: whole numbers are drafted as I, all else as C."""
    columns = tuple(
        FoundColumn(
            name=field.name,
            native=str(field.type),
            type="I" if pa.types.is_integer(field.type) else "C",
            length=None,
            scale=None,
            nullable=True,
            key=False,
            comment=None,
        )
        for field in schema
    )
    return FoundTable(table=(name,), comment=None, rows=None, columns=columns)


def check_by_trying(
    connector: Connector, config: Mapping[str, Any], streams: Sequence[StreamSpec]
) -> list[Finding]:
    """Findings of a session that is opened, and of each stream that is planned."""
    found = []
    try:
        with connector.open(config, Limits()) as session:
            found.append(findings.connected(connector.name))
            for stream in streams:
                session.plan(stream)
                name = ".".join(stream.table)
                found.append(findings.readable(name, len(stream.columns)))
                paths = connector.capabilities(config, stream).paths
                found += [
                    findings.path(
                        c.name,
                        "",
                        c.type,
                        "native" if paths.get(c.name) == "native" else "text",
                    )
                    for c in stream.columns
                ]
    except SourceError as e:
        found.append(findings.from_error(e))
    return found
