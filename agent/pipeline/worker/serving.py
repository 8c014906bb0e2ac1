# SPDX-License-Identifier: Apache-2.0
"""The edge of a worker process: the one job that comes through its socket."""

from __future__ import annotations

import contextlib
import socket
from functools import cache

from agent.child.heap import settle_heap
from agent.child.inside import DaemonGone, Lines, give_way, settle
from agent.errors import InternalFault
from agent.model.job import Job, Prepare, Progress, decode, encode
from agent.pipeline.worker.run import Run, Tools
from agent.pipeline.worker.sieve import QualitySieve
from agent.registry import find
from connectors.contract import offers_preparing


def serve(sock: socket.socket, tools: Tools) -> int:
    """Do the one job that comes through a socket.

    Returns:
        The exit code: 0 once the last message is sent, 3 if the daemon is gone.
    """
    lines = Lines(sock)
    try:
        job = decode(lines.receive())
        if isinstance(job, Prepare):
            prepare(job.connector, tools)
            job = decode(lines.receive())
        if not isinstance(job, Job):
            raise InternalFault(f"expected a job, got {type(job).__name__}")
        # what ends the worker from now on is its driver's
        lines.send(encode(Progress(0, None)))
        Run(
            job,
            tell=lambda message: lines.send(encode(message)),
            hear=lambda: decode(lines.receive()),
            tools=tools,
        ).go()
    except DaemonGone:
        return 3
    return 0


def prepare(connector: str, tools: Tools) -> None:
    """Import what a run with this connector needs; what fails here fails the run."""
    with contextlib.suppress(Exception):
        found = tools.find(connector)
        if offers_preparing(found):
            found.prepare()
    settle_heap()


def main(argv: list[str]) -> int:
    """Serve the job that comes through descriptor ``argv[1]``."""
    settle()
    give_way()
    with socket.socket(fileno=int(argv[1])) as sock:
        # found once: looking through what is installed takes longer than to prepare
        return serve(sock, Tools(find=cache(find), sieve=QualitySieve))
