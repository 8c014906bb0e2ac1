# SPDX-License-Identifier: Apache-2.0
"""``fep central``: from documents to what is served."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.central_bench import (
    Bench,
    Folder,
    PassphraseFile,
    bench,
    disk_faults,
)
from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.errors import UsageFault

if TYPE_CHECKING:
    from agent.central.change import Change
    from agent.central.publish import Live

app = typer.Typer(add_completion=False)

SOON_DAYS = 30
"""An offline role that expires within so many days needs its people."""

_Draft = Annotated[
    str,
    typer.Argument(
        metavar="DRAFT",
        help=say(
            "The draft's folder, or a workspace with one.",
            "草案目录，或其所在工作目录。",
        ),
    ),
]
_Root = Annotated[
    str | None,
    typer.Option(
        "--root-sha256",
        metavar="HEX",
        help=say(
            "Refuse a draft that does not follow from this first root; it stands on"
            " the departments' slips.",
            "首份 root 的摘要（见部门开通单）；草案不以其为起点则拒绝。",
        ),
    ),
]


@app.command(
    help=say(
        "Draft what changed in a plain folder of documents, laid out like the"
        " repository; what is not in it stays. A document without `generation` gets the"
        " next one.",
        "将普通目录中的文档（布局与发布库相同）起草为一次变更；目录中没有的文件保持不变。未写"
        " generation 的文档自动取下一代号。",
    ),
    epilog=say(
        "Examples:  fep central draft /srv/fep-central ./city  |  fep central draft"
        " /srv/fep-central --remove groups/old/config.json",
        "示例：  fep central draft /srv/fep-central ./city  |  fep central draft"
        " /srv/fep-central --remove groups/old/config.json",
    ),
)
def draft(
    ctx: typer.Context,
    workspace: Folder,
    folder: Annotated[
        str | None, typer.Argument(help=say("Documents.", "文档目录。"))
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(metavar="PATH", help=say("A file to withdraw.", "要撤下的文件。")),
    ] = None,
    directory: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "Answer of the exchange's GET /v1/directory; becomes directory/ and"
                " exchange.json.",
                "交换中心 GET /v1/directory 的应答，转为 directory/ 与 exchange.json。",
            ),
        ),
    ] = None,
    anew: Annotated[
        bool,
        typer.Option(
            "--anew",
            help=say("Drop the draft that waits.", "放弃正在等待的草案。"),
        ),
    ] = False,
) -> None:
    """Draft a change."""
    from agent.central import collect
    from agent.cli.common.central_show import show_draft

    ask = asked(ctx)
    if not (folder or remove or directory):
        raise UsageFault("draft: expected a folder, --remove or --directory")
    with bench(workspace) as found:
        change = found.change(anew=anew)
        if folder:
            collect.collect(change, Path(folder))
        if directory:
            collect.take_directory(change, _read(Path(directory)))
        for path in remove or []:
            change.remove(path)
        if change.words:
            _check(change)
            found.keep(change)
    show_draft(ask, change, found.workspace.draft)


def _check(change: Change) -> None:
    from agent.central.publish import check_files
    from agent.cli.common.central_bench import judge

    check_files(change, judge)


def _read(path: Path) -> bytes:
    from agent.wire.directory import CAP

    try:
        with path.open("rb") as file:
            return file.read(CAP + 1)
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from None


@app.command(
    help=say(
        "Show what a draft changes, which nodes it reaches, and who must sign yet; exit"
        " 1 while signatures are missing.",
        "显示草案的变更内容、影响的节点与尚缺的签名；签名不足时退出码 1。",
    ),
    epilog=say(
        "Examples:  fep central diff /srv/fep-central  |  fep central diff"
        " /media/usb/draft --json",
        "示例：  fep central diff /srv/fep-central  |  fep central diff"
        " /media/usb/draft --json",
    ),
)
def diff(ctx: typer.Context, draft: _Draft, root_sha256: _Root = None) -> None:
    """Show a draft."""
    from agent.central.roles import is_online
    from agent.cli.common.central_show import show_draft

    change, folder = _carried(draft, root_sha256)
    show_draft(asked(ctx), change, folder)
    if any(s.missing for s in change.signed() if not is_online(s.role)):
        raise typer.Exit(1)


@app.command(
    help=say(
        "Show a draft and sign it with a key, for exactly the roles that the key has."
        " It needs the draft's folder only, on a machine without a line.",
        "显示草案并用密钥签名，仅签署该密钥所属的角色。只需草案目录，可在不联网的机器上进行。",
    ),
    epilog=say(
        "Examples:  fep central sign /media/usb/draft --key /media/usb2/zhang.key",
        "示例：  fep central sign /media/usb/draft --key /media/usb2/zhang.key",
    ),
)
def sign(
    ctx: typer.Context,
    draft: _Draft,
    key: Annotated[
        str,
        typer.Option(
            metavar="FILE", help=say("Private key of keygen.", "keygen 生成的私钥。")
        ),
    ],
    passphrase_file: PassphraseFile = None,
    root_sha256: _Root = None,
    yes: Annotated[
        bool,
        typer.Option("--yes", help=say("Do not ask.", "不再询问。")),
    ] = False,
) -> None:
    """Sign a draft."""
    import os

    from agent.central import draft as drafts
    from agent.central import keys
    from agent.central.difference import difference
    from agent.central.disk import RealDisk
    from agent.cli.common import passphrases
    from agent.cli.common.central_bench import judge
    from agent.cli.common.central_show import draft_lines, root_lines, show_draft

    ask = asked(ctx)
    change, folder = _carried(draft, root_sha256)
    if not ask.json and not yes:
        for line in [*root_lines(ask, change), *draft_lines(ask, difference(change))]:
            print(line)
        if not typer.confirm(ask.say("Sign this?", "是否签名？")):
            raise typer.Exit(1)
    path = Path(key)
    secret = passphrases.known(ask, passphrase_file) if keys.sealed(path) else None
    signer = keys.load(path, passphrase=secret, environ=os.environ)
    with disk_faults():
        mine = drafts.sign(folder, change, signer, disk=RealDisk(), judge=judge)
    if not ask.json:
        named = ", ".join(mine)
        print(ask.say(f"Signed: {named}", f"已签名：{named}"))
    show_draft(ask, change, folder)


def _carried(text: str, root_sha256: str | None) -> tuple[Change, Path]:
    from agent.central import draft as drafts
    from agent.cli.common.central_bench import now

    folder = Path(text).absolute()
    if not (folder / "new").is_dir() and (folder / "draft").is_dir():
        folder = folder / "draft"
    found = drafts.load_carried(folder, now=now(), root_sha256=root_sha256)
    return found, folder


@app.command(
    help=say(
        "Let the signed draft go live: checked, proven by the client's own rules, then"
        " turned over at once. What was served stays if anything is wrong.",
        "发布已签名的草案：先检查，再按客户端规则验证，最后一次切换生效；如有问题，原有内容不变。",
    ),
    epilog=say(
        "Examples:  fep central publish /srv/fep-central",
        "示例：  fep central publish /srv/fep-central",
    ),
)
def publish(ctx: typer.Context, workspace: Folder) -> None:
    """Publish the draft."""
    ask = asked(ctx)
    with bench(workspace) as found:
        place = found.workspace
        if not place.draft.is_dir():
            raise UsageFault(f"{place.draft}: no draft waits")
        change = found.change()
        if not ask.json:
            count = len(change.words)
            print(ask.say(f"Checking {count} roles …", f"正在检查 {count} 个角色……"))
        live = found.press().publish(change)
        shutil.rmtree(place.draft)
    _show(ask=ctx, found=found, live=live)


@app.command(
    help=say(
        "Sign timestamp, snapshot and brake anew before they expire; for a timer, once"
        " a day. Exit 1 if an offline role expires within 30 days: its people must"
        " sign; or if a published file is damaged.",
        "在过期前重签 timestamp、snapshot 与 brake，供每日定时任务使用。离线角色 30 天"
        "内到期时退出码 1，需相关人员重新签名；已发布文件损坏时亦为 1。",
    ),
    epilog=say(
        "Examples:  fep central refresh /srv/fep-central",
        "示例：  fep central refresh /srv/fep-central",
    ),
)
def refresh(ctx: typer.Context, workspace: Folder) -> None:
    """Renew what lies online."""
    from datetime import timedelta

    from agent.central import standing
    from agent.central.roles import is_online

    with bench(workspace) as found:
        change = found.published()
        change.word("brake")
        live = found.press().publish(change)
    _show(ask=ctx, found=found, live=live)
    soon = found.now + timedelta(days=SOON_DAYS)
    late = [r for r, at in live.expires.items() if at < soon and not is_online(r)]
    bad = standing.damaged(change.before) if change.before is not None else ()
    ask, named = asked(ctx), ", ".join(sorted(late))
    if late and not ask.json:
        print(
            ask.say(
                f"Expire soon, to be signed anew: {named}",
                f"即将到期，须重新签名：{named}",
            )
        )
    if bad:
        paths = ", ".join(bad)
        print(
            ask.say(
                f"Damaged, to be brought back from the backup: {paths}",
                f"已损坏，须从备份恢复：{paths}",
            ),
            file=sys.stderr,
        )
    if late or bad:
        raise typer.Exit(1)


def _show(*, ask: typer.Context, found: Bench, live: Live) -> None:
    from agent.cli.common.central_bench import root_sha256, show_live

    show_live(asked(ask), live, root_sha256(found.workspace))
