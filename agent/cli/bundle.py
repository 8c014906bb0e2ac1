# SPDX-License-Identifier: Apache-2.0
"""``fep bundle``."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.control.diagnosis import Told

app = typer.Typer(add_completion=False)


@app.command(
    help=say(
        "Write a diagnostics file without data, secrets or names, for support.",
        "生成诊断包，供排查故障；不含数据、口令与姓名。",
    ),
    epilog=say(
        "Examples:  fep bundle  |  fep bundle --out /tmp/fep.zip --json",
        "示例：  fep bundle  |  fep bundle --out /tmp/fep.zip --json",
    ),
)
def bundle(
    ctx: typer.Context,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help=say(
                "A new file; default fep-bundle-<time>.zip here.",
                "新文件；默认为当前目录下 fep-bundle-<时间>.zip。",
            ),
        ),
    ] = None,
) -> None:
    """Gather, pack, write; the daemon may be down and the settings broken."""
    from agent import VERSION
    from agent.control import bundle as packing
    from agent.control import diagnosis

    ask = asked(ctx)
    now = datetime.now(UTC)
    path = out or Path(f"fep-bundle-{now:%Y%m%dT%H%M%SZ}.zip")
    found = diagnosis.documents(ask.config, _told(ask), ask=diagnosis.asked, now=now)
    data = packing.pack(found, version=VERSION, now=now)
    packing.write(path, data)
    body = {
        "path": str(path.absolute()),
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "daemon": "error" not in found["status"],
        **{k: packing.manifest_of(data)[k] for k in ("files", "left_out")},
    }
    if ask.json:
        ask.print_json(body)
        return
    print(ask.say("written: ", "已写入：") + f"{path}  {len(data)} B")
    for entry in body["files"]:
        print(f"  {entry['name']}  {entry['bytes']} B")
    for entry in body["left_out"]:
        print(f"  {entry['name']}  " + ask.say("too large, left out", "过大，未收入"))
    if not body["daemon"]:
        print(ask.say("The service did not answer.", "服务未应答。"))


def _told(ask: Asked) -> Told | str:
    """What the daemon says, or the code of the error why it says nothing."""
    from agent.control.diagnosis import Told
    from agent.errors import FepError

    try:
        body = ask.client(timeout_s=10.0).get("/v1/diagnostics")
        return Told(body["status"], body["counters"], body["events"])
    except FepError as e:
        return e.code
