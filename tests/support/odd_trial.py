# SPDX-License-Identifier: Apache-2.0
"""Subjects of ``fep connector test`` whose connectors misbehave as ``config`` says."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from connectors.conformance import Subject
from tests.support.subjects import fake_subject


class _Odd:
    """A connector around another one, that goes wrong when it is asked for tables."""

    def __init__(self, inner: Any, way: str) -> None:
        self._inner = inner
        self._way = way

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def discover(self, config: Mapping[str, Any]) -> Any:
        print("a driver that prints")  # noqa: T201 - it must not be taken for a result
        sys.stdout.flush()
        if self._way == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if self._way == "hang":
            signal.pause()
        if self._way == "raise":
            raise KeyError("a table")
        return self._inner.discover(config)


def subject(config: Mapping[str, Any]) -> Subject:
    found = fake_subject()
    return replace(found, connector=_Odd(found.connector, config["way"]), begin=None)
