# SPDX-License-Identifier: Apache-2.0
"""``fep central``: what runs everywhere, and what stops it."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.central_bench import (
    Folder,
    bench,
    root_sha256,
    show_live,
    unlocked,
)
from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import (
    CentralBusy,
    CentralInvalid,
    CentralStale,
    DaemonAbsent,
    ExchangeUnreachable,
    NotWatched,
    PeerFault,
    SpoolWriteFailed,
    UsageFault,
)

if TYPE_CHECKING:
    from agent.wire.rollout import Rollout

app = typer.Typer(add_completion=False)

_PASSING = (CentralBusy, CentralInvalid, CentralStale, PeerFault, SpoolWriteFailed)
"""What a watch outlives: another publisher, an exchange that is away, a full disk."""
CAP = 64 * 1024 * 1024
"""Longest view of the nodes that is read, bytes."""

_Nodes = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help=say(
            "The exchange's view of the nodes as JSON; - is standard input.",
            "交换中心的节点视图（JSON）；- 为标准输入。",
        ),
    ),
]
_Exchange = Annotated[
    str | None,
    typer.Option(
        metavar="SOCKET",
        help=say(
            "Ask the exchange at its admin socket instead.",
            "改为通过管理套接字向交换中心查询。",
        ),
    ),
]


@app.command(
    help=say(
        "Revoke a key or a node at once, with the brake's online key; nobody can take"
        " it back here.",
        "使用在线制动密钥立即吊销密钥或节点；不可在此撤销。",
    ),
    epilog=say(
        "Examples:  fep central revoke /srv/fep-central 11990100MB0000027F/fep1",
        "示例：  fep central revoke /srv/fep-central 11990100MB0000027F/fep1",
    ),
)
def revoke(
    ctx: typer.Context,
    workspace: Folder,
    name: Annotated[
        str,
        typer.Argument(metavar="KID|NODE", help=say("What to revoke.", "吊销对象。")),
    ],
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help=say(
                "Even if the published directory does not know it.",
                "即使已发布的目录中没有该对象。",
            ),
        ),
    ] = False,
) -> None:
    """Revoke a key or a node."""
    from agent.central import brake

    with bench(workspace) as found:
        change = found.published()
        if not brake.revoke(change, name):
            raise UsageFault(f"{name}: is revoked already")
        if not (force or brake.is_known(change, name)):
            raise UsageFault(
                f"{name}: the published directory does not know it; --force revokes"
                " it nevertheless"
            )
        live = found.press().publish(change)
    show_live(asked(ctx), live, root_sha256(found.workspace))


@app.command(
    help=say(
        "Stop a generation: who does not run it yet never will. With --watch, look at"
        " the nodes and stop the rollout's generation when more than --percent of a"
        " ring reverted; exit 1 if it is stopped. It goes on while the exchange is away"
        " or somebody else publishes; with --once exit 75 says that it could not look.",
        "制动某一代配置：尚未应用的节点不再应用。加 --watch 则持续观察节点，当某批次"
        "回退比例超过 --percent 时自动制动；已制动则退出码 1。交换中心暂不可用或他人"
        "正在发布时继续观察；加 --once 而未能查看则退出码 75。",
    ),
    epilog=say(
        "Examples:  fep central brake /srv/fep-central 42  |  fep central brake"
        " /srv/fep-central --watch --exchange /var/lib/exchange/admin.sock",
        "示例：  fep central brake /srv/fep-central 42  |  fep central brake"
        " /srv/fep-central --watch --exchange /var/lib/exchange/admin.sock",
    ),
)
def brake(  # noqa: PLR0913 - each is an option of the command
    ctx: typer.Context,
    workspace: Folder,
    generation: Annotated[
        int | None,
        typer.Argument(help=say("Which to stop.", "要制动的代号。")),
    ] = None,
    watch: Annotated[
        bool,
        typer.Option(
            "--watch", help=say("Stop it if it goes bad.", "出问题时自动制动。")
        ),
    ] = False,
    once: Annotated[
        bool,
        typer.Option(
            "--once", help=say("Look once; for a timer.", "只看一次，供定时任务。")
        ),
    ] = False,
    nodes: _Nodes = None,
    exchange: _Exchange = None,
    percent: Annotated[
        float,
        typer.Option(
            metavar="P",
            help=say("So much of a ring may revert.", "批次允许的回退百分比。"),
        ),
    ] = 5.0,
    every: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", help=say("Between two looks.", "两次观察的间隔（秒）。")
        ),
    ] = 60.0,
) -> None:
    """Stop a generation, or watch that it need not be."""
    ask = asked(ctx)
    if (generation is None) == (not watch):
        raise UsageFault("brake: expected a generation, or --watch")
    if generation is not None:
        _stop(ask, workspace, generation)
        return
    if not (nodes or exchange):
        raise UsageFault("brake --watch: expected --nodes or --exchange")
    while True:
        try:
            if _look(ask, workspace, nodes, exchange, percent):
                raise typer.Exit(1)
        except _PASSING as e:
            if once or nodes:
                raise NotWatched(str(e)) from e
            print(f"{e.code}: {e}", file=sys.stderr, flush=True)
        if once or nodes:
            return
        time.sleep(max(every, 0.1))


def _stop(ask: Asked, workspace: str, generation: int) -> None:
    from agent.central import brake as brakes

    with bench(workspace) as found:
        change = found.published()
        if not brakes.halt(change, generation):
            raise UsageFault(f"{generation}: is stopped already")
        live = found.press().publish(change)
    show_live(ask, live, root_sha256(found.workspace))


def _look(
    ask: Asked,
    workspace: str,
    nodes: str | None,
    exchange: str | None,
    percent: float,
) -> bool:
    """One look; whether the rollout's generation is stopped."""
    from agent.central import brake as brakes
    from agent.central import fleet as fleets
    from agent.cli.common.central_bench import now

    found = unlocked(workspace)
    rollout, halted = _rollout(workspace), brakes.halted(found.published())
    if rollout is None:
        raise UsageFault("rollout.json: is not published; nothing to watch")
    number = rollout.generation
    if number in halted:
        return True
    seen = fleets.read(_view(nodes, exchange), rollout)
    rings = fleets.rings(rollout, seen, now())
    bad = fleets.to_stop(rings, percent)
    if bad is None:
        if not ask.json:
            ran = sum(r.running for r in rings)
            print(
                ask.say(
                    f"Generation {number}: {ran} nodes run it, no ring is bad.",
                    f"第 {number} 代：{ran} 个节点已应用，各批次正常。",
                )
            )
        return False
    if not ask.json:
        share = f"{bad.reverted}/{bad.nodes}"
        print(
            ask.say(
                f"Ring {bad.name}: {share} nodes reverted; generation {number} is"
                " stopped.",
                f"批次 {bad.name}：{share} 个节点已回退；制动第 {number} 代。",
            )
        )
    _stop(ask, workspace, number)
    return True


@app.command(
    help=say(
        "How the nodes stand, what runs on them and who gave a configuration up; exit 1"
        " if a node that is shown needs somebody.",
        "显示节点状态、所应用的配置及回退情况；所示节点有需要处理的则退出码 1。",
    ),
    epilog=say(
        "Examples:  fep central fleet --exchange /var/lib/exchange/admin.sock --failed"
        "  |  fep central fleet /srv/fep-central --nodes view.json --ring first --json",
        "示例：  fep central fleet --exchange /var/lib/exchange/admin.sock --failed"
        "  |  fep central fleet /srv/fep-central --nodes view.json --ring first --json",
    ),
)
def fleet(  # noqa: PLR0913 - each is an option of the command
    ctx: typer.Context,
    workspace: Annotated[
        str | None,
        typer.Argument(
            help=say(
                "The publisher's folder, for rings.", "发布工作目录，用于显示批次。"
            )
        ),
    ] = None,
    nodes: _Nodes = None,
    exchange: _Exchange = None,
    stuck: Annotated[
        bool, typer.Option("--stuck", help=say("Those that are stuck.", "受阻的。"))
    ] = False,
    late: Annotated[
        bool,
        typer.Option(
            "--late", help=say("Late, or never heard of.", "失联或从未上报的。")
        ),
    ] = False,
    doubted: Annotated[
        bool, typer.Option("--doubted", help=say("Perhaps cloned.", "疑似克隆的。"))
    ] = False,
    failed: Annotated[
        bool,
        typer.Option(
            "--failed", help=say("That gave a configuration up.", "放弃过配置的。")
        ),
    ] = False,
    ring: Annotated[
        str, typer.Option(metavar="NAME", help=say("Of a ring.", "属于某批次的。"))
    ] = "",
    department: Annotated[
        str,
        typer.Option(metavar="CODE", help=say("Of a department.", "属于某部门的。")),
    ] = "",
    node: Annotated[
        str,
        typer.Option(
            metavar="TEXT", help=say("Whose name begins so.", "名称以此开头的。")
        ),
    ] = "",
) -> None:
    """Show the fleet."""
    from agent.central import fleet as fleets
    from agent.central.fleet import Wanted
    from agent.cli.common.central_bench import now
    from agent.cli.common.central_show import show_fleet

    ask = asked(ctx)
    if not (nodes or exchange):
        raise UsageFault("fleet: expected --nodes or --exchange")
    stands = {"stuck"} if stuck else set()
    stands |= {"late", "silent"} if late else set()
    stands |= {"doubted"} if doubted else set()
    wanted = Wanted(frozenset(stands), failed, ring, department, node)
    rollout = _rollout(workspace) if workspace else None
    if ring and rollout is None:
        raise UsageFault("--ring: expected a workspace with a published rollout.json")
    seen = fleets.read(_view(nodes, exchange), rollout)
    shown = [each for each in seen if wanted.takes(each)]
    rings = fleets.rings(rollout, seen, now()) if rollout is not None else ()
    show_fleet(ask, shown, rings, total=len(seen))
    if any(each.needs_somebody for each in shown):
        raise typer.Exit(1)


def _rollout(workspace: str) -> Rollout | None:
    """The rollout that is published, None if there is none."""
    from agent.central import standing
    from agent.central.workspace import Workspace
    from agent.wire.repository import ROLLOUT_FILE
    from agent.wire.rollout import parse_rollout

    found = standing.read(Workspace(Path(workspace)).published)
    if found is None or ROLLOUT_FILE not in found.files:
        return None
    return parse_rollout(found.content(ROLLOUT_FILE))


def _view(nodes: str | None, exchange: str | None) -> Any:
    """The exchange's view of its nodes.

    Raises:
        UsageFault: it cannot be read.
        ExchangeUnreachable: nobody listens at the socket.
    """
    import json
    import sys

    from agent.local.client import LocalClient

    if exchange is not None:
        try:
            return LocalClient(Path(exchange)).get("/nodes")
        except DaemonAbsent as e:
            raise ExchangeUnreachable(e.detail) from None
    try:
        if nodes == "-":
            data = sys.stdin.buffer.read(CAP + 1)
        else:
            with Path(nodes or "").open("rb") as file:
                data = file.read(CAP + 1)
        if len(data) > CAP:
            raise UsageFault(f"--nodes: expected at most {CAP} bytes")
        return json.loads(data)
    except OSError as e:
        raise UsageFault(f"{nodes}: {e.strerror}") from None
    except ValueError as e:
        raise UsageFault(f"{nodes}: expected JSON; {e}") from None
