# SPDX-License-Identifier: Apache-2.0
"""``fep config``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.cli.common import times
from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import (
    ConfigInvalid,
    Fault,
    FepError,
    FilesInvalid,
    UsageFault,
    all_errors,
)

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "The settings: check them, see who said what, hold the centre back.",
        "配置：检查、查看来源、暂缓采用中心配置。",
    ),
)


@app.callback()
def _config() -> None:
    pass


@app.command(
    help=say(
        "Check settings, secrets and resource documents without a daemon; lists every"
        " fault; exit 78 if there is one.",
        "不启动服务即可检查配置、口令文件与资源目录，列出全部问题；有问题则退出码 78。",
    ),
    epilog=say(
        "Examples:  fep config check  |  fep config check --config ./agent.toml --json",
        "示例：  fep config check  |  fep config check --config ./agent.toml --json",
    ),
)
def check(ctx: typer.Context) -> None:
    """List all faults, and what an inspection would find."""
    ask = asked(ctx)
    found = _check(ask.config)
    if ask.json:
        body = {
            "ok": not found.faults,
            "config": str(ask.config),
            "resources": found.resources,
            "faults": [fault._asdict() for fault in found.faults],
            "warnings": found.warnings,
        }
        ask.print_json(body)
    else:
        _show(ask, found)
    if found.faults:
        raise typer.Exit(ConfigInvalid.exit_code)


@app.command(
    help=say(
        "Show the settings that hold, without a daemon; secrets are never read.",
        "显示当前生效的配置，无需服务运行；不读取任何口令。",
    ),
    epilog=say(
        "Examples:  fep config show  |  fep config show --origin",
        "示例：  fep config show  |  fep config show --origin",
    ),
)
def show(
    ctx: typer.Context,
    origin: Annotated[
        bool,
        typer.Option(
            "--origin",
            help=say(
                "Say of each key who set it: default, agent.toml, a group or the node"
                " at the centre, or a bound.",
                "注明每项来自默认值、agent.toml、中心的组或节点文档，还是某个上限。",
            ),
        ),
    ] = False,
) -> None:
    """Show what holds."""
    from agent.cli.common import in_force

    ask = asked(ctx)
    body = in_force.shown(ask.config)
    if ask.json:
        ask.print_json(body)
        return
    for word in body["settings"]:
        line = f"{word['key']} = {in_force.text(word['value'])}"
        print(f"{line}  # {word['origin']}" if origin else line)
    if body["refused"] is not None:
        ask.print_error(_of_tree(body["refused"]))


@app.command(
    help=say(
        "What the centre wants otherwise than it runs, and why it does not run yet;"
        " exit 1 if there is anything.",
        "中心所要求的与现行配置有何不同、为何尚未采用；有差异则退出码 1。",
    ),
    epilog=say(
        "Examples:  fep config diff  |  fep config diff --json",
        "示例：  fep config diff  |  fep config diff --json",
    ),
)
def diff(ctx: typer.Context) -> None:
    """Compare what is wanted with what runs."""
    from agent.cli.common import in_force

    ask = asked(ctx)
    body = ask.client().get("/v1/config")
    body["changes"] = in_force.changes(body["running"], body["desired"])
    if ask.json:
        ask.print_json(body)
    else:
        _show_diff(ask, body)
    if body["changes"] or body["reason"] is not None:
        raise typer.Exit(1)


@app.command(
    help=say(
        "Take nothing new from the centre until a time; the centre sees it. What runs"
        " goes on, revocations are obeyed all the same.",
        "在指定时间前暂不采用中心的新配置，中心可见；现行配置继续运行，吊销照常生效。",
    ),
    epilog=say(
        "Examples:  fep config hold --until 2026-11-30T18:00 --reason year-end"
        "  |  fep config hold --release",
        "示例：  fep config hold --until 2026-11-30T18:00 --reason 年终结算"
        "  |  fep config hold --release",
    ),
)
def hold(
    ctx: typer.Context,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=say(
                "A day or a time, at most 366 days away.", "日期或时间，最长 366 天。"
            ),
        ),
    ] = None,
    reason: Annotated[
        str,
        typer.Option(
            help=say(
                "Why, for the history; at most 200 characters.",
                "原因，记入历史，最多 200 字。",
            )
        ),
    ] = "",
    release: Annotated[
        bool,
        typer.Option("--release", help=say("Take it again, now.", "立即恢复采用。")),
    ] = False,
) -> None:
    """Hold the centre's configuration back, or no longer."""
    ask = asked(ctx)
    if release == (until is not None):
        raise UsageFault("expected one of --until TIME and --release")
    given = None if until is None else times.until(until)
    body = ask.client().post("/v1/config/hold", {"until": given, "reason": reason})
    if ask.json:
        ask.print_json(body)
    elif given is None:
        print(ask.say("Nothing is held any more.", "已解除暂缓。"))
    else:
        print(ask.say(f"Held until {given}.", f"已暂缓至 {given}。"))


@app.command(
    help=say(
        "What became of the centre's configurations, the newest first: applied, good,"
        " reverted, refused, held.",
        "中心配置的历史，最新在前：采用、确认、恢复、拒绝、暂缓。",
    ),
    epilog=say(
        "Examples:  fep config history  |  fep config history --json",
        "示例：  fep config history  |  fep config history --json",
    ),
)
def history(ctx: typer.Context) -> None:
    """List what became of configurations."""
    ask = asked(ctx)
    body = ask.client().get("/v1/config/history", {"limit": 500})
    if ask.json:
        ask.print_json(body)
        return
    for turn in body["history"]:
        said = ask.say(*_TURNS.get(turn["what"], (turn["what"], turn["what"])))
        number = f"  {turn['generation']}" if turn["generation"] else ""
        why = f"  [{turn['reason']}]" if turn["reason"] else ""
        print(f"{turn['at']}  {said}{number}{why}")
        for line in turn["detail"].splitlines():
            print(f"  {line}")
    if not body["history"]:
        print(ask.say("Nothing has come from the centre.", "尚无中心下发的配置。"))


_TURNS = {
    "applied": ("applied", "采用"),
    "good": ("good", "确认"),
    "reverted": ("reverted", "恢复原配置"),
    "refused": ("refused", "拒绝"),
    "held": ("held", "暂缓"),
    "released": ("released", "解除暂缓"),
}


def _show_diff(ask: Asked, body: dict[str, Any]) -> None:
    from agent.cli.common import in_force

    for change in body["changes"]:
        old, new = in_force.text(change["running"]), in_force.text(change["desired"])
        print(f"{change['key']}: {old} → {new}  # {change['origin']}")
    if body["hold"] is not None:
        until, why = body["hold"]["until"], body["hold"]["reason"]
        words = ask.say(f"Held until {until}.", f"已暂缓至 {until}。")
        print(f"{words} {why}".rstrip())
    if body["probation"] is not None:
        generation = body["probation"]["generation"]
        print(
            ask.say(
                f"Generation {generation} is on probation.",
                f"代次 {generation} 试运行中。",
            )
        )
    if body["reason"] is not None:
        ask.print_error(_of_tree({"code": body["reason"], "detail": body["detail"]}))
    elif not body["pinned"]:
        print(
            ask.say(
                "No centre is listened to: exchange.tuf_root_sha256 is empty.",
                "未接受任何中心配置：exchange.tuf_root_sha256 为空。",
            )
        )
    elif not body["changes"]:
        print(ask.say("What the centre wants runs.", "中心所要求的配置均已生效。"))


def _of_tree(said: dict[str, str]) -> FepError:
    """The error of a code, with its title and next step."""
    for cls in all_errors():
        if cls.code == said["code"]:
            return cls(said["detail"])
    return FepError(f"{said['code']}: {said['detail']}")


@dataclass
class _Found:
    """What the files say.

    Args:
        faults: what keeps them from being used.
        warnings: gaps of resource documents, as JSON objects.
        resources: codes of the documents that can be read.
    """

    faults: list[Fault] = field(default_factory=list)
    warnings: list[dict[str, Any]] = field(default_factory=list)
    resources: list[str] = field(default_factory=list)


def _show(ask: Asked, found: _Found) -> None:
    for fault in found.faults:
        print(fault)
    for w in found.warnings:
        mark = ask.say("warning", "警告")
        print(f"{mark}: {w['resource']}: {w['field']}: {w[ask.lang]} [{w['article']}]")
    if found.faults:
        count = len(found.faults)
        print(ask.say(f"Faults: {count}.", f"共 {count} 个问题。"))
        return
    count = len(found.resources)
    print(
        ask.say(
            f"{ask.config}: all right, {count} resources.",
            f"{ask.config}：配置正确，共 {count} 个资源。",
        )
    )


def _check(config: Path) -> _Found:
    """Judge the settings, and the catalog even where the settings are wrong."""
    from agent import registry, settings

    specs = {name: registry.find(name).spec() for name in registry.names()}
    try:
        good = settings.load(config, specs=specs)
    except ConfigInvalid as e:
        found = _Found(faults=list(e.faults))
        places = _guess(config)
        if places is not None:
            _judge_catalog(found, places.catalog, places.sources)
            _judge_ceiling(found, places.ceiling)
        return found
    found = _Found()
    _judge_catalog(found, good.agent.catalog, good.sources)
    _judge_ceiling(found, good.agent.ceiling)
    return found


def _judge_ceiling(found: _Found, path: Path) -> None:
    from agent.control import ceiling

    try:
        ceiling.load(path)
    except ConfigInvalid as e:
        found.faults += e.faults


def _judge_catalog(found: _Found, folder: Path, sources: Collection[str]) -> None:
    from agent.catalog.folder import load_folder
    from agent.catalog.lint import lint
    from agent.catalog.lint_across import lint_across

    try:
        resources = load_folder(folder, sources=sources)
    except FilesInvalid as e:
        found.faults += e.faults
        return
    found.resources += [resource.code for resource in resources]
    gaps = [(resource, gap) for resource in resources for gap in lint(resource)]
    found.warnings += [
        {
            "resource": resource.code,
            "field": gap.field,
            "article": gap.article,
            **gap.text._asdict(),
        }
        for resource, gap in (*gaps, *lint_across(resources))
    ]


@dataclass(frozen=True)
class _Places:
    """Where the other files are, and the names of the sources."""

    catalog: Path
    ceiling: Path
    sources: Collection[str]


def _guess(config: Path) -> _Places | None:
    """What can be made out of settings that are wrong."""
    try:
        body = tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    agent, sources = body.get("agent"), body.get("sources")

    def place(key: str, usual: str) -> Path:
        value = agent.get(key) if isinstance(agent, dict) else None
        return config.parent / (value if isinstance(value, str) else usual)

    return _Places(
        place("catalog", "catalog"),
        place("ceiling", "ceiling.toml"),
        tuple(sources) if isinstance(sources, dict) else (),
    )
