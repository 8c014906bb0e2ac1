# SPDX-License-Identifier: Apache-2.0
"""``python -m sandbox``: a small real exchange, for trying out, demo and tests.

``python -m sandbox --dir FOLDER nodes`` shows how the nodes of a running one stand.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from dataclasses import replace
from pathlib import Path

from agent.errors import FepError, UsageFault
from sandbox import orders, people, view
from sandbox.app import serve
from sandbox.options import Options


def main(argv: list[str] | None = None) -> int:
    """Run the exchange, or a command of people; exit code 78 for settings."""
    logging.basicConfig(level=logging.WARNING, format="sandbox: %(message)s")
    try:
        args = _parser().parse_args(argv)
        if args.command is not None:
            return int(args.command(args) or 0)
        options = _options(args)
        asyncio.run(serve(options, ready=_say))
    except FepError as e:
        sys.stderr.write(f"{e}\n{e.remedy.en}\n")
        return e.exit_code
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where all is kept")
    parser.add_argument("--listen", help="HOST:PORT, port 0 takes a free one")
    parser.add_argument("--aud", help="id of the exchange")
    parser.add_argument(
        "--no-load", action="store_true", help="batches become stored, not loaded"
    )
    parser.add_argument("--config", type=Path, help="TOML file, see sandbox/options.py")
    parser.add_argument(
        "--approve-all",
        action="store_true",
        help="let every machine in at once, without code and person",
    )
    parser.add_argument(
        "--tuf", type=Path, help="serve this published TUF repository, and say the same"
    )
    parser.set_defaults(command=None)
    commands = parser.add_subparsers(title="at a running exchange", metavar="COMMAND")
    people.add_commands(commands)
    view.add_command(commands)
    orders.add_commands(commands)
    return parser


def _options(args: argparse.Namespace) -> Options:
    options = Options(args.dir)
    if args.config:
        options = options.with_file(args.config)
    if args.listen:
        host, colon, port = args.listen.rpartition(":")
        if not colon or not port.isdigit() or int(port) > 65_535:
            raise UsageFault(f"--listen: expected HOST:PORT, got {args.listen}")
        options = replace(options, host=host.strip("[]"), port=int(port))
    if args.aud:
        options = replace(options, aud=args.aud)
    if args.tuf:
        options = replace(options, tuf=str(args.tuf))
    return replace(
        options,
        load=options.load and not args.no_load,
        approve_all=options.approve_all or args.approve_all,
    )


if __name__ == "__main__":
    raise SystemExit(main())
