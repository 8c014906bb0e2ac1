# SPDX-License-Identifier: Apache-2.0
"""What people of the centre type: codes, approvals, requests that come as files.

Each command asks the running exchange at its admin socket.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from agent.errors import UsageFault
from agent.wire.enrolment_file import REQUEST_CAP
from sandbox.admin_client import ask

_RULE = "-" * 72


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """The commands behind the options of ``python -m sandbox``.

    A command raises UsageFault if a file cannot be read or written or the exchange says
    why not, and ExchangeUnreachable if none serves this folder.
    """
    found = commands.add_parser("codes", help="make one-time codes, print their slips")
    found.add_argument("nodes", nargs="*", metavar="NODE", help="<USCC>/<name>")
    found.add_argument("--nodes-file", type=Path, help="one node a line, # comments")
    found.add_argument(
        "--hours", type=int, default=72, help="how long they may be used"
    )
    found.add_argument("--json", action="store_true", help="one JSON document")
    found.add_argument("-o", "--out", type=Path, help="a new file, mode 0600")
    found.set_defaults(command=_codes)
    found = commands.add_parser("pending", help="requests that wait for approval")
    found.set_defaults(command=_pending)
    for name, what in (
        ("approve", "let a machine in; its fingerprint was compared"),
        ("deny", "never let this request in"),
    ):
        found = commands.add_parser(name, help=what)
        found.add_argument("node", metavar="NODE")
        found.add_argument("said", nargs="+", metavar="FINGERPRINT", help=_SAID)
        found.set_defaults(command=_decide, name=name)
    found = commands.add_parser("issue", help="answer a request that came as a file")
    found.add_argument("request", type=Path, metavar="REQUEST")
    found.add_argument("out", type=Path, metavar="REPLY", help="a new file")
    found.add_argument("said", nargs="*", metavar="FINGERPRINT", help=_SAID)
    found.set_defaults(command=_issue)
    found = commands.add_parser("alarms", help="what somebody should look into")
    found.set_defaults(command=_alarms)


_SAID = "as the clerk reads it: eight words, or sha256:..., or what the QR code holds"


def _codes(args: argparse.Namespace) -> None:
    nodes = [*args.nodes, *_lines(args.nodes_file)]
    body = ask(args.dir, "POST", "/codes", {"nodes": nodes, "hours": args.hours})
    if args.json:
        text = json.dumps(body, ensure_ascii=False, indent=2) + "\n"
    else:
        text = "".join(_slip(slip) for slip in body["slips"])
    if args.out is None:
        sys.stdout.write(text)
    else:
        _write(args.out, text.encode())


def _slip(slip: dict[str, str]) -> str:
    """What one department gets, on a sheet of its own."""
    return f"""{_RULE}
FEP 注册凭条 · enrolment slip
请勿转交他人；注册码仅能使用一次。 · For this department alone; the code works once.

[agent]
node = "{slip["node"]}"

[exchange]
aud = "{slip["aud"]}"
url = "{slip["url"]}"
ca_sha256 = "{slip["ca_sha256"]}"
kid = "{slip["kid"]}"{_root(slip)}

注册码 · code          {slip["code"]}
有效期至 · until       {slip["expires"]}

核对以上各项后执行 · having copied the settings: fep enrol
再由电话向中心报读所示 8 个字。 · Then read its eight words to central ops.
\f"""


def _root(slip: dict[str, str]) -> str:
    pin = slip.get("tuf_root_sha256")
    return "" if pin is None else f'\ntuf_root_sha256 = "{pin}"'


def _pending(args: argparse.Namespace) -> None:
    found = ask(args.dir, "GET", "/pending")["pending"]
    if not found:
        _say("nothing waits")
    for entry in found:
        _say(f"{entry['node']}  code {entry['code']}, from {entry['address']}")
        _say(f"  since      {entry['since']}")
        _say(f"  中文       {' '.join(entry['words']['zh'])}")
        _say(f"  English    {' '.join(entry['words']['en'])}")
        _say(f"  statement  {entry['statement']}")


def _decide(args: argparse.Namespace) -> None:
    body = {"node": args.node, "said": " ".join(args.said)}
    ask(args.dir, "POST", f"/{args.name}", body)
    _say(f"{args.node}: {'approved' if args.name == 'approve' else 'denied'}")


def _issue(args: argparse.Namespace) -> None:
    said = " ".join(args.said) or None
    text = _read(args.request)
    reply = ask(args.dir, "POST", "/issue", {"request": text, "said": said})
    _write(args.out, json.dumps(reply, indent=1).encode() + b"\n")
    _say(f"{args.out}: carry it back, then `fep enrol --import` there")


def _alarms(args: argparse.Namespace) -> None:
    found = ask(args.dir, "GET", "/alarms")["alarms"]
    if not found:
        _say("no alarms")
    for entry in found:
        times = "" if entry["count"] == 1 else f" ({entry['count']} times)"
        _say(f"{entry['last']}  {entry['kind']}: {entry['detail']}{times}")


# --- files ----------------------------------------------------------------------


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def _lines(path: Path | None) -> list[str]:
    if path is None:
        return []
    lines = (line.partition("#")[0].strip() for line in _read(path).splitlines())
    return [line for line in lines if line]


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(REQUEST_CAP + 1)
        if len(data) > REQUEST_CAP:
            raise UsageFault(f"{path}: expected at most {REQUEST_CAP} bytes")
        return data.decode()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageFault(f"{path}: {e}") from e


def _write(path: Path, data: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(data)
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from e
