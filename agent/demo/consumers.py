# SPDX-License-Identifier: Apache-2.0
"""Departments of 云溪市 that ask the sample department, and what ``policy.toml`` says.

Their codes pass GB 32100 and, with prefix 99, belong to nobody.
"""

from __future__ import annotations

from importlib import resources

MEDICAL = "11990100MB0000027F"
"""云溪市医疗保障局: ``get`` with masks, ``verify`` and ``exists``, for cases of its own
(``administrative_basis``, basis like ``YBJ-2026-0042``)."""

HOUSING = "12990100MB00000357"
"""云溪市住房公积金中心: ``verify`` for ``data_verification`` only (basis like
``GJJ-JH-2026Q3``); ``work_reference`` is refused."""

POLICY = "policy.toml"


def policy_text() -> str:
    """The sample department's policy."""
    return resources.files("agent.demo").joinpath(POLICY).read_text("utf-8")
