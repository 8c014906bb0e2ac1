# SPDX-License-Identifier: Apache-2.0
"""``fep keys``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.control.identity import IdentityFiles

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "The keys of this machine: look, change, back up, restore.",
        "本机密钥：查看、更换、备份与恢复。",
    ),
)

PATIENCE_S = 120.0
"""So long the daemon may take for a change of keys, seconds."""
BY_ITSELF = ("sign", "decrypt", "audit")
"""What `rotate` changes when nothing is named; tls is renewed without being asked."""
_PURPOSES = {
    "sign": say("signs batches and replies", "签发批次与应答"),
    "decrypt": say("opens lookup requests", "解密查询请求"),
    "audit": say("signs the audit log", "签署审计日志"),
    "tls": say("key of the certificate", "证书密钥"),
}
_STATUS = {
    "active": say("active", "有效"),
    "retired": say("retired", "已退役"),
    "revoked": say("REVOKED", "已吊销"),
    None: say("not in the directory", "目录中没有"),
}
_WHERE = {
    "file": say("open file", "文件（未加密）"),
    "sealed": say("sealed file", "文件（已加密）"),
    "credential": say("credential", "systemd 凭据"),
    "token": say("token", "密码设备"),
}


def _complete(incomplete: str) -> list[tuple[str, str]]:
    return [(p, text) for p, text in _PURPOSES.items() if p.startswith(incomplete)]


_PassphraseFile = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help=say(
            "File whose first line is the passphrase; asked for without it.",
            "首行为口令的文件；省略则提示输入。",
        ),
    ),
]


@app.command(
    help=say(
        "Every key that this machine ever had, how the directory has it, and when the"
        " certificate ends.",
        "列出本机历来的全部密钥、其目录状态以及证书有效期。",
    ),
    epilog=say(
        "Examples:  fep keys ls  |  fep keys ls --json",
        "示例：  fep keys ls  |  fep keys ls --json",
    ),
)
def ls(ctx: typer.Context) -> None:
    """List the keys."""
    ask = asked(ctx)
    body = ask.client().get("/v1/keys")
    if ask.json:
        ask.print_json(body)
    else:
        _show(ask, body)


@app.command(
    help=say(
        "Change keys now: sign, decrypt and audit, or those named. The old ones stay in"
        " use until the directory shows the new ones; an interrupted change goes on by"
        " itself.",
        "立即更换密钥：默认 sign、decrypt、audit，或指定的用途。目录显示新密钥之前"
        "继续使用旧密钥；中断后会自动继续。",
    ),
    epilog=say(
        "Examples:  fep keys rotate  |  fep keys rotate sign  |  fep keys rotate tls",
        "示例：  fep keys rotate  |  fep keys rotate sign  |  fep keys rotate tls",
    ),
)
def rotate(
    ctx: typer.Context,
    purpose: Annotated[
        str | None,
        typer.Argument(
            autocompletion=_complete,
            help=say("sign, decrypt, audit or tls.", "sign、decrypt、audit 或 tls。"),
        ),
    ] = None,
) -> None:
    """Change keys."""
    ask = asked(ctx)
    wanted = list(BY_ITSELF) if purpose is None else [purpose]
    client = ask.client(timeout_s=PATIENCE_S)
    body = client.post("/v1/keys/rotate", {"purposes": wanted})
    if ask.json:
        ask.print_json(body)
        return
    named = ", ".join(wanted)
    print(ask.say(f"Changed: {named}.", f"已更换：{named}。"))
    _show(ask, body)


@app.command(
    help=say(
        "Write the keys into a file under a passphrase, for the machine that takes the"
        " place of this one if it is lost. Never run two machines with the same keys:"
        " the exchange finds out and holds everything.",
        "将密钥加密备份到文件，供本机损坏后的替换机器使用。切勿让两台机器使用同一套密钥："
        "交换中心会发现并暂停全部业务。",
    ),
    epilog=say(
        "Examples:  fep keys backup /media/usb/fep.keys  |  fep keys backup fep.keys"
        " --passphrase-file pass.txt",
        "示例：  fep keys backup /media/usb/fep.keys  |  fep keys backup fep.keys"
        " --passphrase-file pass.txt",
    ),
)
def backup(
    ctx: typer.Context,
    file: Annotated[
        str,
        typer.Argument(help=say("New file to write.", "要写入的新文件。")),
    ],
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Write a backup of the keys."""
    from datetime import UTC, datetime

    from agent.cli.common import passphrases
    from agent.control import backup as keys_backup

    ask = asked(ctx)
    path = Path(file).absolute()
    with passphrases.new_file(path) as out:
        secret = passphrases.chosen(ask, passphrase_file)
        files, _ = _own(ask)
        out.write(keys_backup.made(files, secret, now=datetime.now(UTC)).encode())
    if ask.json:
        ask.print_json({"file": str(path), "bytes": path.stat().st_size})
        return
    print(ask.say(f"Written: {path}", f"已写入：{path}"))
    print(
        ask.say(
            "Keep it off this machine and the passphrase elsewhere. After every `fep"
            " keys rotate` make a new one.",
            "请离机保存，口令另行保管。每次 `fep keys rotate` 后请重新备份。",
        )
    )


@app.command(
    help=say(
        "Put the keys of a backup on the machine that takes the place of the lost one."
        " It must have no keys, and the lost one must never run again.",
        "将备份中的密钥恢复到替换机器。该机器须尚无密钥，且原机器不得再运行。",
    ),
    epilog=say(
        "Examples:  fep keys restore /media/usb/fep.keys  |  fep keys restore fep.keys"
        " --passphrase-file pass.txt",
        "示例：  fep keys restore /media/usb/fep.keys  |  fep keys restore fep.keys"
        " --passphrase-file pass.txt",
    ),
)
def restore(
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(help=say("The backup.", "备份文件。"))],
    passphrase_file: _PassphraseFile = None,
) -> None:
    """Restore a backup of the keys."""
    from agent.cli.common import passphrases
    from agent.control import backup as keys_backup

    ask = asked(ctx)
    text = keys_backup.read(Path(file))
    secret = passphrases.known(ask, passphrase_file)
    files, node = _own(ask)
    keys_backup.restore(text, files, secret, node=node)
    if ask.json:
        ask.print_json({"node": node, "folder": str(files.folder)})
        return
    print(ask.say(f"Restored the keys of {node}.", f"已恢复 {node} 的密钥。"))
    print(
        ask.say(
            "Now `fep enrol` (it fetches the directory), then `systemctl start fep`.",
            "请执行 `fep enrol`（获取目录），然后 `systemctl start fep`。",
        )
    )


def _own(ask: Asked) -> tuple[IdentityFiles, str]:
    """The files of this node's keys, as their owner, and the node."""
    import os

    from agent import settings
    from agent.cli.common.owner import act_as_owner
    from agent.control.identity import IdentityFiles

    os.umask(0o077)
    found = settings.load(ask.config, secrets=False)
    act_as_owner(found.paths.state)
    return IdentityFiles(found.paths.state), found.agent.node


def _show(ask: Asked, body: dict[str, Any]) -> None:
    """The keys as a table."""
    print(body["node"])
    for key in body["keys"]:
        mark = "*" if key["in_use"] else " "
        status = _STATUS.get(key["status"], str(key["status"]))
        until = f" → {key['until']}" if key["until"] else ""
        since = key["since"] or ""
        print(
            f"{mark} {key['purpose']:<8} {key['kid']}  {status:<8} {since}{until}"
            f"  [{key['statement']}]  {_WHERE.get(key['where'], '')}".rstrip()
        )
    certificate = body["certificate"]
    print(
        ask.say(
            f"Certificate: until {certificate['not_after']}"
            f" ({certificate['days']} days); renewed from"
            f" {certificate['renew_at']} on.",
            f"证书：有效期至 {certificate['not_after']}（{certificate['days']} 天）；"
            f"自 {certificate['renew_at']} 起自动续期。",
        )
    )
    change = body["change"]
    if change is None:
        return
    named = ", ".join(change["purposes"])
    print(ask.say(f"Being changed: {named}.", f"正在更换：{named}。"))
    if change["trouble"] is not None:
        said = change["trouble"]
        print(
            ask.say(
                f"  {said['code']}: {said['detail']}; next try {change['next_try']}",
                f"  {said['code']}：{said['detail']}；下次重试 {change['next_try']}",
            )
        )
