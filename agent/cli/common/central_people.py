# SPDX-License-Identifier: Apache-2.0
"""``fep central``: keys, and who holds which role."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.central_bench import Folder, PassphraseFile, bench, disk_faults
from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import UsageFault

if TYPE_CHECKING:
    from agent.central.change import Change
    from agent.central.roles import Holders

app = typer.Typer(add_completion=False)

_Keys = list[str] | None
_Threshold = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help=say("So many of them must sign.", "至少须有几人签名。"),
    ),
]


def _of(role: str, zh: str) -> object:
    return typer.Option(
        metavar="FILE.pub",
        help=say(
            f"Public key of a holder of {role}; once for each.",
            f"{zh}持有人的公钥，每人一次。",
        ),
    )


@app.command(
    help=say(
        "Make a signing key: FILE.key, sealed with a passphrase and its owner's alone,"
        " and FILE.pub, which the publisher takes. Best straight onto a USB stick.",
        "生成签名密钥：FILE.key（以口令加密，仅属主可读）与交给发布员的 FILE.pub；"
        "建议直接写入 U 盘。",
    ),
    epilog=say(
        "Examples:  fep central keygen /media/usb/zhang.key --label zhang",
        "示例：  fep central keygen /media/usb/zhang.key --label 张三",
    ),
)
def keygen(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE.key")],
    label: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help=say(
                "How people call it; it stands in the published metadata.",
                "密钥名称，会出现在公开的元数据中。",
            ),
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    open_file: Annotated[
        bool,
        typer.Option(
            "--open",
            help=say("Without a passphrase; for trials.", "不加口令，仅供试用。"),
        ),
    ] = False,
) -> None:
    """Make a key."""
    from agent.central import keys
    from agent.central.disk import RealDisk
    from agent.cli.common import passphrases

    ask = asked(ctx)
    path = Path(file).absolute()
    secret = None if open_file else passphrases.chosen(ask, passphrase_file)
    name = label or path.name.removesuffix(".key")
    with disk_faults():
        made = keys.generate(path, name=name, passphrase=secret, disk=RealDisk())
    public = keys.public_path(path)
    if ask.json:
        ask.print_json(
            {
                "key": str(path),
                "public": str(public),
                "keyid": made.keyid,
                "label": name,
            }
        )
        return
    print(ask.say(f"Private key: {path}", f"私钥：{path}"))
    print(ask.say(f"For the publisher: {public}", f"交给发布员：{public}"))
    print(f"  {made.keyid}")


@app.command(
    help=say(
        "Make a workspace: keys of the online roles, and a first draft to be signed by"
        " the holders of root, targets, directory and releases.",
        "建立发布工作目录：生成在线角色的密钥，并起草首份元数据，由 root、targets、"
        "directory、releases 的持有人签名。",
    ),
    epilog=say(
        "Examples:  fep central init /srv/fep-central --root a.pub --root b.pub --root"
        " c.pub --root d.pub --root e.pub --targets f.pub --targets g.pub --targets"
        " h.pub  |  fep central init ./trial --root a.pub --targets a.pub"
        " --root-threshold 1 --targets-threshold 1",
        "示例：  fep central init /srv/fep-central --root a.pub --root b.pub --root"
        " c.pub --root d.pub --root e.pub --targets f.pub --targets g.pub --targets"
        " h.pub  |  fep central init ./trial --root a.pub --targets a.pub"
        " --root-threshold 1 --targets-threshold 1",
    ),
)
def init(  # noqa: PLR0913 - each is an option of the command
    ctx: typer.Context,
    workspace: Folder,
    root: Annotated[_Keys, _of("root", "root ")] = None,
    targets: Annotated[_Keys, _of("targets", "targets ")] = None,
    directory: Annotated[
        _Keys, _of("directory (else those of targets)", "directory（默认同 targets）")
    ] = None,
    releases: Annotated[
        _Keys, _of("releases (else those of targets)", "releases（默认同 targets）")
    ] = None,
    root_threshold: _Threshold = 3,
    targets_threshold: _Threshold = 2,
    directory_threshold: _Threshold = None,
    releases_threshold: _Threshold = None,
    days: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=N",
            help=say(
                "How long what a role says holds, days; such as timestamp=60 where a"
                " ferry carries it.",
                "某角色元数据的有效天数；摆渡站点可用 timestamp=60。",
            ),
        ),
    ] = None,
) -> None:
    """Begin a repository."""
    from agent.central.disk import RealDisk
    from agent.central.roles import Terms
    from agent.central.workspace import Workspace

    ask = asked(ctx)
    people = {
        "root": _holders(root, root_threshold),
        "targets": _holders(targets, targets_threshold),
    }
    second = targets_threshold
    people["directory"] = _holders(directory or targets, directory_threshold or second)
    people["releases"] = _holders(releases or targets, releases_threshold or second)
    place = Workspace(Path(workspace).absolute())
    with disk_faults():
        place.folder.mkdir(parents=True, exist_ok=True)
        place.make(Terms(_days(days or [])), RealDisk())
    with bench(workspace) as found:
        for role in ("snapshot", "timestamp", "brake"):
            people[role] = _online(place.online, role)
        change = found.change(anew=True)
        change.begin(people)
        found.keep(change)
    _to_sign(ask, change, place.draft)


@app.command(
    help=say(
        "Let a department sign for its own nodes, or let others sign for it from now"
        " on; drafted, to be signed by targets and the department.",
        "授权部门签署其自有节点的配置，或更换其签署人；生成草案，由 targets 与该部门"
        "签名。",
    ),
    epilog=say(
        "Examples:  fep central member /srv/fep-central 11990100MB0000027F --key"
        " dept.pub",
        "示例：  fep central member /srv/fep-central 11990100MB0000027F --key dept.pub",
    ),
)
def member(
    ctx: typer.Context,
    workspace: Folder,
    department: Annotated[
        str,
        typer.Argument(help=say("Unified social credit code.", "统一社会信用代码。")),
    ],
    key: Annotated[_Keys, _of("the department's role", "部门角色")] = None,
    threshold: _Threshold = 1,
) -> None:
    """Give a department its role."""
    from agent.wire.grammar import DEPARTMENT
    from agent.wire.repository import department_role

    ask = asked(ctx)
    if not DEPARTMENT.fullmatch(department):
        raise UsageFault(f"{department[:64]}: expected a unified social credit code")
    holders = _holders(key, threshold)
    with bench(workspace) as found:
        change = found.change()
        change.hold(department_role(department), holders)
        found.keep(change)
    _to_sign(ask, change, found.workspace.draft)


@app.command(
    help=say(
        "Let other keys hold a role: a lost or old one goes, a new one comes. A role"
        " that lies online gets a new key by itself. Without other keys the role only"
        " speaks anew, before it expires. Drafted, to be signed.",
        "更换角色的密钥：移除遗失或旧的密钥，加入新的密钥；在线角色自动生成新密钥；不指定密钥"
        "则仅在到期前重签。生成草案待签名。",
    ),
    epilog=say(
        "Examples:  fep central rotate /srv/fep-central targets --drop zhang --add"
        " li.pub  |  fep central rotate /srv/fep-central timestamp",
        "示例：  fep central rotate /srv/fep-central targets --drop 张三 --add li.pub"
        "  |  fep central rotate /srv/fep-central timestamp",
    ),
)
def rotate(
    ctx: typer.Context,
    workspace: Folder,
    role: Annotated[
        str,
        typer.Argument(
            help=say(
                "root, targets, directory, releases, department-<code>, snapshot,"
                " timestamp or brake.",
                "root、targets、directory、releases、department-<代码>、snapshot、timestamp"
                " 或 brake。",
            )
        ),
    ],
    add: Annotated[_Keys, _of("the role from now on", "该角色新")] = None,
    drop: Annotated[
        _Keys,
        typer.Option(
            metavar="KEY",
            help=say(
                "Label or begin of the id of a key.", "要移除的密钥名称或标识前缀。"
            ),
        ),
    ] = None,
    threshold: _Threshold = None,
) -> None:
    """Change who holds a role."""
    from agent.central import roles

    ask = asked(ctx)
    with bench(workspace) as found:
        change = found.change()
        if roles.is_online(role):
            if add or drop or threshold:
                raise UsageFault(f"{role}: lies online; it takes no keys of people")
            change.hold(role, _online(found.workspace.online, role))
        elif add or drop or threshold:
            held = _changed(change, role, add or [], drop or [], threshold)
            change.hold(role, held)
        else:
            change.held(role)  # or there is no such role
            change.word(role)
        found.keep(change)
    _to_sign(ask, change, found.workspace.draft)


# --- what the commands share ------------------------------------------------------


def _holders(files: _Keys, threshold: int | None) -> Holders:
    from agent.central import keys
    from agent.central.roles import Holders

    found = tuple(keys.read_public(Path(file)) for file in files or [])
    return Holders(found, threshold or 1)


def _changed(
    change: Change, role: str, add: list[str], drop: list[str], threshold: int | None
) -> Holders:
    """Who held a role, without some and with others."""
    from agent.central import keys
    from agent.central.roles import Holders

    known = change.held(role)
    left = list(known.keys)
    for name in drop:
        gone = [k for k in left if name == keys.label(k) or k.keyid.startswith(name)]
        if len(gone) != 1:
            raise UsageFault(
                f"--drop {name}: expected one key of {role}, got {len(gone)}"
            )
        left.remove(gone[0])
    left += [keys.read_public(Path(file)) for file in add]
    return Holders(tuple(left), threshold or known.threshold)


def _online(folder: Path, role: str) -> Holders:
    """A new key for a role that lies online."""
    from agent.central import keys
    from agent.central.disk import RealDisk
    from agent.central.roles import Holders

    number = 1
    while (path := folder / f"{role}-{number}.key").exists():
        number += 1
    name = f"{role}-{number}"
    made = keys.generate(path, name=name, passphrase=None, disk=RealDisk())
    return Holders((made,), 1)


def _days(given: list[str]) -> dict[str, int]:
    from agent.central.roles import DAYS
    from agent.central.workspace import MOST_DAYS

    found = {}
    for text in given:
        role, _, number = text.partition("=")
        if (
            role not in DAYS
            or not number.isdigit()
            or not 1 <= int(number) <= MOST_DAYS
        ):
            raise UsageFault(
                f"--days {text[:64]}: expected ROLE=N, N from 1 to {MOST_DAYS}, of"
                f" {', '.join(DAYS)}"
            )
        found[role] = int(number)
    return found


def _to_sign(ask: Asked, change: Change, folder: Path) -> None:
    from agent.cli.common.central_show import show_draft

    show_draft(ask, change, folder)
