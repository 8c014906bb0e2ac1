# SPDX-License-Identifier: Apache-2.0
"""What a frontier rests on: whoever changes that is followed by a full read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.model.item import Item, ItemType
from agent.model.job import BoundItem, Job
from agent.pipeline.flow.start import basis

NAME = BoundItem(Item("name", ItemType.C, 20, None, False, "1"), "xm")
JOB = Job(
    kind="pull",
    resource="101001/000001",
    run="019abcde-0000-7000-8000-000000000001",
    connector="mysql",
    source={},
    table=("town", "person"),
    items=(NAME,),
    timezone="Asia/Shanghai",
    severity={},
    batch_raw_bytes=8_000_000,
    max_rows_per_batch=200_000,
    quarantine="",
    statement_timeout_s=60,
)


@pytest.mark.parametrize(
    "other",
    [
        replace(JOB, connector="postgres"),
        replace(JOB, table=("town", "people")),
        replace(JOB, number="id"),
        replace(JOB, items=(replace(NAME, encoding="gb18030"),)),
        replace(JOB, items=(replace(NAME, encoding="big5"),)),
        replace(JOB, items=(replace(NAME, column="name"),)),
        replace(JOB, items=(replace(NAME, column="name_2"),)),
    ],
)
def test_what_was_sent_by_another_rule_is_sent_again(other: Job) -> None:
    """Rows that were read from elsewhere, or decoded otherwise, mean something else."""
    bases = {basis(JOB, 1), basis(JOB, 2), basis(other, 1)}
    assert len(bases) == 3
