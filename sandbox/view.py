# SPDX-License-Identifier: Apache-2.0
"""``nodes``: how the nodes stand, for a person at the exchange."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import Any

from agent.errors import UsageFault
from sandbox.admin_client import ask

STANDS = {
    "healthy": "正常",
    "stuck": "受阻",
    "late": "失联",
    "silent": "未上报",
    "doubted": "疑似克隆",
}
"""How a node may stand, in the words of both languages."""


def add_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """``nodes``, beside the other commands at a running exchange."""
    found = commands.add_parser("nodes", help="how nodes stand; exit 1: not all well")
    found.add_argument("--only", help=f"with commas: {', '.join(STANDS)}")
    found.add_argument("--node", default="", help="those whose name begins so")
    found.add_argument("--json", action="store_true", help="one JSON document")
    found.set_defaults(command=_show)


def _show(args: argparse.Namespace) -> int:
    """Print the nodes; 0 if all that are shown are healthy, 1 if one is not.

    Raises:
        UsageFault: there is no such state.
        ExchangeUnreachable: no exchange serves this folder.
    """
    wanted = set(STANDS) if args.only is None else set(args.only.split(","))
    if unknown := wanted - STANDS.keys():
        raise UsageFault(f"--only: expected {', '.join(STANDS)}, got {min(unknown)}")
    found = [
        entry
        for entry in ask(args.dir, "GET", "/nodes")["nodes"]
        if entry["stands"] in wanted and entry["node"].startswith(args.node)
    ]
    if args.json:
        sys.stdout.write(json.dumps({"nodes": found}, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in lines(found))
    return 0 if all(entry["stands"] == "healthy" for entry in found) else 1


def lines(nodes: Iterable[dict[str, Any]]) -> Iterable[str]:
    """One line a node, and below it why it is not healthy."""
    for entry in nodes:
        beat = entry["beat"]
        head = f"{entry['node']}  {entry['stands']} {STANDS[entry['stands']]}"
        if beat is None:
            yield head
        else:
            yield (
                f"{head}  {beat['agent']}  at {entry['at']}"
                f"  clock {entry['clock_offset_s']:+d} s"
                f"  certificate {beat['certificate_days']} d"
                f"  streams {beat['totals']['streams']}"
                f"  waiting {beat['totals']['batches']}"
            )
            yield from (f"    {why}" for why in _why(beat))
        if (doubt := entry["doubt"]) is not None:
            yield (
                f"    {doubt['kind']} since {doubt['since']}, {doubt['times']} times:"
                f" incarnation {doubt['incarnation']}"
            )


def _why(beat: dict[str, Any]) -> Iterable[str]:
    for stream in beat["worst"]:
        if stream["code"] is not None:
            yield f"{stream['resource']} {stream['code']} since {stream['since']}"
    if beat["spool"]["blocked"]:
        yield "spool blocked"
    yield from beat["troubles"]
