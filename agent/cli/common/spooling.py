# SPDX-License-Identifier: Apache-2.0
"""Receipts, evidence packs and damages of the spool, for people and into files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agent.cli.common.context import Asked
from agent.errors import BatchUnknown, UsageFault
from agent.wire.pack import Writer

Body = Mapping[str, Any]

_CURES = {
    "reread": (
        "it waited: read again in a new epoch",
        "尚未送达：以新纪元重新读取",
    ),
    "remove": (
        "the exchange has it: only this copy goes",
        "中心已有：仅删除此副本",
    ),
}
_ACTIONS = {
    "none": (
        "The exchange has everything that it signed for; nothing is sent again.",
        "中心签收的批次均在，无需重发。",
    ),
    "send": (
        "The exchange has lost {lost} batches; they are sent again as they are.",
        "中心丢失 {lost} 个批次，将原样重发。",
    ),
    "read": (
        "The exchange has lost {lost} batches that cannot be sent again; the source is"
        " read again in a new epoch: {why}",
        "中心丢失 {lost} 个批次且无法原样重发，将以新纪元重新读取源库：{why}",
    ),
}


def write_pack(
    path: Path, receipts: Iterable[Body], directory: Callable[[str | None], str]
) -> dict[str, Any]:
    """Write an evidence pack; what it holds.

    Args:
        path: of a new file.
        receipts: as the daemon gives them.
        directory: the text of a digest; None: of the one in use, which has what was
            revoked since.

    Raises:
        UsageFault: the file is there already, or cannot be written.
    """
    states: Counter[str] = Counter()
    digests: set[str] = set()
    numbers: Counter[tuple[str, int, int]] = Counter()
    try:
        with path.open("xb") as file, Writer(file) as pack:
            for one in receipts:
                batch = (one["resource"], one["epoch"], one["seq"])
                numbers[batch] += 1
                pack.receipt(batch, one["state"], numbers[batch], one["jws"])
                if one["manifest"] is not None:
                    pack.manifest(*batch, one["manifest"])
                states[one["state"]] += 1
                digests |= {one["voucher"]} - {None}
            missing = _directories(pack, sorted(digests), directory)
    except OSError as e:
        raise UsageFault(f"{path}: {e.strerror}") from None
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return {
        "receipts": sum(states.values()),
        "states": dict(states),
        "manifests": len(numbers),
        "directories": len(digests) - missing,
        "directories_missing": missing,
    }


def _directories(
    pack: Writer, digests: Sequence[str], directory: Callable[[str | None], str]
) -> int:
    """Add what vouched, and what is in use; how many are not kept any more."""
    missing = 0
    for digest in digests:
        try:
            pack.directory(directory(digest))
        except BatchUnknown:
            missing += 1
    pack.directory(directory(None))
    return missing


def show_looked(ask: Asked, body: Body) -> None:
    """What was compared, and what is damaged."""
    from agent.cli.common import render

    size, damages = render.size(body["bytes"]), body["damages"]
    n, bad = f"{body['files']:,}", len(damages)
    print(
        ask.say(
            f"{n} files ({size}) compared, {bad} damaged.",
            f"已核对 {n} 个文件（{size}），{bad} 个损坏。",
        )
    )
    for d in damages:
        print(f"✗ {d['resource']} {d['epoch']}/{d['seq']} [{d['code']}] {d['detail']}")
        print(f"  → {ask.say(*_CURES[d['cure']])}")


def show_mended(ask: Asked, mended: Sequence[Body]) -> None:
    """What was done about it."""
    for one in mended:
        code, removed, epoch = one["resource"], one["removed"], one["epoch"]
        print(
            ask.say(
                f"{code}: {removed} damaged copies removed.",
                f"{code}：已删除 {removed} 个损坏的副本。",
            )
        )
        if epoch is not None:
            print(
                ask.say(
                    f"{code}: epoch {epoch} has begun; the source is read again.",
                    f"{code}：已开启纪元 {epoch}，正在重新读取。",
                )
            )


def show_replay(ask: Asked, body: Body) -> None:
    """What the exchange has, what it lost, and what follows."""
    place = "{epoch}/{seq}".format(**body["position"])
    n = len(body["batches"])
    print(
        ask.say(
            f"{body['resource']}: {n} batches sealed since then; the exchange has up to"
            f" {place}.",
            f"{body['resource']}：此后封装 {n} 个批次；中心已有至 {place}。",
        )
    )
    for b in body["batches"]:
        if b["lost"]:
            print(f"✗ {b['epoch']}/{b['seq']}  {b['sealed_at']}")
    words = ask.say(*_ACTIONS[body["action"]])
    print(words.format(lost=body["lost"], why=body["why"]))
