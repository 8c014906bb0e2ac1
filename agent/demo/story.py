# SPDX-License-Identifier: Apache-2.0
"""What happens in the demonstration, in order.

The department is built, the exchange and the agent are started as processes, every
resource that may leave is pulled until its receipts say ``loaded``, one batch is
altered on its way, and source and centre are counted apart: the source by a worker that
reads it again, the centre by a reconcile reply that the exchange signs. Then another
department asks twice, and at the end the audit log is taken away and checked alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agent.demo import asking, department, documents, site
from agent.demo.acts import Acts
from agent.demo.report import Report
from agent.demo.screen import Watch
from agent.demo.site import Site
from agent.errors import InternalFault, Text

STEPS: Mapping[str, Text] = {
    "build": Text("Building the department", "生成样例部门数据"),
    "exchange": Text("Starting the exchange", "启动交换中心沙箱"),
    "enrol": Text("Enrolling", "注册前置机"),
    "agent": Text("Starting the agent", "启动代理"),
    "push": Text("Reading, checking, sending", "读取、检查、发送"),
    "tamper": Text("Altering a batch on its way", "篡改传输中的批次"),
    "prove": Text("Counting both sides", "两端对账"),
    "ask": Text("Another department asks", "其他部门联机查询"),
    "check": Text("Checking the audit log offline", "离线验证审计日志"),
}
"""What is done, in order."""


@contextmanager
def told(folder: Path, *, rows: int, watch: Watch) -> Iterator[tuple[Report, Site]]:
    """Do everything and give the report; the processes run until the block ends.

    Args:
        folder: work folder, used again if it fits.
        rows: persons of the department.
        watch: is shown what goes on.

    Raises:
        FepError: a step could not be done.
    """
    clock = _Clock(watch)
    with ExitStack() as stack:
        place, reused = stack.enter_context(site.claimed(folder, rows=rows))
        if not reused:
            clock.step("build")
            department.build(place.source, rows=rows)
        clock.step("exchange")
        exchange = stack.enter_context(site.sandbox(place))
        documents.write(place, exchange)
        clock.step("enrol")
        _enrol(place)
        clock.step("agent")
        acts = Acts(place, exchange, stack.enter_context(site.daemon(place)))
        clock.step("push")
        runs = acts.push(watch)
        clock.step("tamper")
        tampering = acts.tamper(watch)
        runs[tampering.resource] = tampering.run
        clock.step("prove")
        pushed = acts.prove(runs)
        clock.step("ask")
        asking.activate(place)
        asked = asking.ask_both(place)
        clock.step("check")
        log = asking.check_log(place)
        report = Report(
            folder=str(place.folder),
            rows=rows,
            reused=reused,
            pushed=pushed,
            kept=acts.refused(),
            tampered=tampering.tampered,
            after_tamper="loaded" if tampering.run["delivered"] else "waiting",
            asked=asked,
            log=log,
            ms=clock.done(),
        )
        site.complete(place)
        yield report, place


class _Clock:
    """Names the steps and measures them."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        self._began: list[tuple[str, float]] = []

    def step(self, name: str) -> None:
        """A step begins, the one before has ended."""
        self._began.append((name, time.monotonic()))
        self._watch.step(STEPS[name])

    def done(self) -> dict[str, int]:
        """Step -> milliseconds."""
        ends = [at for _, at in self._began[1:]] + [time.monotonic()]
        return {
            name: round((end - at) * 1000)
            for (name, at), end in zip(self._began, ends, strict=True)
        }


def _enrol(place: Site) -> None:
    log = place.folder / "enrol.log"
    command = ["-c", site.FEP, "enrol", "--config", str(place.config)]
    with site.process(command, log=log) as child:
        if child.wait(site.START_S):
            raise InternalFault(f"enrolment ended with {child.returncode}; see {log}")
