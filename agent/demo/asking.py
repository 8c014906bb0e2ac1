# SPDX-License-Identifier: Apache-2.0
"""The act in which another department asks, and the log is checked offline.

The department that asks is a process of its own with its own keys
(``python -m sandbox.consumer``); the file that checks the log is started as an auditor
would start it, alone.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.audit import export, verify_log
from agent.demo import consumers, department, documents
from agent.demo.report import Asked, Checked
from agent.demo.site import Site
from agent.errors import FepError, InternalFault, Text

JsonObject = dict[str, Any]

ASKER = f"{consumers.MEDICAL}/ybj-fep1"
"""Node of the department that asks."""
RESOURCE = "101001/000001"
FIELDS = ("name", "citizen_id", "birth_date", "address", "status")
PATIENCE_S = 30.0
"""Longest wait for a process, or for the exchange's cosignature, seconds."""

QUESTIONS: tuple[tuple[Text, str, str], ...] = (
    (
        Text("for a case of its own", "办理参保核定"),
        "administrative_basis",
        "YBJ-2026-0042",
    ),
    (
        Text("for a purpose that nobody granted", "用途未获授权"),
        "work_reference",
        "YBJ-2026-0042",
    ),
)
"""What for, purpose, basis."""


def activate(place: Site) -> None:
    """Put the sample policy in force; a person does that with ``fep policy``."""
    place.client().post("/v1/policy/activate", {})


def ask_both(place: Site) -> tuple[Asked, ...]:
    """Enrol the other department and ask twice."""
    home = place.folder / "ybj"
    if not (home / "tls.pem").exists():
        shutil.rmtree(home, ignore_errors=True)
        _consumer(place, "enrol", "--node", ASKER)
    person = _somebody(place.source)
    return tuple(
        _ask(place, person, what, purpose=purpose, basis=basis)
        for what, purpose, basis in QUESTIONS
    )


def _ask(place: Site, person: str, what: Text, *, purpose: str, basis: str) -> Asked:
    question = {
        "aud": f"{department.USCC}/{department.NODE}",
        "op": "get",
        "resource": RESOURCE,
        "items": [{"keys": {"citizen_id": person}}],
        "fields": list(FIELDS),
        "purpose": purpose,
        "basis": basis,
        "officer": {"id": "ybj-0042", "auth": "cert"},
    }
    reply = _consumer(place, "ask", body=question)
    results = reply["results"]
    shown = results[0].get("data", {}) if results else {}
    titles = {
        item.name: item.title
        for resource in documents.resources()
        for item in resource.items
        if resource.code == RESOURCE
    }
    return Asked(
        what=what,
        consumer=ASKER,
        resource=RESOURCE,
        purpose=purpose,
        status=reply["status"],
        reasons=tuple(reply["reasons"]),
        rule=reply["policy"].get("rule"),
        shown={titles[name]: text for name, text in shown.items()},
        masked=tuple(titles[name] for name in reply["masked"]),
    )


def _somebody(source: Path) -> str:
    """A person whose row is sound: the department's first."""
    db = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
    try:
        found = db.execute("select citizen_id from person order by rowid limit 1")
        return str(found.fetchone()[0])
    finally:
        db.close()


def _consumer(
    place: Site, *words: str, body: Mapping[str, object] | None = None
) -> JsonObject:
    """What the other department's program answers; what it asks goes by stdin."""
    command = [sys.executable, "-P", "-m", "sandbox.consumer"]
    command += ["--dir", str(place.folder / "ybj")]
    command += ["--exchange", str(place.exchange / "sandbox.json"), *words]
    done = subprocess.run(
        command,
        input=json.dumps(body) if body is not None else "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    try:
        found: JsonObject = json.loads(done.stdout)
    except ValueError:
        found = {"problem": done.stderr[-500:]}
    if "problem" in found:
        raise InternalFault(f"{words[0]}: {found['problem']}")
    return found


# --- the log ------------------------------------------------------------------------


def check_log(place: Site) -> Checked:
    """Take the log away, check it alone, alter a record of a copy, check that."""
    cosigned = _cosigned(place)
    folder = place.folder / "audit-log"
    shutil.rmtree(folder, ignore_errors=True)
    size = int(export.export(folder, _page(place))["size"])
    good, _ = _judged(folder)
    copy = place.folder / "audit-log-altered"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    altered = _last_decision(copy)
    _, found = _judged(copy)
    return Checked(
        folder=str(folder),
        records=size,
        cosigned=cosigned,
        good=good,
        altered=altered,
        found=found,
    )


def _page(place: Site) -> export.Ask:
    client = place.client()

    def page(what: str, members: Mapping[str, Any]) -> Any:
        if what == "export":
            return client.post("/v1/audit/export", members)
        return client.get(f"/v1/audit/{what}", members)

    return page


def _cosigned(place: Site) -> int:
    """Wait until the exchange has cosigned what stands in the log now."""
    client = place.client()
    until = time.monotonic() + PATIENCE_S
    wanted = client.get("/v1/status")["lookups"]["audit"]["size"]
    while time.monotonic() < until:
        cosigned = int(client.get("/v1/status")["lookups"]["audit"]["cosigned"])
        if cosigned >= wanted:
            return cosigned
        time.sleep(0.1)
    raise InternalFault(f"the log was not cosigned within {PATIENCE_S:g} s")


def _judged(folder: Path) -> tuple[bool, int | None]:
    """Whether the log holds, and the first record that does not."""
    program = str(verify_log.__file__)
    done = subprocess.run(
        [sys.executable, "-I", program, str(folder), "--json"],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    try:
        body = json.loads(done.stdout)
    except ValueError:
        raise InternalFault(f"the log was not judged: {done.stderr[-500:]}") from None
    return done.returncode == 0, body["first_bad"]


def _last_decision(folder: Path) -> int:
    """Turn the newest refusal of a log into an answer; its number."""
    newest = sorted(folder.glob("leaves-*.jsonl"))[-1]
    lines = newest.read_text("utf-8").splitlines(keepends=True)
    for at in reversed(range(len(lines))):
        if '"status":"denied"' in lines[at]:
            n = int(json.loads(lines[at])["n"])
            lines[at] = lines[at].replace('"denied"', '"ok"')
            newest.write_text("".join(lines), "utf-8")
            return n
    raise FepError("the log holds no refusal")
