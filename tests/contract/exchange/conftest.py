# SPDX-License-Identifier: Apache-2.0
"""One exchange for all of a file's tests; each test has a resource of its own."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.exchange_client import GAJ, Node, Stream
from tests.support.sandbox_process import SandboxProcess, running_sandbox

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    with running_sandbox(tmp_path_factory.mktemp("exchange")) as found:
        yield found


@pytest.fixture(autouse=True)
def no_faults_left(sandbox: SandboxProcess) -> Iterator[None]:
    yield
    if sandbox.process is not None:
        sandbox.faults()
        sandbox.load(on=True)


def enrolled(sandbox: SandboxProcess, folder: Path, **names: str) -> Node:
    node = Node(sandbox.address, sandbox.ca, folder, **names)
    node.enrol()
    return node


@pytest.fixture(scope="module")
def node(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Node:
    return enrolled(sandbox, tmp_path_factory.mktemp("rsj"))


@pytest.fixture(scope="module")
def stranger(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Node:
    """Another department's node, enrolled too."""
    return enrolled(sandbox, tmp_path_factory.mktemp("gaj"), node=GAJ)


@pytest.fixture
def resource() -> str:
    return f"990100/rk/t{next(_NUMBERS)}"


@pytest.fixture
def stream(node: Node, resource: str) -> Stream:
    """A stream whose catalog the exchange knows and in which nothing was sent."""
    found = Stream(node, resource)
    assert found.put_catalog().status == 201
    return found


@pytest.fixture
def fresh_node(sandbox: SandboxProcess, tmp_path: Path) -> Callable[[str], Node]:
    """Makes nodes that are not enrolled yet."""

    def make(name: str) -> Node:
        return Node(
            sandbox.address, sandbox.ca, tmp_path / name, node=f"{GAJ[:18]}/{name}"
        )

    return make
