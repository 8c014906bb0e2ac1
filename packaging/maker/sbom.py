# SPDX-License-Identifier: Apache-2.0
"""The bill of materials of a package: CycloneDX 1.6 in JSON.

It is read from what is in the package, not from the lock: a library that is not there
is not named. The interpreter's own parts come from the list beside it; the readers'
library has its checksum.
"""

from __future__ import annotations

import email
import json
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from maker import native
from maker.place import PREFIX, ROOT, SITE, checksum, epoch, version


def bill(name: str, arch: str, *roots: Path) -> str:
    """The document for the files below the roots."""
    found = {c["bom-ref"]: c for root in roots for c in _components(root)}
    parts = [found[ref] for ref in sorted(found)]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(epoch(), UTC).isoformat(),
            "component": {
                "type": "application",
                "bom-ref": f"{name}@{version()}",
                "name": name,
                "version": version(),
                "licenses": [{"license": {"id": "Apache-2.0"}}],
                "properties": [{"name": "fep:machine", "value": arch}],
            },
        },
        "components": parts,
        "dependencies": [
            {"ref": f"{name}@{version()}", "dependsOn": [c["bom-ref"] for c in parts]}
        ],
    }
    told = json.dumps(body, sort_keys=True)
    number = uuid.uuid5(uuid.NAMESPACE_URL, told)
    whole = {"serialNumber": f"urn:uuid:{number}", **body}
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _components(root: Path) -> Iterator[dict[str, Any]]:
    yield from _libraries(root / SITE)
    yield from _native(root)
    yield from _ours(root)


def _libraries(site: Path) -> Iterator[dict[str, Any]]:
    """Every Python distribution, with the hashes that the lock holds of it."""
    hashes = _hashes()
    for path in sorted(site.glob("*.dist-info/METADATA")):
        told = email.message_from_string(path.read_text("utf-8"))
        name, number = str(told["Name"]), str(told["Version"])
        if name.startswith("fep-"):
            continue
        purl = f"pkg:pypi/{re.sub(r'[-_.]+', '-', name).lower()}@{number}"
        found: dict[str, Any] = {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": number,
            "purl": purl,
        }
        said = told["License-Expression"] or told["License"]
        if said and len(said) < 80 and "\n" not in said:
            found["licenses"] = [{"license": {"name": said}}]
        if known := hashes.get(purl):
            found["properties"] = [
                {"name": "fep:locked-sha256", "value": value} for value in known
            ]
        yield found


def _hashes() -> dict[str, list[str]]:
    text = (ROOT / "requirements.lock").read_text("utf-8")
    found = {}
    for entry in re.split(r"\n(?=[A-Za-z0-9])", text):
        name, _, rest = entry.partition("==")
        number = re.split(r"[ \\;\n]", rest)[0]
        found[f"pkg:pypi/{name}@{number}"] = re.findall(r"sha256:([0-9a-f]{64})", entry)
    return found


def _native(root: Path) -> Iterator[dict[str, Any]]:
    """What the interpreter was compiled from."""
    path = root / PREFIX / "python" / "sources.txt"
    if not path.is_file():
        return
    for line in path.read_text("utf-8").splitlines():
        name, upstream, package, debian = line.split()
        purl = f"pkg:deb/debian/{package}@{debian}?arch=source"
        yield {
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": upstream,
            "purl": purl,
        }


def _ours(root: Path) -> Iterator[dict[str, Any]]:
    """The readers' library, which was compiled from the agent's own sources."""
    path = root / SITE / native.NAME
    if path.is_file():
        yield {
            "type": "library",
            "bom-ref": f"{path.name}@{version()}",
            "name": path.name,
            "version": version(),
            "licenses": [{"license": {"id": "Apache-2.0"}}],
            "hashes": [{"alg": "SHA-256", "content": checksum(path)}],
        }
