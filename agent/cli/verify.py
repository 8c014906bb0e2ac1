# SPDX-License-Identifier: Apache-2.0
"""``fep verify``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.control.evidence import Verdict
    from agent.control.evidence_pack import Trust
    from agent.control.identity import IdentityFiles

app = typer.Typer(add_completion=False)

_MORE = 8
"""So many times more kept directories are read at each further try."""

_CHECKS = {
    "form": "格式",
    "signature": "签名",
    "payload": "内容",
    "file": "文件",
    "before": "前一批",
    "after": "后一批",
    "directory": "目录",
    "manifest": "清单",
    "receipt": "回执",
    "chain": "链条",
}


@app.command(
    help=say(
        "Judge a batch file, a receipt or an evidence pack offline: signatures,"
        " payload, chain, keys as they stood then. Exit 1 if it is not genuine.",
        "离线验证批次文件、回执或证据包：签名、内容、链条及当时的密钥状态；"
        "不真实时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep verify 101001_000001.1.7.fepb  |  fep verify 2026.zip  |"
        "  fep verify receipt.jws --directory directory.jws --kid KID --json",
        "示例：  fep verify 101001_000001.1.7.fepb  |  fep verify 2026.zip  |"
        "  fep verify receipt.jws --directory directory.jws --kid KID --json",
    ),
)
def verify(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(
            help=say("Batch, receipt or evidence pack.", "批次、回执或证据包文件。")
        ),
    ],
    directory: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "Directory to judge with; else the agent's own and those it kept.",
                "用于验证的目录文件；默认使用本机目录及历次留存的目录。",
            ),
        ),
    ] = None,
    kid: Annotated[
        str | None,
        typer.Option(
            metavar="KID",
            help=say(
                "The exchange's key as the slip says it; else exchange.kid of the"
                " settings. With it no settings are needed.",
                "中心凭条上的密钥指纹；默认取 exchange.kid。给出后无需配置文件。",
            ),
        ),
    ] = None,
) -> None:
    """Judge a file."""
    from agent.control.evidence_pack import examine_pack, is_pack
    from agent.errors import UsageFault

    path = Path(file)
    if not path.is_file():
        raise UsageFault(f"{file}: expected a batch file, a receipt or a pack")
    ask = asked(ctx)
    if is_pack(path):
        verdict = examine_pack(path, _trust(ask, directory, kid))
    else:
        verdict = _single(path, ask, directory, kid)
    if ask.json:
        body = {"file": file, "genuine": verdict.genuine, **asdict(verdict)}
        ask.print_json(body)
    else:
        _show(ask, file, verdict)
    if not verdict.genuine:
        raise typer.Exit(1)


def _single(path: Path, ask: Asked, directory: str | None, kid: str | None) -> Verdict:
    """Judge by the directory of today; where it lacks the key by older ones, too.

    The newest comes first, then some more, until the file is genuine or there are none.

    Raises:
        NotEnrolled: there is none that counts.
    """
    from agent.control.directory import by_age
    from agent.control.evidence import examine
    from agent.control.history import trusted
    from agent.errors import NotEnrolled

    trust = _trust(ask, directory, kid)
    history, faults = trusted(trust.directories, aud=trust.aud, kid=trust.kid)
    if not history.directories:
        own = "--directory" if kid is not None else str(_files(ask).directory)
        why = "; ".join(filter(None, faults)) or f"expected {own}"
        raise NotEnrolled(f"no directory counts: {why}")
    verdict = examine(path, history)
    if verdict.genuine or directory is not None or kid is not None:
        return verdict
    older = by_age(_files(ask).vouchers)[::-1]
    some = 1
    while some // _MORE < len(older):
        texts = (*trust.directories, *_read(older[:some]))
        history, _ = trusted(texts, aud=trust.aud, kid=trust.kid)
        verdict = examine(path, history)
        if verdict.genuine:
            break
        some *= _MORE
    return verdict


def _trust(ask: Asked, directory: str | None, kid: str | None) -> Trust:
    """The pinned key and a directory, from the call or from this machine.

    Raises:
        ConfigInvalid: the settings are needed, and have faults.
    """
    from agent import settings
    from agent.control.evidence_pack import Trust

    given = [] if directory is None else [Path(directory)]
    if kid is not None:
        return Trust(None, kid, _read(given))
    own = _files(ask).directory
    if not given and own.exists():
        given = [own]
    found = settings.load(ask.config, secrets=False).exchange
    return Trust(found.aud, found.kid, _read(given))


def _files(ask: Asked) -> IdentityFiles:
    from agent import settings
    from agent.control.identity import IdentityFiles

    return IdentityFiles(settings.load(ask.config, secrets=False).paths.state)


def _read(paths: list[Path]) -> tuple[bytes, ...]:
    from agent.errors import NotEnrolled
    from agent.wire.directory import CAP

    texts = []
    for path in paths:
        try:
            with path.open("rb") as file:
                texts.append(file.read(CAP + 1).strip())
        except OSError as e:
            raise NotEnrolled(f"{path}: {e.strerror}") from e
    return tuple(texts)


def _show(ask: Asked, file: str, verdict: Verdict) -> None:
    from rich.text import Text

    from agent.cli.common.render import console, pairs

    out = console()
    good = verdict.genuine
    said = ask.say("genuine", "真实") if good else ask.say("NOT genuine", "不真实")
    out.print(
        Text(f"{file}{ask.say(': ', '：')}{said}", "green" if good else "bold red")
    )
    out.print(pairs(verdict.facts))
    for c in verdict.checks:
        mark, style = ("-", "default")
        if c.ok is not None:
            mark, style = ("✓", "green") if c.ok else ("✗", "red")
        check = ask.say(f"{c.check}: ", f"{_CHECKS.get(c.check, c.check)}：")
        out.print(Text(f"{mark} {check}{c.detail}", style), soft_wrap=True)
