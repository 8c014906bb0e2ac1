# SPDX-License-Identifier: Apache-2.0
"""An event loop that does not wait: where all sleep, its clock jumps ahead.

Hours pass in seconds, and the machine's pace changes nothing. Threads run at once, in
the loop; nothing may wait for another process.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    """Never waits; notes for how long it should have."""

    slept = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.slept += max(0.0, timeout or 0.0)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumped = _Selector()
        super().__init__(self._jumped)

    def time(self) -> float:
        return self._jumped.slept


class _AtOnce(ThreadPoolExecutor):
    """What a thread should do is done before the next line."""

    def submit(
        self, work: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        found: Future[Any] = Future()
        try:
            found.set_result(work(*args, **kwargs))
        except BaseException as e:  # noqa: BLE001 - whoever waits gets it
            found.set_exception(e)
        return found


def run(story: Callable[[Callable[[], float]], Coroutine[Any, Any, T]]) -> T:
    """What a story gives; it gets the clock that jumps."""
    loop = _Loop()
    try:
        loop.set_default_executor(_AtOnce(1))
        return loop.run_until_complete(story(loop.time))
    finally:
        loop.close()
