# SPDX-License-Identifier: Apache-2.0
"""``fep config``."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer

from agent.cli.common.context import Asked, asked
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
        catalog, sources = _guess(config)
        if catalog is not None:
            _judge_catalog(found, catalog, sources)
        return found
    found = _Found()
    _judge_catalog(found, good.agent.catalog, good.sources)
    return found


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


def _guess(config: Path) -> tuple[Path | None, Collection[str]]:
    """The catalog's folder and the sources' names in settings that are wrong."""
    try:
        body = tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return None, ()
    agent, sources = body.get("agent"), body.get("sources")
    folder = agent.get("catalog") if isinstance(agent, dict) else None
    names = tuple(sources) if isinstance(sources, dict) else ()
    return config.parent / (folder if isinstance(folder, str) else "catalog"), names
