# SPDX-License-Identifier: Apache-2.0
"""One private server of each kind for all tests of this folder.

In PostgreSQL each file has its own database: what one leaves is not met by another.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.support.mariadb import Mariadb, private_mariadb
from tests.support.postgres import Server, private_server


@pytest.fixture(scope="session")
def cluster() -> Iterator[Server]:
    with private_server(tcp=True, locale="C.UTF-8") as found:
        yield found


@pytest.fixture(scope="module")
def server(cluster: Server, request: pytest.FixtureRequest) -> Iterator[Server]:
    name = request.module.__name__.rpartition(".")[2]
    cluster.sql(f"create database {name}")
    yield replace(cluster, database=name)
    cluster.sql(f"drop database {name} with (force)")


@pytest.fixture(scope="session")
def mariadb() -> Iterator[Mariadb]:
    with private_mariadb() as found:
        yield found
