# SPDX-License-Identifier: Apache-2.0
"""``fep audit``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.cli.common.context import Asked, asked
from agent.cli.common.language import say

if TYPE_CHECKING:
    from agent.audit.verify_log import Trust
    from agent.local.client import LocalClient

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help=say(
        "The audit log: find, prove, take away, check, erase.",
        "审计日志：查找、证明、导出、验证、销毁。",
    ),
)

Number = Annotated[
    int, typer.Argument(min=0, metavar="N", help=say("Record.", "记录序号。"))
]
SUBJECT_CAP = 64 * 1024
"""Most bytes of a subject's key that are read."""


@app.command(
    help=say(
        "Check an exported log, or a .tlog-proof with its .leaf, offline. Exit 1 if"
        " anything does not hold.",
        "离线验证导出的日志，或 .tlog-proof 及其 .leaf；有任何不符时退出码为 1。",
    ),
    epilog=say(
        "Examples:  fep audit verify ./log  |"
        "  fep audit verify 17.tlog-proof --trust keys.json",
        "示例：  fep audit verify ./log  |"
        "  fep audit verify 17.tlog-proof --trust keys.json",
    ),
)
def verify(
    ctx: typer.Context,
    path: Annotated[
        str, typer.Argument(help=say("Folder or proof.", "导出目录或证明文件。"))
    ],
    trust: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "Keys that count; else this agent's directory, else the folder's own.",
                "可信密钥；默认取本机目录，否则取导出目录自带的密钥。",
            ),
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help=say(
                "A checkpoint that somebody else kept, such as the exchange.",
                "由他方（如交换中心）保存的检查点。",
            ),
        ),
    ] = None,
) -> None:
    """Check a log."""
    from agent.audit import verify_log
    from agent.errors import UsageFault

    ask = asked(ctx)
    try:
        keys = _trust(ask, Path(path), trust)
        given = None if head is None else verify_log.read_file(Path(head))
        report = verify_log.judge(Path(path), trust=keys, head=given)
    except verify_log.Unusable as e:
        raise UsageFault(str(e)) from None
    if ask.json:
        ask.print_json(verify_log.as_json(path, report))
    else:
        print(verify_log.show(path, report, 1 if ask.lang == "zh" else 0))
    if not report.good:
        raise typer.Exit(1)


def _trust(ask: Asked, path: Path, given: str | None) -> Trust | None:
    """The keys of the file given, else those that this agent's directory has."""
    from agent.audit import verify_log

    if given is not None:
        return verify_log.read_trust(verify_log.read_file(Path(given)), given)
    try:
        if path.is_dir():
            text = verify_log.read_file(path / "keys.json")
            origin = str(json.loads(text)["origin"])
        else:
            origin = verify_log.origin_of_proof(path)
    except (ValueError, KeyError, TypeError):
        return None
    return _known(ask, origin)


def _known(ask: Asked, origin: str) -> Trust | None:
    from agent import settings
    from agent.audit.trust import keys_document
    from agent.audit.verify_log import read_trust
    from agent.control.directory import check_directory
    from agent.control.identity import IdentityFiles
    from agent.errors import FepError

    try:
        found = settings.load(ask.config, secrets=False)
        aud, kid = found.exchange.aud, found.exchange.kid
        file = IdentityFiles(found.paths.state).directory
        directory = check_directory(file.read_bytes(), aud=aud, kid=kid)
        chain = directory.node_keys(origin.removesuffix("/audit"))
    except (FepError, OSError):
        return None  # said in the report: the keys are the folder's own
    document = keys_document(
        origin,
        audit=[key for key in chain.all.values() if key.purpose == "audit"],
        witness=f"{aud}/witness",
        cosigners=directory.witness_keys(aud),
    )
    return read_trust(json.dumps(document).encode(), str(file))


@app.command(
    help=say(
        "Find records, newest first. A subject's key is read from a file or from stdin"
        " (-), never from the command line.",
        "查找记录，新者在前。主体标识只从文件或标准输入（-）读取，不得写在命令行中。",
    ),
    epilog=say(
        "Examples:  fep audit search --since 2026-11-21T00:00:00Z  |"
        "  fep audit search --resource 101001/000001 --subject key.json",
        "示例：  fep audit search --since 2026-11-21T00:00:00Z  |"
        "  fep audit search --resource 101001/000001 --subject key.json",
    ),
)
def search(  # noqa: PLR0913 - one argument an option
    ctx: typer.Context,
    subject: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-",
            help=say(
                'JSON of the key items, such as {"id_no": "..."}; needs --resource.',
                '主键数据项的 JSON，如 {"id_no": "..."}；须同时给出 --resource。',
            ),
        ),
    ] = None,
    resource: Annotated[
        str | None, typer.Option(help=say("Code of the resource.", "资源代码。"))
    ] = None,
    consumer: Annotated[
        str | None,
        typer.Option(
            metavar="NODE", help=say("Who asked, `<USCC>/<name>`.", "请求方节点。")
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help=say("Such as lookup.decided.", "类型，如 lookup.decided。")),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help=say("From this time on (UTC).", "起（UTC）。")
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help=say("Before this time.", "止（不含）。")),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=1000, help=say("Most records.", "条数上限。"))
    ] = 100,
) -> None:
    """Find records."""
    ask = asked(ctx)
    query = {
        "resource": resource,
        "consumer": consumer,
        "kind": kind,
        "since": since,
        "until": until,
        "keys": None if subject is None else _subject(ask, subject),
    }
    given = {name: value for name, value in query.items() if value is not None}
    records = _found(ask.client(), given, limit)
    if ask.json:
        ask.print_json({"records": records})
    else:
        _show(ask, records)


def _found(
    client: LocalClient, query: dict[str, Any], limit: int
) -> list[dict[str, Any]]:
    """Ask until there are enough, or no more."""
    records: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        room = {"limit": limit - len(records)}
        more = {} if before is None else {"before": before}
        body = client.post("/v1/audit/search", {**query, **room, **more})
        records += body["records"]
        before = body["next"]
        if before is None or len(records) >= limit:
            return records


def _subject(ask: Asked, file: str) -> Any:
    from agent.errors import UsageFault

    try:
        if file != "-":
            with Path(file).open("rb") as source:
                text = source.read(SUBJECT_CAP)
        elif sys.stdin.isatty():
            import getpass

            what = ask.say("Key as JSON (not shown): ", "主键 JSON（不回显）：")
            text = getpass.getpass(what).encode()
        else:
            text = sys.stdin.buffer.read(SUBJECT_CAP)
        return json.loads(text)
    except OSError as e:
        raise UsageFault(f"--subject: {e.strerror}") from None
    except ValueError:
        raise UsageFault("--subject: expected a JSON object of key items") from None


def _show(ask: Asked, records: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from agent.cli.common.render import console

    table = Table(box=None, pad_edge=False)
    heads = ("N", ask.say("time", "时间"), ask.say("kind", "类型"))
    for head in (*heads, ask.say("what", "内容")):
        table.add_column(head, overflow="fold")
    common = {"v", "n", "at", "kind", "subjects", "basis", "matter", "officer", "day"}
    for record in records:
        rest = " ".join(
            f"{name}={_plain(value)}"
            for name, value in record.items()
            if name not in common and value not in (None, [], {})
        )
        table.add_row(str(record["n"]), record["at"], record["kind"], rest)
    console().print(table)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{k}:{v}" for k, v in value.items())
    return str(value)


@app.command(
    help=say(
        "Prove that a record stands in the log: a C2SP .tlog-proof, and beside it the"
        " record in a .leaf.",
        "证明某条记录在日志中：生成 C2SP .tlog-proof，记录原文另存为 .leaf。",
    ),
    epilog=say(
        "Examples:  fep audit prove 17  |  fep audit prove 17 -o case.tlog-proof",
        "示例：  fep audit prove 17  |  fep audit prove 17 -o case.tlog-proof",
    ),
)
def prove(
    ctx: typer.Context,
    n: Number,
    out: Annotated[
        str | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help=say("Where to write it.", "输出文件。")
        ),
    ] = None,
) -> None:
    """Prove a record."""
    ask = asked(ctx)
    body = ask.client().get("/v1/audit/prove", {"n": n})
    if out is not None:
        proof = Path(out)
        _write(proof, body["proof"])
        _write(proof.with_suffix(".leaf"), body["line"])
    if ask.json:
        ask.print_json(body)
    elif out is None:
        print(body["line"])
        print(body["proof"], end="")
    else:
        print(ask.say(f"{out} and its .leaf are written.", f"已写入 {out} 与 .leaf。"))
    if not ask.json and not body["cosigned"]:
        print(
            ask.say(
                "The witness has not cosigned it yet; ask again later.",
                "见证方尚未会签，请稍后重试。",
            ),
            file=sys.stderr,
        )


@app.command(
    help=say(
        "Write the exact request and reply of a record into a folder. They are personal"
        " data; that you took them is recorded.",
        "将某条记录的请求与应答原文写入目录。内容含个人信息，取证行为会被记录。",
    ),
    epilog=say(
        "Examples:  fep audit evidence 17 ./case",
        "示例：  fep audit evidence 17 ./case",
    ),
)
def evidence(
    ctx: typer.Context,
    n: Number,
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help=say("Where to.", "输出目录。"))
    ],
) -> None:
    """Take the evidence of a record."""
    ask = asked(ctx)
    body = ask.client().post("/v1/audit/evidence", {"n": n})
    files = []
    for name in ("request", "reply"):
        if body[name] is not None:
            files.append(f"{n}.{name}.jws")
            _write(Path(folder) / files[-1], body[name], secret=True)
    if ask.json:
        ask.print_json({"n": n, "files": files})
    else:
        print(" ".join(files))


def _write(path: Path, text: str, *, secret: bool = False) -> None:
    from agent.errors import UsageFault

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600 if secret else 0o666)
        path.write_text(text, "utf-8")
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from None


@app.command(
    help=say(
        "Write the log into a new folder that anybody can check: records, tiles,"
        " checkpoints, keys. No personal data is in it.",
        "将日志导出到新目录供任何人验证：记录、瓦片、检查点、密钥。不含个人信息。",
    ),
    epilog=say(
        "Examples:  fep audit export ./log  |"
        "  fep audit export ./log --since 2026-11-01T00:00:00Z",
        "示例：  fep audit export ./log  |"
        "  fep audit export ./log --since 2026-11-01T00:00:00Z",
    ),
)
def export(
    ctx: typer.Context,
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help=say("New folder.", "新目录。"))
    ],
    since: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help=say("Older records as hashes only.", "更早的记录只导出哈希。"),
        ),
    ] = None,
) -> None:
    """Export the log."""
    from agent.audit.export import export as written

    ask = asked(ctx)
    client = ask.client()

    def page(what: str, members: Any) -> Any:
        if what == "export":
            return client.post("/v1/audit/export", members)
        return client.get(f"/v1/audit/{what}", members)

    body = written(Path(folder), page, since=since)
    if ask.json:
        ask.print_json({"folder": folder, **body})
    else:
        size = f"{body['size']:,}"
        print(ask.say(f"{folder}: {size} records.", f"{folder}：{size} 条记录。"))


@app.command(
    help=say(
        "Destroy the key of a day (UTC): its evidence can never be read again, nor its"
        " subjects found. The log itself stays whole. It cannot be undone.",
        "销毁某日（UTC）的密钥：当日证据与主体标识永不可恢复，日志本身保持完整。不可撤销。",
    ),
    epilog=say(
        "Examples:  fep audit erase 2023-11-21",
        "示例：  fep audit erase 2023-11-21",
    ),
)
def erase(
    ctx: typer.Context,
    day: Annotated[
        str, typer.Argument(metavar="DAY", help=say("YYYY-MM-DD.", "日期。"))
    ],
    yes: Annotated[
        bool,
        typer.Option("--yes", help=say("Do not ask again.", "不再询问。")),
    ] = False,
) -> None:
    """Destroy a day's key."""
    from agent.errors import UsageFault

    ask = asked(ctx)
    if ask.json and not yes:
        raise UsageFault("--json: expected --yes, too")
    if not yes:
        typer.confirm(
            ask.say(
                f"Destroy the evidence of {day} for ever?",
                f"确认永久销毁 {day} 的证据？",
            ),
            abort=True,
        )
    body = ask.client(timeout_s=600.0).post("/v1/audit/erase", {"day": day})
    if ask.json:
        ask.print_json(body)
    else:
        print(
            ask.say(
                f"{day}: the evidence of {body['records']} records is gone.",
                f"{day}：{body['records']} 条记录的证据已销毁。",
            )
        )
