# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of a resource document for editors.

``python -m agent.catalog.schema > config/schema/resource.json``
"""

from __future__ import annotations

import json
import sys

from agent.catalog.document import Resource


def text() -> str:
    """The schema as the file holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Resource.model_json_schema(),
    }
    return json.dumps(schema, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
