# SPDX-License-Identifier: Apache-2.0
"""What a connector may offer besides: rows that the source itself digests.

A tag is 64 bits of a row that the database computes. Whoever knows the tags of the rows
that he has can find what changed without reading those rows. Offering it is optional.

Rules; ``conformance_tags.py`` runs them

1. Two rows of one stream whose tags are equal give equal values by ``read``, as long as
   the name that ``tagging`` gives is the same: by chance alone it is otherwise, once in
   2^64. So the name changes with the server's version and its machine, with the
   statement, and with every setting that the rendering of a value depends on.
2. Rows that ``read`` gives as equal values may have different tags, but a row that
   nobody touched keeps its tag.
3. ``tags`` gives every row once, in the order of ``read``, in the session's snapshot.
4. ``tagged`` gives rows as ``read`` does, in its order and in the same snapshot, each
   with its tag: all of them, or those whose key is among the given ones (with all rows
   of such a key), each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from connectors.contract import Page, Session, Slice, StreamSpec

if TYPE_CHECKING:
    import pyarrow as pa

Tags = Any
"""A pyarrow array of ``int64`` without NULL; the stubs know no such arrays' types."""


@dataclass(frozen=True)
class TaggedKeys:
    """The keys and tags of consecutive rows.

    Args:
        keys: the key columns in the stream's order, as pages have them.
        tags: one a row.
    """

    keys: pa.RecordBatch
    tags: Tags


@dataclass(frozen=True)
class TaggedPage(Page):
    """A page with a tag for each row."""

    tags: Tags


@runtime_checkable
class TaggingSession(Session, Protocol):
    """A session whose source can digest the rows of some streams."""

    def tagging(self, stream: StreamSpec) -> str | None:
        """The name of the way in which this stream's rows are digested.

        Returns:
            None if they cannot be.

        Raises:
            SourceError: as of ``plan``.
        """
        ...

    def tags(self, part: Slice) -> Iterator[TaggedKeys]:
        """The key and the tag of every row.

        Raises:
            SourceError: also while iterating.
        """
        ...

    def tagged(
        self, part: Slice, keys: Sequence[pa.RecordBatch] | None = None
    ) -> Iterator[TaggedPage]:
        """Rows with their tags.

        Args:
            part: what to read.
            keys: pieces of what ``tags`` gave, in its order; None for all rows. Keys
                that cannot be decoded cannot be asked for.

        Raises:
            SourceError: also while iterating.
        """
        ...
