# SPDX-License-Identifier: Apache-2.0
"""``fep central``."""

from __future__ import annotations

import typer

from agent.cli.common import central_people, central_push, central_watch
from agent.cli.common.language import say

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "For central ops: sign and publish configuration, watch the fleet, stop a bad"
        " push (docs/central-ops.md).",
        "供中心运维使用：签署并发布配置、查看全网节点、制动错误推送（见"
        " docs/central-ops.md）。",
    ),
)
app.add_typer(central_people.app)
app.add_typer(central_push.app)
app.add_typer(central_watch.app)
