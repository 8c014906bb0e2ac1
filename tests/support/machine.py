# SPDX-License-Identifier: Apache-2.0
"""A Debian that boots: systemd as process 1, a network that ends at one neighbour.

Two network namespaces are joined by a cable (veth). One is the machine's, the other its
neighbour's, where a test may start what the machine is to reach. Neither reaches
anything else. The namespaces are made before the boot and live longer than it, so that
a reboot finds the same network.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.support.debian import NotDone, run

HERE = "10.77.0.2"
"""Address of the machine."""
NEIGHBOUR = "10.77.0.1"
"""Address of what stands beside it."""
STRANGER = "10.77.0.9"
"""Another address of the neighbour, which nobody has a reason to reach."""
BOOT_S = 60.0
REBOOT = 133
"""How systemd-nspawn ends when the machine asked for a reboot."""


class Machine:
    """One machine; call :meth:`plug` and :meth:`boot`, and :meth:`destroy` in the end.

    Args:
        root: its whole file system.
        binds: folder here -> folder there.
    """

    def __init__(self, root: Path, *, binds: Sequence[tuple[Path, str]] = ()) -> None:
        self.root = root
        self.binds = tuple(binds)
        self.name = f"fep{os.getpid()}"
        self._nspawn: subprocess.Popen[bytes] | None = None

    @property
    def inside(self) -> str:
        """Network namespace of the machine."""
        return f"{self.name}m"

    @property
    def beside(self) -> str:
        """Network namespace of the neighbour."""
        return f"{self.name}n"

    # --- network ------------------------------------------------------------------

    def plug(self) -> None:
        """Lay the cable."""
        for space in (self.inside, self.beside):
            run("ip", "netns", "add", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        ends = (("eth0", self.inside), ("eth1", self.beside))
        words = ["eth0", "netns", self.inside, "type", "veth", "peer", "name", "eth1"]
        run("ip", "link", "add", *words, "netns", self.beside)
        run("ip", "-n", self.inside, "addr", "add", f"{HERE}/24", "dev", "eth0")
        for address in (NEIGHBOUR, STRANGER):
            run("ip", "-n", self.beside, "addr", "add", f"{address}/24", "dev", "eth1")
        for device, space in ends:
            run("ip", "-n", space, "link", "set", device, "up")

    # --- power --------------------------------------------------------------------

    def boot(self) -> None:
        """Switch on, and wait until everything has been started."""
        binds = [f"--bind={here}:{there}" for here, there in self.binds]
        with (self.root.parent / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                [
                    "systemd-nspawn",
                    "--quiet",
                    f"--directory={self.root}",
                    f"--machine={self.name}",
                    "--boot",
                    "--register=no",
                    "--keep-unit",
                    f"--network-namespace-path=/run/netns/{self.inside}",
                    # Address filters of units are programs of the kernel (bpf).
                    "--capability=CAP_BPF,CAP_NET_ADMIN",
                    "--system-call-filter=bpf",
                    *binds,
                ],
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        self.wait(self._is_up, "the machine to boot", BOOT_S)

    def _is_up(self) -> bool:
        try:
            said = self.run("systemctl", "is-system-running", check=False)
        except (AssertionError, LookupError):
            return False
        return said.strip() in {"running", "degraded"}

    def reboot(self) -> None:
        """Ask it to reboot, and wait until it has.

        systemd-nspawn with --keep-unit leaves the second half to its caller: it ends
        with a code of its own, and wants to be started again.
        """
        assert self._nspawn is not None
        self.run("systemctl", "reboot", check=False)
        assert self._nspawn.wait(BOOT_S) == REBOOT, self.console()
        self.boot()

    def off(self) -> None:
        """Switch off in an orderly way, else pull the plug."""
        process, self._nspawn = self._nspawn, None
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def destroy(self) -> None:
        """Switch off and take the cable away."""
        self.off()
        for space in (self.inside, self.beside):
            run("ip", "netns", "delete", space, check=False)

    # --- what goes on in it -------------------------------------------------------

    @property
    def leader(self) -> int:
        """Its process 1, as the kernel outside numbers it."""
        found = self._leader()
        if found is None:
            raise LookupError("the machine is off")
        return found

    def _leader(self) -> int | None:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self.console()
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def run(self, *words: str, check: bool = True, timeout: float = 120) -> str:
        """A command of root in the machine."""
        enter = ["nsenter", "--target", str(self.leader), "--all", "--wd=/"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"]
        try:
            return run(*enter, *clean, *words, check=check, timeout=timeout)
        except NotDone as e:
            raise NotDone(f"{e}\n{self._doing()}") from None

    def _doing(self) -> str:
        """Its processes, and in which function of the kernel each one waits."""
        here = Path(f"/proc/{self.leader}/ns/pid").readlink()
        found = []
        for place in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (place / "ns/pid").readlink() == here:
                    words = (place / "cmdline").read_bytes().replace(b"\0", b" ")
                    waits = (place / "wchan").read_text("ascii")
                    found.append(f"{waits:<28} {words.decode(errors='replace')}")
        return "\n".join(found)

    def file(self, path: str) -> Path:
        """A file of the machine, seen from outside; not below a bind."""
        return self.root / path.lstrip("/")

    def console(self) -> str:
        """The end of what it showed on its screen."""
        return (self.root.parent / "console.log").read_text(errors="replace")[-3000:]

    def wait(self, true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Until something is so; else fail with what the service said meanwhile."""
        until = time.monotonic() + seconds
        while not true():
            if time.monotonic() > until:
                words = ("journalctl", "--unit=fep", "--lines=40", "--no-pager")
                said = self.run(*words, check=False) if self._leader() else ""
                raise AssertionError(f"waited {seconds} s for {what}\n{said}")
            time.sleep(0.1)
