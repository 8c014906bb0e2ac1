# SPDX-License-Identifier: Apache-2.0
"""``fep enrol``."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.owner import act_as_owner

if TYPE_CHECKING:
    from agent.control.enrol import Enrolment
    from agent.control.enrol_line import Target
    from agent.control.identity import IdentityFiles
    from agent.settings import Settings
    from agent.wire.enrolment import Code
    from agent.wire.fingerprint import Fingerprint

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Make keys, get a certificate, become known to the exchange. Running it again"
        " goes on where it stopped. A machine without a line exports a request and"
        " imports the reply.",
        "生成密钥、申请证书并登记到交换中心；中断后可重新执行。无网络的机器先导出申请文件，"
        "再导入回复文件。",
    ),
    epilog=say(
        "Examples:  fep enrol  |  sudo fep enrol --code-file code.txt  |"
        "  fep enrol --export request.json  |  fep enrol --import reply.json",
        "示例：  fep enrol  |  sudo fep enrol --code-file code.txt  |"
        "  fep enrol --export request.json  |  fep enrol --import reply.json",
    ),
)
def enrol(
    ctx: typer.Context,
    code_file: Annotated[
        str | None,
        typer.Option(
            "--code-file",
            metavar="FILE",
            help=say(
                "File with the one-time code, - standard input. Without it a terminal"
                " is asked if the exchange wants one.",
                "存放一次性注册码的文件，- 为标准输入；未给出且中心要求时在终端询问。",
            ),
        ),
    ] = None,
    export_to: Annotated[
        Path | None,
        typer.Option(
            "--export",
            metavar="FILE",
            help=say("Write the request into a new file.", "将申请写入新文件。"),
        ),
    ] = None,
    import_from: Annotated[
        Path | None,
        typer.Option(
            "--import",
            metavar="FILE",
            help=say("Take the exchange's reply file.", "导入中心的回复文件。"),
        ),
    ] = None,
) -> None:
    """Become known to the exchange."""
    from agent import settings
    from agent.cli.common.enrolling import read_code
    from agent.control.identity import IdentityFiles
    from agent.errors import UsageFault

    ask = asked(ctx)
    if export_to and import_from:
        raise UsageFault("expected one of --export and --import")
    os.umask(0o077)  # the state folder may be made here, and it is nobody else's
    found = settings.load(ask.config, secrets=False)
    code = None if code_file is None else read_code(code_file)
    files = IdentityFiles(found.paths.state)
    if export_to is not None:
        _export(ask, export_to, _target(found), files, code)
    elif import_from is not None:
        _show(ask, _import(import_from, _target(found), files))
    else:
        act_as_owner(files.state)
        _show(ask, _online(ask, _target(found), files, code))


def _target(found: Settings) -> Target:
    from agent.control.enrol_line import Target

    exchange = found.exchange
    return Target(
        node=found.agent.node,
        url=exchange.url,
        aud=exchange.aud,
        ca_sha256=exchange.ca_sha256,
        kid=exchange.kid,
        clock_tolerance_s=exchange.clock_tolerance_s,
        connect_timeout_s=exchange.connect_timeout_s,
        read_timeout_s=exchange.read_timeout_s,
        proxy=None if exchange.proxy is None else exchange.proxy.now(),
    )


def _online(
    ask: Asked, target: Target, files: IdentityFiles, code: Code | None
) -> Enrolment:
    """Enrol; where the exchange wants a code, a person at a terminal is asked."""
    import asyncio
    from datetime import UTC, datetime

    from agent.cli.common.enrolling import Progress, ask_code
    from agent.control.enrol import enrol as do
    from agent.errors import CodeRefused

    progress = Progress(ask, target.node, files.statement(1))

    def run(code: Code | None) -> Enrolment:
        return asyncio.run(
            do(
                target,
                files,
                now=lambda: datetime.now(UTC),
                report=progress,
                code=code,
            )
        )

    try:
        return run(code)
    except CodeRefused:
        if code is not None or not sys.stdin.isatty():
            raise
    return run(ask_code(ask))


def _export(
    ask: Asked, path: Path, target: Target, files: IdentityFiles, code: Code | None
) -> None:
    from datetime import UTC, datetime

    from agent.cli.common.enrolling import NewFile, fingerprint_text
    from agent.control.enrol_file import export
    from agent.crypto.jose import message_digest
    from agent.wire.enrolment_file import parse_request
    from agent.wire.fingerprint import Fingerprint

    file = NewFile(path)
    try:
        act_as_owner(files.state)
        data = export(target, files, now=lambda: datetime.now(UTC), code=code)
    except BaseException:
        file.discard()
        raise
    file.write(data)
    found = Fingerprint(target.node, message_digest(parse_request(data).statements[0]))
    if ask.json:
        ask.print_json({"path": str(path), **_fingerprint(found)})
        return
    carry = "Carry {} to central ops, read them these words by telephone:"
    print(ask.say(carry, "请将 {} 送交中心，并电话报读以下文字：").format(path))
    print(fingerprint_text(found))


def _import(path: Path, target: Target, files: IdentityFiles) -> Enrolment:
    from datetime import UTC, datetime

    from agent.control.enrol_file import take
    from agent.errors import UsageFault
    from agent.wire.enrolment_file import REPLY_CAP

    try:
        with path.open("rb") as file:
            data = file.read(REPLY_CAP + 1)
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from e
    if len(data) > REPLY_CAP:
        raise UsageFault(f"{path}: expected at most {REPLY_CAP} bytes")
    act_as_owner(files.state)
    return take(data, target, files, now=lambda: datetime.now(UTC))


def _show(ask: Asked, done: Enrolment) -> None:
    from agent.cli.common.enrolling import fingerprint_text
    from agent.wire.fingerprint import Fingerprint
    from agent.wire.grammar import format_time

    found = Fingerprint(done.node, done.statement)
    if ask.json:
        body = {**asdict(done), "not_after": format_time(done.not_after)}
        ask.print_json({**body, **_fingerprint(found)})
        return
    print(ask.say(f"Enrolled as {done.node}.", f"已注册：{done.node}。"))
    print(ask.say(f"Key statement: {done.statement}", f"密钥声明：{done.statement}"))
    print(fingerprint_text(found))
    print(
        ask.say(
            "Compare it with the one that central ops see, then `systemctl start fep`.",
            "请与中心所见核对一致后执行 `systemctl start fep`。",
        )
    )


def _fingerprint(found: Fingerprint) -> dict[str, object]:
    return {
        "statement": found.statement,
        "words": {"en": found.en, "zh": found.zh},
        "qr": found.uris,
    }
