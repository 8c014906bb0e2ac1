# SPDX-License-Identifier: Apache-2.0
"""``publish`` and ``halt``: configuration, at an exchange with ``--central``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from sandbox.admin_client import ask


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands beside the others at a running exchange.

    A command raises UsageFault if the exchange says why not, and ExchangeUnreachable if
    none serves this folder.
    """
    found = commands.add_parser("publish", help="documents of a folder go live")
    found.add_argument("folder", type=Path, metavar="FOLDER")
    found.set_defaults(command=_publish)
    found = commands.add_parser("halt", help="nobody takes a generation any more")
    found.add_argument("generation", type=int, metavar="GENERATION")
    found.set_defaults(command=_halt)


def _publish(args: argparse.Namespace) -> None:
    body = {"folder": str(args.folder.absolute())}
    found = ask(args.dir, "POST", "/publish", body)
    sys.stdout.write("published\n" if found["changed"] else "nothing changed\n")


def _halt(args: argparse.Namespace) -> None:
    ask(args.dir, "POST", "/halt", {"generation": args.generation})
    sys.stdout.write(f"{args.generation}: stopped\n")
