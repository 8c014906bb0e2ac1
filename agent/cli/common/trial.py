# SPDX-License-Identifier: Apache-2.0
"""Running the conformance suite in a process of its own, which it may take with it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.errors import UsageFault

TRIAL = (sys.executable, "-m", "connectors.trial")
"""How it starts; the module follows."""

START_S = 60.0
"""Longest time in which the module is imported and its database made."""

LINE_CAP = 1 << 20
"""Longest line that it may say, bytes."""


@dataclass
class Result:
    """What became of the suite.

    Attributes:
        connector: its name.
        rules: each with ``rule``, ``says``, ``ok``, ``seconds`` and ``detail``.
        left_out: suite -> why it was not run.
    """

    connector: str = ""
    rules: list[dict[str, Any]] = field(default_factory=list)
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether every rule holds."""
        return bool(self.rules) and all(rule["ok"] for rule in self.rules)


async def trial(module: str, config: Mapping[str, Any], *, rule_s: float) -> Result:
    """Run the suite over what a module wants to be tried.

    Args:
        module: its name, or a file ``….py``.
        config: for its ``subject``; goes through a pipe.
        rule_s: longest time of a rule.

    Raises:
        UsageFault: the module has nothing to try.
    """
    process = await asyncio.create_subprocess_exec(
        *TRIAL, module, stdin=PIPE, stdout=PIPE, limit=LINE_CAP
    )
    try:
        return await _heard(process, config, rule_s)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _heard(process: Process, config: Mapping[str, Any], rule_s: float) -> Result:
    stdin, stdout = process.stdin, process.stdout
    if stdin is None or stdout is None:
        raise RuntimeError("the process was started with pipes")
    stdin.write(json.dumps(config, default=str).encode())
    stdin.close()
    result, says, begun = Result(), dict[str, str](), ""
    while True:
        wait_s = rule_s if says else max(rule_s, START_S)
        try:
            line = json.loads(await asyncio.wait_for(stdout.readline(), wait_s) or "{}")
        except TimeoutError:
            process.kill()
            if not says:
                raise UsageFault(f"the module says nothing for {wait_s:g} s") from None
            line = {"rule": begun, "detail": f"not done after {rule_s:g} s"}
        match line:
            case {"unfit": str(why)}:
                raise UsageFault(why)
            case {"connector": str(name), "rules": list(rules), "left_out": dict(left)}:
                says = {one["rule"]: one["says"] for one in rules}
                result.connector, result.left_out = name, left
            case {"begun": str(rule)}:
                begun = rule
            case {"rule": str(rule), "detail": detail}:
                seconds = line.get("seconds", rule_s)
                result.rules.append(_rule(rule, says, seconds, detail))
                begun = ""
            case {"end": True}:
                return result
            case _:
                return _cut(result, says, begun, await process.wait())


def _cut(result: Result, says: Mapping[str, str], begun: str, code: int) -> Result:
    """The process is gone before its end: the rule that was tried is broken."""
    if begun:
        how = f"exit code {code}"
        if code < 0:
            how = f"ended by {signal.Signals(-code).name}"
        result.rules.append(_rule(begun, says, 0.0, f"the process died: {how}"))
    elif not says:
        raise UsageFault(f"the module ended the process, exit code {code}")
    tried = {rule["rule"] for rule in result.rules}
    for rule in says:
        if rule not in tried:
            result.rules.append(_rule(rule, says, 0.0, "not tried"))
    return result


def _rule(
    rule: str, says: Mapping[str, str], seconds: float, detail: str | None
) -> dict[str, Any]:
    return {
        "rule": rule,
        "says": says.get(rule, ""),
        "ok": detail is None,
        "seconds": seconds,
        "detail": detail,
    }
