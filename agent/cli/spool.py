# SPDX-License-Identifier: Apache-2.0
"""``fep spool``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.common import spooling
from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.resources import One, OneOrAll
from agent.cli.common.times import since as moment
from agent.errors import UsageFault
from agent.local.client import LocalClient

AT_ONCE = 1000
"""Most damaged batches of one request, far below what the daemon takes."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "Batches that wait or are kept, and the receipts that prove them.",
        "查看待发与留存的批次及其回执，核对、导出、重发、修复。",
    ),
)

Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help=say(
            "From this day or time on, such as 2026-11-21 or 2026-11-21T08:00.",
            "自该日或该时刻起，如 2026-11-21 或 2026-11-21T08:00。",
        ),
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help=say("Only say what would be done.", "仅显示将做什么，不执行。"),
    ),
]
Yes = Annotated[
    bool, typer.Option("--yes", help=say("Do not ask again.", "不再询问。"))
]


@app.command(
    help=say("List batches, oldest first.", "列出批次，旧者在前。"),
    epilog=say(
        "Examples:  fep spool ls  |  fep spool ls 101001/000001 --json",
        "示例：  fep spool ls  |  fep spool ls 101001/000001 --json",
    ),
)
def ls(
    ctx: typer.Context,
    resource: OneOrAll = None,
) -> None:
    """List batches."""
    ask = asked(ctx)
    body = ask.client().get("/v1/spool", {"resource": resource})
    if ask.json:
        ask.print_json(body)
        return
    from agent.cli.common import render

    render.console().print(render.batches(ask, body["batches"]))


@app.command(
    help=say("Show one batch with its receipts.", "显示一个批次及其回执。"),
    epilog=say(
        "Examples:  fep spool show 101001/000001 1 7",
        "示例：  fep spool show 101001/000001 1 7",
    ),
)
def show(
    ctx: typer.Context,
    resource: One,
    epoch: Annotated[int, typer.Argument(min=1, help=say("Epoch.", "纪元。"))],
    seq: Annotated[int, typer.Argument(min=1, help=say("Number.", "序号。"))],
) -> None:
    """Show one batch."""
    ask = asked(ctx)
    query = {"resource": resource, "epoch": epoch, "seq": seq}
    body = ask.client().get("/v1/batch", query)
    if ask.json:
        ask.print_json(body)
        return
    from agent.cli.common import render

    shown = {name: value for name, value in body.items() if name != "manifest"}
    render.console().print(render.pairs(shown))


@app.command(
    help=say(
        "List the signed receipts of a resource, oldest first.",
        "列出资源的签名回执，旧者在前。",
    ),
    epilog=say(
        "Examples:  fep spool receipts 101001/000001  |"
        "  fep spool receipts 101001/000001 --since 2026-11-01 --json",
        "示例：  fep spool receipts 101001/000001  |"
        "  fep spool receipts 101001/000001 --since 2026-11-01 --json",
    ),
)
def receipts(ctx: typer.Context, resource: One, since: Since = None) -> None:
    """List receipts."""
    ask = asked(ctx)
    found = list(_receipts(ask.client(), resource, moment(since)))
    if ask.json:
        ask.print_json({"receipts": found})
        return
    from agent.cli.common import render

    render.console().print(render.receipts(ask, found))


def _receipts(
    client: LocalClient, resource: str, since: str | None
) -> Iterator[dict[str, Any]]:
    after: list[int] | None = [0, 0]
    while after is not None:
        query = {
            "resource": resource,
            "since": since,
            "epoch": after[0],
            "seq": after[1],
        }
        body = client.get("/v1/receipts", query)
        yield from body["receipts"]
        after = body["next"]


@app.command(
    help=say(
        "Write receipts, their manifests and the directories with the keys into one ZIP"
        " file, which `fep verify` and others check offline. No row is in it.",
        "将回执、清单与载有公钥的目录写入一个 ZIP 证据包，可用 `fep verify` 或其他程序"
        "离线核对；不含任何数据行。",
    ),
    epilog=say(
        "Examples:  fep spool export 2026.zip  |"
        "  fep spool export november.zip 101001/000001 --since 2026-11-01",
        "示例：  fep spool export 2026.zip  |"
        "  fep spool export november.zip 101001/000001 --since 2026-11-01",
    ),
)
def export(
    ctx: typer.Context,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help=say("New file.", "新文件。"))
    ],
    resource: OneOrAll = None,
    since: Since = None,
) -> None:
    """Write an evidence pack."""
    ask = asked(ctx)
    client, begin = ask.client(), moment(since)
    codes: list[str] = [] if resource is None else [resource]
    if resource is None:
        codes = client.get("/v1/receipts/resources")["resources"]
    found = (r for code in codes for r in _receipts(client, code, begin))

    def directory(digest: str | None) -> str:
        return str(client.get("/v1/voucher", {"digest": digest})["jws"])

    body = spooling.write_pack(Path(file), found, directory)
    if ask.json:
        ask.print_json({"file": file, **body})
    else:
        n = f"{body['receipts']:,}"
        print(ask.say(f"{file}: {n} receipts.", f"{file}：{n} 份回执。"))


def _codes(client: LocalClient) -> list[str]:
    return [str(r["resource"]) for r in client.get("/v1/status")["resources"]]


@app.command(
    help=say(
        "Compare every kept file with what was registered, and its place in the chain."
        " Exit 1 if anything is damaged.",
        "逐字节核对留存文件与登记信息及链中位置；有损坏时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep spool verify  |  fep spool verify 101001/000001 --json",
        "示例：  fep spool verify  |  fep spool verify 101001/000001 --json",
    ),
)
def verify(ctx: typer.Context, resource: OneOrAll = None) -> None:
    """Compare files."""
    ask = asked(ctx)
    body = _looked(ask.client(), resource)
    if ask.json:
        ask.print_json(body)
    else:
        spooling.show_looked(ask, body)
    if body["damages"]:
        raise typer.Exit(1)


def _looked(client: LocalClient, resource: str | None) -> dict[str, Any]:
    """Look at everything, as many files at a time as the daemon likes."""
    body: dict[str, Any] = {"files": 0, "bytes": 0, "damages": []}
    for code in [resource] if resource is not None else _codes(client):
        after: list[int] | None = [0, 0]
        while after is not None:
            query = {"resource": code, "epoch": after[0], "seq": after[1]}
            page = client.get("/v1/spool/verify", query)
            for name in body:
                body[name] += page[name]
            after = page["next"]
    return body


@app.command(
    help=say(
        "After damage to the spool: name what is wrong, and lead it down its safe path."
        " What waited is read again in a new epoch; of what the exchange has, only the"
        " damaged copy goes.",
        "待发目录受损后：列出问题并安全处置。未送达的以新纪元重新读取；"
        "中心已有的仅删除损坏的副本。",
    ),
    epilog=say(
        "Examples:  fep spool repair --dry-run  |"
        "  fep spool repair 101001/000001 --yes",
        "示例：  fep spool repair --dry-run  |  fep spool repair 101001/000001 --yes",
    ),
)
def repair(
    ctx: typer.Context,
    resource: OneOrAll = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Mend the spool."""
    ask = asked(ctx)
    _settled(ask, dry_run=dry_run, yes=yes)
    client = ask.client()
    body = {**_looked(client, resource), "mended": []}
    if not ask.json:
        spooling.show_looked(ask, body)
    if body["damages"] and not dry_run:
        _confirm(ask, ask.say("Mend this?", "确认处置？"), yes=yes)
        body["mended"] = _mended(client, body["damages"])
    if ask.json:
        ask.print_json(body)
    else:
        spooling.show_mended(ask, body["mended"])
    if dry_run and body["damages"]:
        raise typer.Exit(1)


def _mended(client: LocalClient, damages: list[dict[str, Any]]) -> list[Any]:
    found = []
    for code in sorted({d["resource"] for d in damages}):
        own = [d for d in damages if d["resource"] == code]
        # One that waits is enough: the new epoch reads all again. So it comes last.
        waiting = [d for d in own if d["state"] == "waiting"][:1]
        places = [[d["epoch"], d["seq"]] for d in own if d["state"] != "waiting"]
        places += [[d["epoch"], d["seq"]] for d in waiting]
        body: dict[str, Any] = {"resource": code, "removed": 0, "epoch": None}
        for n in range(0, len(places), AT_ONCE):
            asks = {"resource": code, "batches": places[n : n + AT_ONCE]}
            done = client.post("/v1/spool/repair", asks)
            body["removed"] += done["removed"]
            body["epoch"] = done["epoch"]
        found.append(body)
    return found


@app.command(
    help=say(
        "Send again what the exchange has lost of what was sealed since then: the very"
        " files, if they are kept and may still leave, else by reading again. What it"
        " has is not sent.",
        "重发中心自该时刻起丢失的批次：原文件仍在且仍允许提供则原样重发，否则重新读取；"
        "中心已有的不再发送。",
    ),
    epilog=say(
        "Examples:  fep spool replay 101001/000001 --since 2026-11-21 --dry-run  |"
        "  fep spool replay 101001/000001 --since 2026-11-21T08:00 --yes",
        "示例：  fep spool replay 101001/000001 --since 2026-11-21 --dry-run  |"
        "  fep spool replay 101001/000001 --since 2026-11-21T08:00 --yes",
    ),
)
def replay(
    ctx: typer.Context,
    resource: One,
    since: Since = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send again."""
    ask = asked(ctx)
    begin = moment(since)
    if begin is None:
        raise UsageFault("--since: expected a day or a time")
    _settled(ask, dry_run=dry_run, yes=yes)
    client = ask.client()
    asks = {"resource": resource, "since": begin}
    body = client.post("/v1/spool/replay", {**asks, "do": False})
    if not ask.json:
        spooling.show_replay(ask, body)
    if body["action"] != "none" and not dry_run:
        _confirm(ask, ask.say("Go on?", "确认执行？"), yes=yes)
        body = client.post("/v1/spool/replay", {**asks, "do": True})
    if ask.json:
        ask.print_json(body)
    elif body["done"]:
        print(ask.say("Done; `fep status` shows how it goes.", "已执行，进度见状态。"))


def _settled(ask: Asked, *, dry_run: bool, yes: bool) -> None:
    """JSON cannot ask back."""
    if ask.json and not (yes or dry_run):
        raise UsageFault("--json: expected --yes or --dry-run, too")


def _confirm(ask: Asked, question: str, *, yes: bool) -> None:
    if not yes and not ask.json:
        typer.confirm(question, abort=True)
