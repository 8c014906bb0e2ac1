# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of the centre's documents and of ``ceiling.toml``.

``python -m agent.control.schema config/schema`` writes them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from pydantic import BaseModel

from agent.control import ceiling
from agent.wire import configuration

MODELS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "ceiling.json": ceiling.Document,
        "group.json": configuration.GroupConfig,
        "node.json": configuration.NodeConfig,
        "limits.json": configuration.CityLimits,
    }
)
"""File -> what it describes."""


def text(model: type[BaseModel]) -> str:
    """The schema as the file holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **model.model_json_schema(),
    }
    return json.dumps(schema, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    for name, model in MODELS.items():
        Path(sys.argv[1], name).write_text(text(model), "utf-8")
