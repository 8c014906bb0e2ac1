# SPDX-License-Identifier: Apache-2.0
"""``python -m sandbox.consumer``: enrol a department that asks, and ask.

::

    python -m sandbox.consumer --dir D --exchange E/sandbox.json enrol --node NODE
    python -m sandbox.consumer --dir D --exchange E/sandbox.json ask < request.json

An exchange that wants a one-time code gets it with ``enrol --code-file FILE``; the
program then waits until a person at the centre has approved, who compares the digest
that it prints on standard error.

``ask`` in two halves, for who carries the sealed texts with a program of his own::

    … seal --save request.jws request.json > request.jwe
    … open --request request.jws reply.jwe

``request.json`` has the members of a request besides ``v``, ``iss``, ``jti``, ``iat``
and ``exp``, which may stand there too; ``aud`` defaults to the resource's owner. What
is asked is personal, so it comes from a file or standard input, never on the command
line. The answer is printed as one JSON line: the signed reply's members, or
``{"problem": ...}`` with exit code 1 if no signed reply came. ``seal`` prints the
sealed text alone, without a line's end.
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
from agent.wire.enrolment import TEXT_CAP, Code
from agent.wire.lookup import REPLY_CAP, REQUEST_CAP, parse_request
from sandbox.consumer.client import Consumer, Heard, Question, clock
from sandbox.consumer.home import Home, Target
from sandbox.consumer.line import Refusal, connected, enrol


def main(argv: list[str] | None = None) -> int:
    """Run one command; 0, or 1 and more for a fault."""
    args = _parser().parse_args(argv)
    try:
        text = asyncio.run(args.command(args))
    except Refusal as e:
        text, code = _line({"problem": e.problem.as_object()}), 1
    except FepError as e:
        sys.stderr.write(f"{e}\n{e.remedy.en}\n")
        return e.exit_code
    else:
        code = 0
    sys.stdout.write(text)
    return code


def _line(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False) + "\n"


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
    found.add_argument("--code-file", help="one-time code; - standard input")
    found.set_defaults(command=_enrol)
    found = commands.add_parser("ask", help="send one request, check its answer")
    found.add_argument("file", nargs="?", default="-", help="JSON; - standard input")
    found.add_argument(
        "--save", type=Path, help="keep the signed reply here, FILE.request beside it"
    )
    found.set_defaults(command=_ask)
    found = commands.add_parser("seal", help="sign and seal one request, send nothing")
    found.add_argument("file", nargs="?", default="-", help="JSON; - standard input")
    found.add_argument(
        "--save", type=Path, required=True, help="keep the signed request here"
    )
    found.set_defaults(command=_seal)
    found = commands.add_parser("open", help="open a sealed reply, check it")
    found.add_argument("file", nargs="?", default="-", help="JWE; - standard input")
    found.add_argument("--request", type=Path, required=True, help="what seal has kept")
    found.add_argument("--save", type=Path, help="keep the signed reply here")
    found.set_defaults(command=_open)
    return parser


async def _enrol(args: argparse.Namespace) -> str:
    target = Target.of_file(args.exchange)
    code = None
    if args.code_file is not None:
        read = await asyncio.to_thread(_read, args.code_file, TEXT_CAP)
        code = Code.parse(_text(read))
    statement = await enrol(
        Home(args.dir), target, args.node, now=clock(), code=code, waits=_waits
    )
    return _line({"node": args.node, "statement": message_digest(statement)})


def _waits(digest: str) -> None:
    sys.stderr.write(f"waiting for approval: {digest}\n")
    sys.stderr.flush()


async def _ask(args: argparse.Namespace) -> str:
    body = strict.loads(await asyncio.to_thread(_read, args.file, REQUEST_CAP))
    home = Home(args.dir)
    home.node()  # nobody asks before enrolling
    async with connected(home, Target.of_file(args.exchange)) as line:
        consumer = await line.consumer(home)
        question = consumer.build(consumer.request(body))
        heard = await line.ask(consumer, question)
    if args.save:
        _save(args.save.with_name(args.save.name + ".request"), question.jws)
        _save(args.save, heard.jws)
    return _said(heard)


async def _seal(args: argparse.Namespace) -> str:
    body = strict.loads(await asyncio.to_thread(_read, args.file, REQUEST_CAP))
    consumer = await _consumer(args)
    question = consumer.build(consumer.request(body))
    _save(args.save, question.jws)
    return question.jwe


async def _open(args: argparse.Namespace) -> str:
    sealed = _text(await asyncio.to_thread(_read, args.file, REPLY_CAP))
    jws = _text(await asyncio.to_thread(_read, str(args.request), REQUEST_CAP))
    request = parse_request(split(jws, cap=REQUEST_CAP).payload)
    consumer = await _consumer(args)
    heard = consumer.open(sealed, Question(request, jws, ""))
    if args.save:
        _save(args.save, heard.jws)
    return _said(heard)


async def _consumer(args: argparse.Namespace) -> Consumer:
    """Who asks, with the directory of now."""
    home = Home(args.dir)
    home.node()  # nobody asks before enrolling
    async with connected(home, Target.of_file(args.exchange)) as line:
        return await line.consumer(home)


def _said(heard: Heard) -> str:
    """The members of a reply."""
    reply: dict[str, Any] = strict.loads(split(heard.jws, cap=REPLY_CAP).payload)
    return _line(reply)


def _read(name: str, cap: int) -> bytes:
    """A file, or standard input; one byte more than fits at most."""
    if name == "-":
        return sys.stdin.buffer.read(cap + 1)
    with Path(name).open("rb") as file:
        return file.read(cap + 1)


def _text(data: bytes) -> str:
    """A compact message; what is not ASCII is refused by whoever reads it."""
    return data.decode("ascii", "replace").strip()


def _save(path: Path, text: str) -> None:
    """Evidence for its owner alone."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(text)


if __name__ == "__main__":
    raise SystemExit(main())
