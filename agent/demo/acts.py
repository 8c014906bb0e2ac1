# SPDX-License-Identifier: Apache-2.0
"""The acts that need the running agent: push, alter, count, be refused."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.catalog.document import Resource
from agent.control.identity import IdentityFiles
from agent.demo import documents, proof
from agent.demo.line import set_faults, upload
from agent.demo.report import Kept, Pushed, Tally, Tampered
from agent.demo.screen import Watch
from agent.demo.site import Exchange, Site
from agent.errors import FepError, InternalFault, Text

JsonObject = dict[str, Any]

POLL_S = 0.1
"""Seconds between two questions to the daemon."""

PATIENCE_S = 900.0
"""Longest wait for a resource to be loaded, seconds."""

TAMPERED = "307013/000002"
"""The resource whose batch is altered: small enough for one request."""

BUSY = {"kind": "busy", "route": "POST /v1/batches", "retry_after": 1}
"""The exchange takes no batch for a while."""


@dataclass(frozen=True)
class Tampering:
    """What became of the altered copies, and the run of the true batch."""

    resource: str
    run: JsonObject
    tampered: tuple[Tampered, ...]


def flip_payload(batch: bytes) -> bytes:
    """A batch with one bit of its payload turned over."""
    line, _, payload = batch.partition(b"\n")
    middle = len(payload) // 2
    turned = bytes([payload[middle] ^ 1])
    return line + b"\n" + payload[:middle] + turned + payload[middle + 1 :]


def forge_manifest(batch: bytes) -> bytes:
    """A batch whose manifest claims one row more, under the old signature."""
    line, _, payload = batch.partition(b"\n")
    header, body, signature = line.split(b".")
    manifest = json.loads(_plain(body))
    manifest["rows"]["upsert"] += 1
    manifest["quality"]["read"] += 1
    forged = _coded(json.dumps(manifest, separators=(",", ":")).encode())
    return b".".join((header, forged, signature)) + b"\n" + payload


ALTERATIONS: tuple[tuple[Text, Callable[[bytes], bytes]], ...] = (
    (Text("one bit of the rows turned over", "数据内容翻转一个比特"), flip_payload),
    (Text("a count in the manifest forged", "伪造清单中的行数"), forge_manifest),
)


class Acts:
    """Everything that is asked of the agent and shown about it."""

    def __init__(
        self, place: Site, exchange: Exchange, daemon: subprocess.Popen[bytes]
    ) -> None:
        self._site = place
        self._exchange = exchange
        self._daemon = daemon
        self._client = place.client()
        self._files = IdentityFiles(place.state)
        self._resources = {r.code: r for r in documents.pushed()}
        self._in_source = {
            code: count(place.source, documents.table(r))
            for code, r in self._resources.items()
        }

    def push(self, watch: Watch) -> dict[str, JsonObject]:
        """Pull all but one resource until every batch is loaded; code -> its run."""
        codes = [code for code in self._resources if code != TAMPERED]
        return self._delivered({code: self._pull(code) for code in codes}, watch)

    def tamper(self, watch: Watch) -> Tampering:
        """Alter a batch before the exchange has seen it; then let the true one go.

        The exchange is told to be busy until the batch waits in the spool, and the
        agent is stopped while altered copies are sent in its name.
        """
        set_faults(self._exchange.admin, {"faults": [BUSY]})
        run = self._pull(TAMPERED)
        batch = self._waiting(TAMPERED)
        self._daemon.send_signal(signal.SIGSTOP)
        try:
            set_faults(self._exchange.admin, {"faults": []})
            tampered = tuple(self._altered(batch.read_bytes()))
        finally:
            self._daemon.send_signal(signal.SIGCONT)
        runs = self._delivered({TAMPERED: run}, watch)
        return Tampering(TAMPERED, runs[TAMPERED], tampered)

    def prove(self, runs: Mapping[str, JsonObject]) -> tuple[Pushed, ...]:
        """Count source and centre apart."""
        jobs = tuple(documents.digest_jobs(self._site, run=proof.new_id()))
        again = asyncio.run(proof.source(jobs))
        return tuple(
            self._pushed(resource, runs[code], again[code])
            for code, resource in self._resources.items()
        )

    def refused(self) -> tuple[Kept, ...]:
        """Ask for what may not leave."""
        return tuple(self._kept(resource) for resource in documents.kept())

    # --- asking the daemon --------------------------------------------------------

    def _pull(self, code: str) -> str:
        body = {"resource": code, "confirm_deletes": False}
        return str(self._client.post("/v1/pull", body)["run"])

    def _delivered(
        self, runs: Mapping[str, str], watch: Watch
    ) -> dict[str, JsonObject]:
        """The reports of runs, or of those that repeat them, once all is loaded."""
        done: dict[str, JsonObject] = {}
        for status in self._looks():
            for code in runs.keys() - done.keys():
                here = status[code]
                progress = here["progress"] or here["run"]
                name, rows = self._resources[code].name, self._in_source[code]
                watch.rows(name, read=progress["read"], of=rows)
                if _settled(here, since=runs[code]):
                    done[code] = here["run"]
            if len(done) == len(runs):
                return done
        raise InternalFault(f"not loaded within {PATIENCE_S:g} s: {sorted(runs)}")

    def _waiting(self, code: str) -> Path:
        """File of a batch that waits in the spool and was put off once.

        By then the exchange knows the catalog: the agent puts it before a batch.
        """
        for status in self._looks():
            trouble = status[code]["trouble"]
            if trouble is None or trouble["code"] != "exchange-refused":
                continue
            batches = self._batches(code)
            waiting = [b["path"] for b in batches if b["state"] == "waiting"]
            if waiting:
                return Path(waiting[0])
        raise InternalFault(f"no batch of {code} within {PATIENCE_S:g} s")

    def _batches(self, code: str) -> list[JsonObject]:
        found = self._client.get("/v1/spool", {"resource": code})["batches"]
        return list(found)

    def _looks(self) -> Iterator[dict[str, JsonObject]]:
        """Resource -> its status, again and again, not for ever."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            body = self._client.get("/v1/status")
            yield {r["resource"]: r for r in body["resources"]}
            time.sleep(POLL_S)

    # --- speaking with the exchange -----------------------------------------------

    def _altered(self, batch: bytes) -> Iterator[Tampered]:
        for what, alter in ALTERATIONS:
            answer = upload(self._exchange.url, alter(batch), files=self._files)
            said = answer.problem()
            code = str(said.get("type", "accepted")).rpartition(":")[2]
            yield Tampered(what, answer.status, code, str(said.get("detail", "")))

    def _pushed(self, resource: Resource, run: JsonObject, source: Tally) -> Pushed:
        code = resource.code
        batches = [b for b in self._batches(code) if b["run"] == run["run"]]
        last = Path(batches[-1]["path"])
        return Pushed(
            code=code,
            name=resource.name,
            share="1" if resource.share_type == "unconditional" else "2",
            in_source=self._in_source[code],
            read=run["read"],
            accepted=run["upsert"],
            quarantined=run["quarantined"],
            reasons=run["reasons"],
            warnings=run["warnings"],
            batches=len(batches),
            sent_bytes=sum(b["size"] for b in batches),
            loaded=sum(b["state"] == "loaded" for b in batches),
            source=source,
            centre=proof.centre(last, exchange=self._exchange, files=self._files),
            withheld_items=tuple(
                item.title
                for item in resource.items
                if item not in resource.shared_items()
            ),
        )

    def _kept(self, resource: Resource) -> Kept:
        try:
            self._pull(resource.code)
            refused = "accepted"
        except FepError as e:
            refused = e.code
        basis = resource.legal_basis
        return Kept(
            code=resource.code,
            name=resource.name,
            rows=count(self._site.source, documents.table(resource)),
            refused=refused,
            basis=f"《{basis.title}》{basis.article}" if basis else "",
        )


def count(source: Path, table: str) -> int:
    """Rows of a table of the department, counted without the agent."""
    db = sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)
    try:
        found = db.execute(f"select count(*) from {table}").fetchone()  # noqa: S608
    finally:
        db.close()
    return int(found[0])


def _settled(status: JsonObject, *, since: str) -> bool:
    """Whether a resource's newest run has all its receipts.

    Args:
        status: of the resource.
        since: the run that was asked for; run ids grow.

    Raises:
        InternalFault: it never will without somebody's help.
    """
    run, trouble = status["run"], status["trouble"]
    if trouble and not trouble["code"].startswith("exchange-"):
        what = f"{trouble['code']}: {trouble['detail']}"
        raise InternalFault(f"{status['resource']}: {what}")
    return bool(run["run"] >= since and run["delivered"])


def _plain(part: bytes) -> bytes:
    return base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))


def _coded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
