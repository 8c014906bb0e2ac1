# SPDX-License-Identifier: Apache-2.0
"""What a signed rejection means for the people of the department, by its code.

Source of the codes: docs/wire.md, the last row of the table of problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from agent.errors import BatchRejected, Text


class Rejection(NamedTuple):
    """A code in words.

    Args:
        title: what the exchange has found.
        remedy: what to do.
    """

    title: Text
    remedy: Text


_AFTERWARDS = Text("then `fep pull RESOURCE`.", "然后执行 `fep pull 资源代码`。")

REJECTIONS: Mapping[str, Rejection] = {
    "bad-payload": Rejection(
        Text(
            "The exchange rejected a batch: rows break the agreed format",
            "交换中心驳回了批次：记录不合约定格式",
        ),
        Text(
            "Its rows are in the quarantine folder with this reason. Correct them, or"
            f" report the detail and `fep version`; {_AFTERWARDS.en}",
            "该批记录已连同原因放入隔离区。请更正数据，或上报详情与 `fep version`；"
            f"{_AFTERWARDS.zh}",
        ),
    ),
    "mass-delete": Rejection(
        Text(
            "The exchange rejected a batch: it would delete too much",
            "交换中心驳回了批次：删除过多",
        ),
        Text(
            "Find out why first. If the rows are really gone:"
            " `fep pull RESOURCE --confirm-deletes`.",
            "请先查明原因；确已删除再执行 `fep pull 资源代码 --confirm-deletes`。",
        ),
    ),
    "snapshot-incomplete": Rejection(
        Text(
            "The exchange rejected a full copy: not all of it arrived",
            "交换中心驳回了全量数据：未收齐",
        ),
        Text(
            "`fep pull RESOURCE` sends all of it again. If it comes back, report it.",
            "执行 `fep pull 资源代码` 重新上送；反复出现请上报。",
        ),
    ),
    "bad-manifest": Rejection(
        Text(
            "The exchange rejected a batch: it does not understand its description",
            "交换中心驳回了批次：批次说明不合规范",
        ),
        Text(
            "The versions of agent and exchange do not fit: report the detail and"
            f" `fep version`; {_AFTERWARDS.en}",
            f"两端版本不符：请上报详情与 `fep version`；{_AFTERWARDS.zh}",
        ),
    ),
    "stale-epoch": Rejection(
        Text(
            "The exchange rejected a batch: an earlier one of its chain was rejected",
            "交换中心驳回了批次：同一链条中先前的批次已被驳回",
        ),
        Text(
            "`fep spool ls RESOURCE` shows which one and why; remove the cause,"
            f" {_AFTERWARDS.en}",
            "`fep spool ls 资源代码` 显示先被驳回的批次及原因；排除原因，"
            f"{_AFTERWARDS.zh}",
        ),
    ),
}


def explained(code: str, detail: str) -> Rejection | None:
    """The words for a trouble, if it is a rejection whose code is known.

    Args:
        code: of the trouble.
        detail: of the trouble; for a rejection it begins with the exchange's code.
    """
    if code != BatchRejected.code:
        return None
    return REJECTIONS.get(detail.partition(":")[0])
