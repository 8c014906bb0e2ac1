# SPDX-License-Identifier: Apache-2.0
"""JSON Schema of ``policy.toml`` for editors.

``python -m agent.lookup.policy.schema > config/schema/policy.json``
"""

from __future__ import annotations

import json
import sys

from agent.lookup.policy.document import Document


def text() -> str:
    """The schema as the file holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Document.model_json_schema(),
    }
    return json.dumps(schema, ensure_ascii=False, indent=2, sort_keys=True) + "\n"


if __name__ == "__main__":
    sys.stdout.write(text())
