# SPDX-License-Identifier: Apache-2.0
"""Waiting for a run, with a line on its progress for who looks at a terminal."""

from __future__ import annotations

import sys
from typing import Any

from agent.cli.common.context import Asked
from agent.local.client import LocalClient
from agent.model.batch import ANY_NUMBER

POLL_S = 20
"""Seconds for which the daemon may hold one question about a run."""
LOOK_S = 2
"""The same where its progress is shown meanwhile."""


def ended(ask: Asked, client: LocalClient, run: str, resource: str) -> dict[str, Any]:
    """The report of a run, once it is loaded or will never be."""
    shows = sys.stderr.isatty() and not ask.json
    wait_s = LOOK_S if shows else POLL_S
    query = {"run": run, "wait_s": wait_s, "delivered": "true"}
    while True:
        body: dict[str, Any] = client.get("/v1/run", query)
        if body["state"] != "running":
            return body
        if shows:
            _show(ask, client.get("/v1/status", {"resource": resource}))


def _show(ask: Asked, status: dict[str, Any]) -> None:
    (found,) = status["resources"]
    if found["progress"] is not None:
        from agent.cli.common.render import progress

        print(progress(ask, found["progress"]), file=sys.stderr)


def confirmed(ask: Asked, number: int) -> str:
    """How many deletes were confirmed, for people."""
    if number == ANY_NUMBER:
        return ask.say(
            "Deletes are confirmed without a limit, for this run only: the exchange"
            " did not say how many.",
            "已确认删除，仅限本次任务，不限数量（中心未告知数量）。",
        )
    return ask.say(
        f"Confirmed: at most {number:,} keys may go.",
        f"已确认：至多删除 {number:,} 个主键。",
    )


def shown(ask: Asked, body: dict[str, Any]) -> None:
    """A run that was asked for or, if somebody waited for it, its report."""
    if ask.json:
        ask.print_json(body)
    elif "state" in body:
        from agent.cli.common.render import show_run

        show_run(ask, body)
    else:
        print(ask.say(f"Run {body['run']} is queued.", f"任务 {body['run']} 已排队。"))
