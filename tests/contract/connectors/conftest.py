# SPDX-License-Identifier: Apache-2.0
"""One private server of each kind for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.mariadb import Mariadb, private_mariadb
from tests.support.postgres import Server, private_server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with private_server(tcp=True, locale="C.UTF-8") as found:
        yield found


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Mariadb]:
    with private_mariadb() as found:
        yield found
