# SPDX-License-Identifier: Apache-2.0
"""``fep policy``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say
from agent.errors import Fault, MalformedMessage, PolicyInvalid, Text, UsageFault

if TYPE_CHECKING:
    from datetime import date

    from agent.catalog.gate import Offer
    from agent.lookup.policy.rules import Policy
    from agent.settings import Settings
    from agent.wire.lookup import Request

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "Who may look up what: check, try out and activate the policy.",
        "查询授权策略：检查、试算与启用。",
    ),
)

ANYBODY = f"{'0' * 18}/nobody"
"""The consumer of a request that names none; no grant names it."""
_NO_ID = "00000000-0000-7000-8000-000000000000"

_File = Annotated[
    str | None,
    typer.Argument(
        help=say(
            "Policy file; [lookup] policy of the settings without it.",
            "策略文件；省略则取配置中的 [lookup] policy。",
        )
    ),
]


@app.command(
    help=say(
        "Check a policy against the catalog without a daemon; lists every fault, and"
        " every grant in words; exit 78 if there is a fault.",
        "不启动服务即可对照资源目录检查策略，列出全部问题，并逐条说明授权内容；有问题则退出码"
        " 78。",
    ),
    epilog=say(
        "Examples:  fep policy check  |  fep policy check ./policy.toml --json",
        "示例：  fep policy check  |  fep policy check ./policy.toml --json",
    ),
)
def check(ctx: typer.Context, file: _File = None) -> None:
    """List all faults, or all grants in words."""
    from agent.cli.common import policies
    from agent.lookup.policy.load import digest, read

    ask = asked(ctx)
    known, offers, shut = _department(ask)
    path = Path(file) if file else known.lookup.policy
    text = read(path)
    try:
        policy = _loaded(text, path, offers, shut)
    except PolicyInvalid as e:
        if ask.json:
            faults = [f._asdict() for f in e.faults]
            ask.print_json(_checked(path, None, grants=[], faults=faults))
        else:
            print(e.detail)
            print(ask.say(f"Faults: {len(e.faults)}.", f"共 {len(e.faults)} 个问题。"))
        raise typer.Exit(e.exit_code) from None
    today = _today(known)
    if ask.json:
        grants = [policies.grant_json(rule, today=today) for rule in policy.rules]
        ask.print_json(_checked(path, digest(text), grants=grants, faults=[]))
        return
    policies.show_grants(ask, policy, offers, today=today)
    count = len(policy.rules)
    print(
        ask.say(
            f"{path}: all right, {count} grants; what none of them names is refused.",
            f"{path}：策略正确，共 {count} 条授权；未列明的一律拒绝。",
        )
    )


@app.command(
    help=say(
        "Judge a request by the draft, step by step, without a daemon and without"
        " asking the source; exit 1 if it would be denied.",
        "按草稿逐步试算一个查询请求，不需要服务，也不访问源库；会被拒绝则退出码 1。",
    ),
    epilog=say(
        "Examples:  fep policy explain --request ask.json --consumer"
        " 11990100MB0000027F/fep1",
        "示例：  fep policy explain --request ask.json --consumer"
        " 11990100MB0000027F/fep1",
    ),
)
def explain(
    ctx: typer.Context,
    request: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help=say(
                "The request as JSON: op, resource, items, fields, purpose, basis,"
                " officer; - is standard input.",
                "JSON 格式的请求：op、resource、items、fields、purpose、basis、"
                "officer；- 为标准输入。",
            ),
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "Policy file; [lookup] policy of the settings without it.",
                "策略文件；省略则取配置中的 [lookup] policy。",
            ),
        ),
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NODE",
            help=say(
                "Who asks; else `iss` of the request.",
                "请求方节点；省略则取请求的 iss。",
            ),
        ),
    ] = None,
) -> None:
    """Show each step, the winning grant and what an answer would hold."""
    from agent.cli.common import policies
    from agent.lookup.policy.judge import Active, Denied, judge
    from agent.lookup.policy.load import read

    ask = asked(ctx)
    known, offers, shut = _department(ask)
    path = Path(policy) if policy else known.lookup.policy
    loaded = _loaded(read(path), path, offers, shut)
    wanted = _request(request, consumer=consumer, node=known.agent.node)
    found = judge(Active(0, loaded), wanted, offers, today=_today(known))
    if ask.json:
        ask.print_json(policies.decision_json(found, wanted))
    else:
        policies.show_decision(ask, found, wanted)
    if isinstance(found, Denied):
        raise typer.Exit(1)


@app.command(
    help=say(
        "Let the daemon judge by the policy file as it is now; audited. Until then a"
        " changed file is a draft.",
        "启用当前策略文件，并记入审计；在此之前，改动过的文件只是草稿。",
    ),
    epilog=say("Examples:  fep policy activate", "示例：  fep policy activate"),
)
def activate(ctx: typer.Context) -> None:
    """Activate what was looked at: the file must not change meanwhile."""
    ask = asked(ctx)
    client = ask.client()
    draft = client.get("/v1/policy")["draft"]
    if draft["faults"]:
        raise PolicyInvalid(faults=tuple(Fault(**f) for f in draft["faults"]))
    body = client.post("/v1/policy/activate", {"digest": draft["digest"]})
    if ask.json:
        ask.print_json(body)
        return
    rev, grants = body["rev"], body["grants"]
    if body["changed"]:
        en = f"Revision {rev} is active, {grants} grants."
        zh = f"策略第 {rev} 版已生效，共 {grants} 条授权。"
    else:
        en = f"Nothing changed: revision {rev} has been active before."
        zh = f"没有变化：生效的仍是第 {rev} 版。"
    print(ask.say(en, zh))


@app.command(
    help=say(
        "Which policy judges now, and whether the file differs from it.",
        "显示当前生效的策略，以及文件是否有未启用的改动。",
    ),
    epilog=say("Examples:  fep policy show", "示例：  fep policy show"),
)
def show(ctx: typer.Context) -> None:
    """Show the active revision and the draft."""
    ask = asked(ctx)
    body = ask.client().get("/v1/policy")
    if ask.json:
        ask.print_json(body)
        return
    print(ask.say(*_active(body["active"])))
    print(ask.say(*_draft(body["draft"])))
    for fault in body["draft"]["faults"]:
        print(f"  {Fault(**fault)}")


# --- what the commands share ------------------------------------------------------


def _department(ask: Asked) -> tuple[Settings, Mapping[str, Offer], Mapping[str, str]]:
    """Settings, what the gate offers, and why it offers nothing else."""
    from agent import registry, settings
    from agent.catalog.folder import load_folder
    from agent.catalog.gate import offers, refused
    from agent.control.ceiling import load

    specs = {name: registry.find(name).spec() for name in registry.names()}
    known = settings.load(ask.config, specs=specs, secrets=False)
    resources = load_folder(known.agent.catalog, sources=known.sources)
    allowed = load(known.agent.ceiling).tables
    shut = {r.code: why for r in resources if (why := refused(r, allowed)) is not None}
    return known, offers(resources, allowed), shut


def _loaded(
    text: str, path: Path, offers: Mapping[str, Offer], shut: Mapping[str, str]
) -> Policy:
    from agent.lookup.policy.load import load

    return load(text, offers, shut=shut, file=str(path))


def _today(known: Settings) -> date:
    from datetime import datetime
    from zoneinfo import ZoneInfo

    return datetime.now(ZoneInfo(known.agent.timezone)).date()


def _checked(
    path: Path, digest: str | None, *, grants: list[Any], faults: list[Any]
) -> dict[str, object]:
    return {
        "ok": not faults,
        "file": str(path),
        "digest": digest,
        "grants": grants,
        "faults": faults,
    }


def _request(file: str, *, consumer: str | None, node: str) -> Request:
    """The request of a file; what a person need not write is filled in.

    Raises:
        UsageFault: it is no request; nothing personal is in the message.
    """
    import sys

    from agent.wire import strict
    from agent.wire.lookup import REQUEST_CAP, parse_request

    try:
        if file == "-":
            data = sys.stdin.buffer.read(REQUEST_CAP + 1)
        else:
            with Path(file).open("rb") as opened:
                data = opened.read(REQUEST_CAP + 1)
    except OSError as e:
        raise UsageFault(f"{file}: {e.strerror}") from None
    if len(data) > REQUEST_CAP:
        raise UsageFault(f"{file}: expected at most {REQUEST_CAP} bytes")
    given = {"v": 1, "iss": ANYBODY, "aud": node, "jti": _NO_ID, "iat": 0, "exp": 60}
    given["officer"] = {"id": "-", "auth": "-"}
    named = {"iss": consumer} if consumer else {}
    try:
        return parse_request(strict.dumps(given | strict.loads(data) | named))
    except MalformedMessage as e:
        raise UsageFault(f"{file}: {e.detail}") from None


def _active(found: Mapping[str, Any] | None) -> Text:
    """Which policy judges, in a sentence."""
    if found is None:
        return Text(
            "No policy is active: everything is refused.", "没有生效的策略：一律拒绝。"
        )
    rev, grants, at, uid = (found[k] for k in ("rev", "grants", "activated_at", "uid"))
    return Text(
        f"Revision {rev} is active, {grants} grants, since {at} by uid {uid}.",
        f"策略第 {rev} 版已生效，共 {grants} 条授权；{at} 由 uid {uid} 启用。",
    )


def _draft(found: Mapping[str, Any]) -> Text:
    """How the policy file stands to it, in a sentence."""
    file = found["file"]
    if found["faults"]:
        return Text(f"{file} has faults:", f"{file} 有问题：")
    if found["differs"]:
        return Text(
            f"{file} differs: it is a draft until `fep policy activate`.",
            f"{file} 有未启用的改动，执行 `fep policy activate` 后生效。",
        )
    return Text(f"{file} is the active policy.", f"{file} 即当前生效的策略。")
