# SPDX-License-Identifier: Apache-2.0
"""``fep source``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.cli.common.resources import OneOrAll

if TYPE_CHECKING:
    from agent.catalog.document import Resource
    from agent.catalog.gate import Offer
    from agent.model.place import Allowed
    from agent.settings.model import Settings

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say("Look at the source databases.", "检查源数据库。"),
)


@app.command(
    help=say(
        "Try connection, rights, columns and types; prints the exact GRANT to run."
        " Exit 1 if something is missing.",
        "检查连接、权限、字段与类型，并给出需执行的 GRANT 语句；有缺失时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep source check  |  fep source check 101001/000001 --json",
        "示例：  fep source check  |  fep source check 101001/000001 --json",
    ),
)
def check(
    ctx: typer.Context,
    resource: OneOrAll = None,
) -> None:
    """Check the sources of one resource, or of all."""
    import asyncio

    ask = asked(ctx)
    found = asyncio.run(_check(ask, resource))
    good = not any(f["severity"] == "error" for f in found)
    if ask.json:
        ask.print_json({"ok": good, "findings": found})
    else:
        _show(ask, found, whole=resource is not None)
    if not good:
        raise typer.Exit(1)


@app.command(
    help=say(
        "List the tables of a source as drafts of resource documents (TOML).",
        "列出数据源中的表，并生成资源目录草稿（TOML）。",
    ),
    epilog=say(
        "Examples:  fep source discover rsj > draft.toml",
        "示例：  fep source discover rsj > draft.toml",
    ),
)
def discover(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help=say("Name of [sources.<name>].", "数据源名称。"))
    ],
) -> None:
    """Draft resource documents."""
    import asyncio

    from agent import settings
    from agent.errors import UsageFault
    from agent.pipeline.worker import probe

    ask = asked(ctx)
    found = settings.load(ask.config, secrets=False)
    if source not in found.sources:
        names = ", ".join(found.sources) or "none"
        raise UsageFault(f"expected one of the sources {names}, got {source}")
    connector = found.sources[source].connector
    tables = asyncio.run(probe.discover(connector, found.source_config(source)))
    if ask.json:
        ask.print_json({"source": source, "tables": [asdict(t) for t in tables]})
        return
    from agent.catalog.draft import draft

    for table in tables:
        print(draft(table, source=source))


async def _check(ask: Asked, resource: str | None) -> list[dict[str, Any]]:
    """Findings of the sources, each with its resource."""
    from agent import settings
    from agent.catalog.folder import load_folder
    from agent.catalog.gate import closed, leave, offer, refused
    from agent.child.source import stream_of
    from agent.control import ceiling
    from agent.errors import ResourceUnknown
    from agent.pipeline.worker import probe

    found = settings.load(ask.config, secrets=False)
    allowed = ceiling.load(found.agent.ceiling).tables
    resources = load_folder(found.agent.catalog, sources=found.sources)
    chosen = [r for r in resources if resource in (None, r.code)]
    if not chosen:
        raise ResourceUnknown(str(resource))
    keys = _lookup_keys(found, resources, allowed)
    findings: list[dict[str, Any]] = []
    for one in chosen:
        shut = closed(one, allowed)
        if shut is None or (resource is not None and refused(one, allowed)):
            out = leave(one, allowed)
            stream = stream_of(out.table, out.items, out.stamp, out.number)
            config = found.source_config(out.source)
            connector = found.sources[out.source].connector
            findings += [
                {"resource": one.code, "source": out.source, **asdict(finding)}
                for finding in await probe.check(connector, config, [stream])
            ]
        if one.code in keys:
            findings += await _check_lookups(found, offer(one, allowed), keys[one.code])
    return findings


def _lookup_keys(
    found: Settings, resources: Sequence[Resource], allowed: Allowed | None
) -> dict[str, set[tuple[str, ...]]]:
    """By which items the policy lets each resource be looked up.

    Nothing if the policy cannot be used: ``fep policy check`` says why.
    """
    from agent.catalog.gate import offers
    from agent.errors import PolicyInvalid
    from agent.lookup.policy.load import load, read

    keys: dict[str, set[tuple[str, ...]]] = {}
    try:
        policy = load(read(found.lookup.policy), offers(resources, allowed))
    except PolicyInvalid:
        return keys
    for rule in policy.rules:
        keys.setdefault(rule.resource, set()).add(tuple(sorted(rule.keys)))
    return keys


async def _check_lookups(
    found: Settings, offered: Offer, keys: set[tuple[str, ...]]
) -> list[dict[str, Any]]:
    """Findings about the indexes of a resource that is looked up."""
    from agent.child.source import stream_of
    from agent.pipeline.worker import probe
    from connectors.contract import LookupSpec

    stream = stream_of(offered.table, offered.items)
    specs = [
        LookupSpec(stream, tuple(offered.by_name[name].column for name in names))
        for names in sorted(keys)
    ]
    config = found.source_config(offered.source)
    connector = found.sources[offered.source].connector
    return [
        {"resource": offered.resource, "source": offered.source, **asdict(finding)}
        for finding in await probe.check_lookup(connector, config, specs)
    ]


def _show(ask: Asked, findings: Sequence[dict[str, Any]], *, whole: bool) -> None:
    """Findings in order; what several resources of a source share is told once.

    Args:
        ask: the language.
        findings: of one resource or of all.
        whole: list how every column is read, not only those that come as text.
    """
    from rich.text import Text

    from agent.cli.common.render import console

    marks = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "error": ("✗", "red")}
    out = console()
    others = [f for f in findings if f["code"] != "column-path"]
    told = Counter((f["source"], f["en"]) for f in others)
    for f in others:
        again = told.pop((f["source"], f["en"]), 0)
        if not again:
            continue
        mark, style = marks[f["severity"]]
        where = f["source"] if again > 1 else f"{f['resource']} {f['source']}"
        out.print(Text(f"{mark} {where}: {f[ask.lang]}", style))
        if f["remedy"]:
            out.print(Text(f"    {f['remedy']}"), soft_wrap=True)
    for f in findings:
        if f["code"] == "column-path" and (whole or f["path"] != "native"):
            out.print(Text(f"  {f['resource']} {f[ask.lang]}"), soft_wrap=True)
