# SPDX-License-Identifier: Apache-2.0
"""``fep config``."""

from __future__ import annotations

from pathlib import Path

import typer

from agent.cli.common.context import asked
from agent.cli.common.language import say
from agent.errors import ConfigInvalid, Fault, FilesInvalid

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say("Look at the settings.", "查看与检查配置。"),
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
    """List all faults."""
    ask = asked(ctx)
    faults, resources = _check(ask.config)
    if ask.json:
        body = {
            "ok": not faults,
            "config": str(ask.config),
            "resources": resources,
            "faults": [fault._asdict() for fault in faults],
        }
        ask.print_json(body)
    else:
        for fault in faults:
            print(fault)
        count = len(faults)
        print(
            ask.say(f"{count} faults.", f"{count} 个问题。")
            if faults
            else ask.say(
                f"{ask.config}: all right, {len(resources)} resources.",
                f"{ask.config}：配置正确，共 {len(resources)} 个资源。",
            )
        )
    if faults:
        raise typer.Exit(ConfigInvalid.exit_code)


def _check(config: Path) -> tuple[list[Fault], list[str]]:
    """Every fault, and the codes of the resources if there is none."""
    from agent import registry, settings
    from agent.catalog.folder import load_folder

    specs = {name: registry.find(name).spec() for name in registry.names()}
    try:
        found = settings.load(config, specs=specs)
    except ConfigInvalid as e:
        return list(e.faults), []
    try:
        resources = load_folder(found.agent.catalog, sources=found.sources)
    except FilesInvalid as e:
        return list(e.faults), []
    return [], [resource.code for resource in resources]
