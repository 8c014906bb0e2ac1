# SPDX-License-Identifier: Apache-2.0
"""``command`` and ``commands``: what a person at the exchange orders of a node."""

from __future__ import annotations

import argparse
import json
import sys

from agent.errors import UsageFault
from agent.wire.command import COMMANDS, OF_A_RESOURCE
from sandbox.admin_client import ask

STATUS = {
    "waiting": "等待",
    "over": "过期",
    "done": "完成",
    "refused": "拒绝",
    "failed": "失败",
}
"""What may have become of a command, in the words of both languages."""


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Beside the other commands at a running exchange."""
    found = commands.add_parser("command", help="order something of a node, once")
    found.add_argument("node", metavar="NODE")
    found.add_argument("cmd", choices=COMMANDS)
    found.add_argument("resource", nargs="?", metavar="RESOURCE")
    found.set_defaults(command=_order)
    found = commands.add_parser("commands", help="what was ordered, and its results")
    found.add_argument("--node", default="", help="those whose name begins so")
    found.add_argument("--json", action="store_true", help="one JSON document")
    found.set_defaults(command=_show)


def _order(args: argparse.Namespace) -> None:
    """Have a command made; print its id.

    Raises:
        UsageFault: there is no such node, or a resource is missing or too much.
        ExchangeUnreachable: no exchange serves this folder.
    """
    if (args.resource is not None) != (args.cmd in OF_A_RESOURCE):
        which = " and ".join(sorted(OF_A_RESOURCE))
        raise UsageFault(f"{args.cmd}: RESOURCE goes with {which}, and with no other")
    body = {"node": args.node, "cmd": args.cmd, "resource": args.resource}
    sys.stdout.write(ask(args.dir, "POST", "/commands", body)["jti"] + "\n")


def _show(args: argparse.Namespace) -> None:
    found = [
        entry
        for entry in ask(args.dir, "GET", "/commands")["commands"]
        if entry["node"].startswith(args.node)
    ]
    if args.json:
        sys.stdout.write(json.dumps({"commands": found}) + "\n")
        return
    for entry in found:
        words = (entry["at"], entry["node"], entry["cmd"], entry["resource"])
        stands = f"{entry['status']} {STATUS[entry['status']]}"
        bundle = f"bundles/{entry['jti']}.zip" if entry["bundle"] else None
        more = (stands, entry["code"], entry["answered"], bundle)
        sys.stdout.write("  ".join(w for w in (*words, *more) if w) + "\n")
