# SPDX-License-Identifier: Apache-2.0
"""Says that files may have changed; the only module that knows watchdog.

It is a hint and no more: whether something changed is told by the files themselves,
which are looked at now and then anyway, because some file systems tell nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

_TELLING: list[type[FileSystemEvent]] = [
    FileClosedEvent,  # after writing
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
]
"""What may be a change. The kernel is not asked for more: reading a file would tell of
itself, and so would each line of a log that lies beside the settings."""


@contextmanager
def watching(folders: frozenset[Path], changed: Callable[[], None]) -> Iterator[None]:
    """Call ``changed`` in the running loop when a file of a folder may have.

    Only ``*.toml`` and ``*.json`` count.

    Args:
        folders: one that is not there, or cannot be watched, is left out.
        changed: called often, and for nothing at times.
    """
    handler = _Handler(asyncio.get_running_loop(), changed)
    observer = Observer()
    observer.start()
    for folder in sorted(folders):
        # No such folder, or no more watches to be had: it is looked at now and then.
        with suppress(OSError):
            observer.schedule(
                handler, str(folder), recursive=False, event_filter=_TELLING
            )
    try:
        yield
    finally:
        observer.stop()
        observer.join(5.0)


class _Handler(FileSystemEventHandler):
    def __init__(
        self, loop: asyncio.AbstractEventLoop, changed: Callable[[], None]
    ) -> None:
        self._loop = loop
        self._changed = changed

    def on_any_event(self, event: FileSystemEvent) -> None:
        paths = (str(event.src_path), str(event.dest_path))
        if any(p.endswith((".toml", ".json")) for p in paths):
            try:
                self._loop.call_soon_threadsafe(self._changed)
            except RuntimeError:
                return  # the loop has ended
