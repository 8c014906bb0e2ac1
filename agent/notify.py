# SPDX-License-Identifier: Apache-2.0
"""What systemd is told: one datagram a message, never fatal, no library.

Source: sd_notify(3). Without ``NOTIFY_SOCKET`` every call does nothing, so that the
same program runs in a terminal.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping


class Notifier:
    """Sends service states to the service manager.

    Args:
        address: value of ``NOTIFY_SOCKET``: a path, ``@name`` for an abstract socket,
            or None when nobody listens.
    """

    def __init__(self, address: str | None) -> None:
        self._address = address

    def ready(self) -> None:
        """The daemon has recovered and does its work."""
        self._send("READY=1")

    def reloading(self, clock_us: int) -> None:
        """It has begun to look at its settings again; :meth:`ready` ends that.

        Args:
            clock_us: the monotonic clock, microseconds, as systemd compares it.
        """
        self._send(f"RELOADING=1\nMONOTONIC_USEC={clock_us}")

    def stopping(self) -> None:
        """The daemon has begun to stop."""
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``; newlines become spaces."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """The loops turn; the watchdog may wait another period."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                s.setblocking(False)
                s.sendto(message.encode(), address)
        except OSError:
            return  # nobody hears; the work goes on


def watchdog_period_s(environ: Mapping[str, str], *, pid: int) -> float | None:
    """Half the time in which systemd wants a sign of life, seconds.

    Args:
        environ: of the process; ``WATCHDOG_USEC`` and ``WATCHDOG_PID`` are read.
        pid: own process id.

    Returns:
        None when no watchdog waits for this process.
    """
    if environ.get("WATCHDOG_PID", str(pid)) != str(pid):
        return None
    try:
        usec = int(environ.get("WATCHDOG_USEC", ""))
    except ValueError:
        return None
    return usec / 2e6 if usec > 0 else None
