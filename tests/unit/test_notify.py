# SPDX-License-Identifier: Apache-2.0
"""What systemd hears."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.notify import Notifier, watchdog_period_s


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket like the one that systemd makes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(tmp_path / "notify"))
        s.setblocking(False)
        yield s


def test_states_arrive_one_datagram_each(
    listener: socket.socket,
) -> None:
    """READY, STATUS on one line, WATCHDOG and STOPPING are heard in order."""
    n = Notifier(listener.getsockname())
    n.ready()
    n.status("12 wait\nfor receipts")
    n.watchdog()
    n.stopping()
    heard = [listener.recv(200) for _ in range(4)]
    assert heard == [
        b"READY=1",
        b"STATUS=12 wait for receipts",
        b"WATCHDOG=1",
        b"STOPPING=1",
    ]


def test_an_abstract_socket_is_reached() -> None:
    """An address that begins with @ is in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind("")  # Linux picks an abstract name
        name = s.getsockname()
        Notifier("@" + name[1:].decode()).ready()
        assert s.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "/nonexistent/notify"])
def test_nobody_listening_is_not_an_error(address: str | None) -> None:
    """Without systemd, or when it is gone, telling does nothing."""
    Notifier(address).ready()


@pytest.mark.parametrize(
    ("environ", "period"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_a_period(
    environ: dict[str, str], period: float | None
) -> None:
    """The period is half of WATCHDOG_USEC, only for the process that is meant."""
    assert watchdog_period_s(environ, pid=7) == period


def test_a_reload_carries_the_clock_that_systemd_compares(
    listener: socket.socket,
) -> None:
    """sd_notify(3): RELOADING=1 counts only with MONOTONIC_USEC; READY ends it."""
    n = Notifier(listener.getsockname())
    n.reloading(1_234_567)
    n.ready()
    assert listener.recv(200) == b"RELOADING=1\nMONOTONIC_USEC=1234567"
    assert listener.recv(200) == b"READY=1"
