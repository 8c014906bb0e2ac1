# SPDX-License-Identifier: Apache-2.0
"""One private PostgreSQL server for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.postgres import Server, private_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with private_server(tcp=True, locale="C.UTF-8") as found:
        yield found
