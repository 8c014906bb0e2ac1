# SPDX-License-Identifier: Apache-2.0
"""``python -m sandbox.consumer``: enrol a department that asks, and ask.

::

    python -m sandbox.consumer --dir D --exchange E/sandbox.json enrol --node NODE
    python -m sandbox.consumer --dir D --exchange E/sandbox.json ask < request.json

``request.json`` has the members of a request besides ``v``, ``iss``, ``jti``, ``iat``
and ``exp``, which may stand there too; ``aud`` defaults to the resource's owner. What
is asked is personal, so it comes from a file or standard input, never on the command
line. The answer is printed as one JSON line: the signed reply's members, or
``{"problem": ...}`` with exit code 1 if no signed reply came.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from agent.crypto.jose import message_digest, split
from agent.errors import FepError
from agent.wire import strict
from agent.wire.lookup import REPLY_CAP, REQUEST_CAP
from sandbox.consumer.client import clock
from sandbox.consumer.home import Home, Target
from sandbox.consumer.line import Refusal, connected, enrol


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 1 and more for a fault."""
    args = _parser().parse_args(argv)
    try:
        line = asyncio.run(args.command(args))
    except Refusal as e:
        line, code = {"problem": e.problem.as_object()}, 1
    except FepError as e:
        sys.stderr.write(f"{e}\n{e.remedy.en}\n")
        return e.exit_code
    else:
        code = 0
    sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.consumer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dir", type=Path, required=True, help="keys are kept here")
    parser.add_argument(
        "--exchange", type=Path, required=True, help="sandbox.json of the exchange"
    )
    commands = parser.add_subparsers(required=True)
    found = commands.add_parser("enrol", help="become a node of the exchange")
    found.add_argument("--node", required=True, help="<USCC>/<name>")
    found.set_defaults(command=_enrol)
    found = commands.add_parser("ask", help="send one request, check its answer")
    found.add_argument("file", nargs="?", default="-", help="JSON; - standard input")
    found.add_argument(
        "--save", type=Path, help="keep the signed reply here, FILE.request beside it"
    )
    found.set_defaults(command=_ask)
    return parser


async def _enrol(args: argparse.Namespace) -> dict[str, Any]:
    target = Target.of_file(args.exchange)
    statement = await enrol(Home(args.dir), target, args.node, now=clock())
    return {"node": args.node, "statement": message_digest(statement)}


async def _ask(args: argparse.Namespace) -> dict[str, Any]:
    body = strict.loads(await asyncio.to_thread(_read, args.file))
    home = Home(args.dir)
    home.node()  # nobody asks before enrolling
    async with connected(home, Target.of_file(args.exchange)) as line:
        consumer = await line.consumer(home)
        question = consumer.build(consumer.request(body))
        heard = await line.ask(consumer, question)
    if args.save:
        _save(args.save.with_name(args.save.name + ".request"), question.jws)
        _save(args.save, heard.jws)
    reply: dict[str, Any] = strict.loads(split(heard.jws, cap=REPLY_CAP).payload)
    return reply


def _read(name: str) -> bytes:
    if name == "-":
        return sys.stdin.buffer.read(REQUEST_CAP)
    with Path(name).open("rb") as file:
        return file.read(REQUEST_CAP)


def _save(path: Path, text: str) -> None:
    """Evidence for its owner alone."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    raise SystemExit(main())
