# SPDX-License-Identifier: Apache-2.0
"""A centre that publishes configuration for agents of a sandbox, key by key its own.

The exchange serves its repository, and tells the agents when it changes.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.central.own import OwnRepository
from agent.wire.repository import HALT_FILE, ROLLOUT_FILE, group_file, node_file
from agent.wire.rollout import halt_file
from tests.support.agent_process import NODE, AgentProcess
from tests.support.exchange_client import payload
from tests.support.sandbox_process import SandboxProcess

WAIT_S = 60.0
CEILING = """\
[central]
allow = ["schedule", "limits", "uplink", "push", "exchange", "spool", "log", "off"]
endpoints = [{endpoints}]
"""
PINNED = """\
tuf_root_sha256 = "{root}"
probation_s = {probation_s}
heartbeat_s = 1.0
"""


class Centre:
    """Publishes, and sees what agents tell.

    Args:
        folder: where the repository lies.
        sandbox: the exchange.
    """

    def __init__(self, folder: Path, sandbox: SandboxProcess) -> None:
        self.sandbox = sandbox
        self.own = OwnRepository.at(folder)
        self.own.begin(datetime.now(UTC))

    def join(
        self,
        agent: AgentProcess,
        *,
        probation_s: float = 600.0,
        endpoints: tuple[str, ...] = (),
    ) -> None:
        """An enrolled agent listens to this centre from its next start on."""
        text = agent.config.read_text("utf-8")
        pinned = PINNED.format(
            root=self.own.root_sha256,
            probation_s=probation_s,
        )
        agent.config.write_text(text.replace("retry_base_s", pinned + "retry_base_s"))
        names = ", ".join(f'"{url}"' for url in endpoints)
        ceiling = agent.folder / "ceiling.toml"
        ceiling.write_text(CEILING.format(endpoints=names))
        ceiling.chmod(0o644)
        self.vouch(agent)
        self._serve()

    def _serve(self) -> None:
        """Have the exchange serve the repository, if it does not yet."""
        serving = ("--tuf", str(self.own.workspace.published))
        if serving[0] not in self.sandbox.args:
            self.sandbox.stop()
            self.sandbox.args = (*self.sandbox.args, *serving)
            self.sandbox.start()

    def vouch(self, agent: AgentProcess) -> None:
        """Sign the directory as the exchange has it."""
        text = (agent.folder / "state" / "directory.jws").read_text("ascii")
        files = payload(text)["files"]
        del files["revoked.json"]
        self.put({path: json.dumps(body).encode() for path, body in files.items()})

    def put(self, files: dict[str, bytes]) -> None:
        """Files go live, and everybody is told to look."""
        self.own.put(files, datetime.now(UTC))
        self.nudge()

    def nudge(self) -> None:
        """Everybody looks; one that is not connected does when it comes."""
        self.sandbox.ask("POST", "/nudge", {})

    def want(
        self,
        generation: int,
        node: str = NODE,
        *,
        off: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        """What one node shall do."""
        body = {"v": 1, "generation": generation, "settings": settings, "off": off}
        self.put({node_file(node): json.dumps(body).encode()})

    def group(self, generation: int, name: str, **settings: Any) -> None:
        """What the nodes of a group shall do."""
        body = {"v": 1, "generation": generation, "settings": settings}
        self.put({group_file(name): json.dumps(body).encode()})

    def halt(self, *generations: int) -> None:
        """Stop these."""
        self.put({HALT_FILE: halt_file(generations)})

    def rollout(self, generation: int, start: datetime) -> None:
        """One ring of everybody."""
        start = start.replace(microsecond=0)
        ring = {"name": "all", "start": f"{start:%Y-%m-%dT%H:%M:%SZ}", "nodes": ["*"]}
        body = {"v": 1, "generation": generation, "rings": [ring]}
        self.put({ROLLOUT_FILE: json.dumps(body).encode()})

    def seen(
        self, wanted: Callable[[dict[str, Any]], bool], node: str = NODE
    ) -> dict[str, Any]:
        """``config`` of a node's newest heartbeat, once it is as wanted."""
        until = time.monotonic() + WAIT_S
        found: dict[str, Any] | None = None
        while time.monotonic() < until:
            for entry in self.sandbox.ask("GET", "/nodes")["nodes"]:
                if entry["node"] == node and entry["beat"] is not None:
                    found = entry["beat"]["config"]
                    if wanted(found):
                        return found
            time.sleep(0.1)
        raise AssertionError(found)


def shown(
    agent: AgentProcess, wanted: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """What the agent shows of its configuration, once it is as wanted."""
    until = time.monotonic() + WAIT_S
    while True:
        found: dict[str, Any] = agent.ask("/v1/config")
        if wanted(found):
            return found
        assert time.monotonic() < until, (found, agent.tail())
        time.sleep(0.1)


def running(agent: AgentProcess, generation: int) -> dict[str, Any]:
    """The same, once an overlay of this generation runs; 0: none."""
    none = {"generation": 0}
    return shown(agent, lambda v: (v["running"] or none)["generation"] == generation)


class SecondAddress:
    """Another address of an exchange, which can be cut for good.

    Args:
        onward: host and port of the exchange.
    """

    def __init__(self, onward: tuple[str, int]) -> None:
        self._onward = onward
        self._server = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.url = f"https://127.0.0.1:{self._server.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                taken, _ = self._server.accept()
                onward = socket.create_connection(self._onward)
                self._open += (taken, onward)
                for way in ((taken, onward), (onward, taken)):
                    threading.Thread(target=_pump, args=way, daemon=True).start()

    def cut(self) -> None:
        """Nobody is answered here any more."""
        for one in (self._server, *self._open):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        self._thread.join(WAIT_S)
        for one in (self._server, *self._open):
            one.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def second_address(sandbox: SandboxProcess) -> Iterator[SecondAddress]:
    """Another address of the exchange, until the block ends."""
    found = SecondAddress(sandbox.address)
    try:
        yield found
    finally:
        found.cut()
