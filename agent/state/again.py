# SPDX-License-Identifier: Apache-2.0
"""Methods of one transaction each, done once more where the disk was full."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from types import FunctionType
from typing import Any, TypeVar

C = TypeVar("C")


def each_once_more(cls: type[C]) -> type[C]:
    """Let every public method of a class go through ``Connection.once_more``.

    Args:
        cls: keeps its connection as ``_connection``. A method must write in one
            transaction at most and change nothing else, so that doing it again from its
            beginning is the same as doing it late.
    """
    for name, method in list(vars(cls).items()):
        if isinstance(method, FunctionType) and not name.startswith("_"):
            setattr(cls, name, _once_more(method))
    return cls


def _once_more(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def done(self: Any, *args: Any, **kwargs: Any) -> Any:
        work = partial(method, self, *args, **kwargs)
        return self._connection.once_more(work)

    return done
