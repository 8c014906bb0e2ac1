# SPDX-License-Identifier: Apache-2.0
"""A complete resource document, and ways to change it."""

from __future__ import annotations

import copy
import tomllib
from typing import Any

from agent.catalog.document import Resource

COMPLETE = """
code = "101001/000001"
name = "人员基本信息"
version = 1
push = true
resource_class_path = ["基础信息资源", "人口"]
abstract = "参保人员的身份和状态。"
provider_name = "云溪市人力资源和社会保障局"
provider_code = "11990100MB0000018H"
responsible_party = "信息中心"
authoritative_source = "云溪市人力资源和社会保障局"
format_category = "database"
format_type = "postgresql"
share_type = "conditional"
share_condition = "须说明事项"
share_scope = "市直部门"
share_method = "database"
open_to_public = false
update_cycle = "daily"
update_deadline = "每日 8 时前"
published_on = 2026-09-01
secrecy_level = "unclassified"

[secrecy_review]
reviewer = "保密办"
on = 2026-08-20

[binding]
source = "rsj"
table = "public.person"
columns = { title = "zw" }

[[items]]
name = "person_id"
title = "人员编号"
type = "I"
key = true

[[items]]
name = "title"
title = "职务"
type = "C"
length = 20
"""


def raw(**changes: Any) -> dict[str, Any]:
    """The document as tables, with top-level keys changed; None removes one."""
    found = copy.deepcopy(tomllib.loads(COMPLETE))
    for key, value in changes.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = value
    return found


def resource(**changes: Any) -> Resource:
    """The document as a model."""
    return Resource.model_validate(raw(**changes))


def with_item(**item: Any) -> Resource:
    """The document with one more item, or one changed by name."""
    tables = raw()
    items = [i for i in tables["items"] if i["name"] != item.get("name", "extra")]
    base = {"name": "extra", "title": "附加", "type": "C", "length": 5}
    tables["items"] = [*items, {**base, **item}]
    return Resource.model_validate(tables)
