# SPDX-License-Identifier: Apache-2.0
"""Drafts, and the fleet, as people read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from agent.central.change import Change
from agent.central.difference import Difference, FileChange, difference
from agent.central.draft import first_root_sha256
from agent.central.fleet import Node, RingStand
from agent.central.roles import is_online
from agent.central.standing import Signed
from agent.cli.common.context import Asked
from agent.wire.grammar import format_time

_MOST_NODES = 20
_STANDS = {
    "healthy": ("healthy", "正常"),
    "stuck": ("stuck", "受阻"),
    "late": ("late", "失联"),
    "silent": ("silent", "未上报"),
    "doubted": ("doubted", "疑似克隆"),
}


def show_draft(ask: Asked, change: Change, folder: Path) -> None:
    """What is drafted, and what the next step is."""
    found = difference(change)
    if ask.json:
        ask.print_json(draft_json(found, folder, first_root_sha256(change)))
        return
    for line in [*root_lines(ask, change), *draft_lines(ask, found)]:
        print(line)
    missing = [s for s in found.signed if s.missing and not is_online(s.role)]
    if not found.signed:
        print(ask.say("Nothing would change.", "没有变化。"))
    elif missing:
        text = ask.say(
            f"Carry {folder} to those who sign: fep central sign FOLDER --key FILE",
            f"请将 {folder} 送签：fep central sign 草案目录 --key 文件",
        )
        print(text)
    else:
        print(ask.say("Signed by all who must; publish it.", "签名已齐，可以发布。"))


def root_lines(ask: Asked, change: Change) -> Iterable[str]:
    """What a draft compares with, for people who have a slip beside them."""
    digest = first_root_sha256(change)
    if change.before is not None and digest is not None:
        number = change.before.root.version
        yield ask.say(
            f"Compared with root {number}, which follows from the first root:",
            f"对照基准为第 {number} 版 root，其首份 root 摘要：",
        )
        yield ask.say(
            f"    {digest} (must be the one on the slip)",
            f"    {digest}（须与开通单一致）",
        )


def draft_json(
    found: Difference, folder: Path, root_sha256: str | None
) -> dict[str, Any]:
    """The documented form of a draft."""
    return {
        "draft": str(folder),
        "root_sha256": root_sha256,
        "ready": bool(found.signed)
        and not any(s.missing for s in found.signed if not is_online(s.role)),
        "roles": [_signed_json(s) for s in found.signed if not is_online(s.role)],
        "holdings": [asdict(h) for h in found.holdings],
        "files": [asdict(f) for f in found.files],
        "nodes": list(found.nodes),
        "everybody": found.everybody,
    }


def _signed_json(found: Signed) -> dict[str, Any]:
    return {
        "role": found.role,
        "version": found.version,
        "expires": format_time(found.expires),
        "signed": list(found.by),
        "open": list(found.open),
        "missing": found.missing,
    }


def draft_lines(ask: Asked, found: Difference) -> Iterable[str]:
    """A draft in words."""
    for held in found.holdings:
        was = f"{held.old_threshold}/{len(held.old)} {', '.join(held.old) or '-'}"
        now = f"{held.new_threshold}/{len(held.new)} {', '.join(held.new) or '-'}"
        yield ask.say(f"holders of {held.role}: {was}", f"{held.role} 持有人：{was}")
        yield f"    → {now}"
    for file in found.files:
        yield from _file_lines(ask, file)
    if found.everybody:
        yield ask.say("Reaches every node.", "影响全部节点。")
    elif found.nodes:
        shown = ", ".join(found.nodes[:_MOST_NODES])
        more = len(found.nodes) - _MOST_NODES
        tail = f" … +{more}" if more > 0 else ""
        count = len(found.nodes)
        yield ask.say(
            f"Reaches {count} nodes: {shown}{tail}",
            f"影响 {count} 个节点：{shown}{tail}",
        )
    for signed in found.signed:
        if not is_online(signed.role):
            yield _signed_line(ask, signed)


def _file_lines(ask: Asked, file: FileChange) -> Iterable[str]:
    words = {
        "new": ask.say("new", "新增"),
        "changed": ask.say("changed", "变更"),
        "gone": ask.say("gone", "移除"),
    }
    yield f"{words[file.kind]}  {file.path}"
    for member in file.members:
        old = "-" if member.old is None else member.old
        new = "-" if member.new is None else member.new
        yield f"    {member.key}: {old} → {new}"


def _signed_line(ask: Asked, found: Signed) -> str:
    head = f"{found.role} {found.version} → {found.expires.date().isoformat()}"
    by = ", ".join(found.by) or "-"
    if not found.missing:
        return ask.say(f"{head}: signed by {by}", f"{head}：已签名 {by}")
    left = ", ".join(found.open)
    return ask.say(
        f"{head}: signed by {by}; {found.missing} more of {left}",
        f"{head}：已签名 {by}；还需 {found.missing} 人：{left}",
    )


def show_fleet(
    ask: Asked, nodes: Sequence[Node], rings: Sequence[RingStand], *, total: int
) -> None:
    """The nodes, then the rings, then how many."""
    if ask.json:
        ask.print_json(fleet_json(nodes, rings))
        return
    for node in nodes:
        print(_node_line(ask, node))
        for why in node.why:
            print(f"    {why}")
    for ring in rings:
        print(_ring_line(ask, ring))
    bad = sum(n.needs_somebody for n in nodes)
    print(
        ask.say(
            f"{len(nodes)} of {total} nodes shown, {bad} need somebody.",
            f"共 {total} 个节点，显示 {len(nodes)} 个，其中 {bad} 个需要处理。",
        )
    )


def _node_line(ask: Asked, node: Node) -> str:
    config = ask.say("no configuration", "无中心配置")
    if node.reverted:
        config = ask.say(f"reverted: {node.reason}", f"已回退：{node.reason}")
    elif node.desired is not None:
        same = node.desired == node.running
        waits = ask.say(f"waits: {node.reason}", f"待应用：{node.reason}")
        config = ask.say("runs it", "已应用") if same else waits
    stands = ask.say(*_STANDS[node.stands])
    at = node.at or "-"
    return f"{node.node:<36} {stands:<8} {node.ring or '-':<10} {at:<28} {config}"


def _ring_line(ask: Asked, ring: RingStand) -> str:
    started = (
        ask.say("started", "已开始") if ring.started else ask.say("waits", "未开始")
    )
    return ask.say(
        f"ring {ring.name}: {started}, {ring.nodes} nodes, {ring.running} run it,"
        f" {ring.reverted} reverted ({ring.percent:.1f} %)",
        f"批次 {ring.name}：{started}，{ring.nodes} 个节点，{ring.running} 个已应用，"
        f"{ring.reverted} 个已回退（{ring.percent:.1f}%）",
    )


def fleet_json(nodes: Sequence[Node], rings: Sequence[RingStand]) -> dict[str, Any]:
    """The documented form of the fleet."""
    return {
        "healthy": not any(n.needs_somebody for n in nodes),
        "nodes": [
            asdict(n)
            | {
                "department": n.department,
                "reverted": n.reverted,
                "needs_somebody": n.needs_somebody,
            }
            for n in nodes
        ],
        "rings": [asdict(r) | {"percent": round(r.percent, 1)} for r in rings],
    }
