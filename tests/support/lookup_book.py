# SPDX-License-Identifier: Apache-2.0
"""What a consumer heard of a department, held against its log and its source.

Promises

1. Every signed reply that was heard stands in the log, by its digest, once.
2. A message gets one reply, to the byte, however often it is asked.
3. Of all messages under one id one is answered; the others are denied as ``replay``.
4. The source is asked once at most for an id, and not at all for a denied message.
5. What a killed daemon left unfinished is answered ``interrupted`` in its next life.
6. The log only grows; an export of it is whole, and begins as the last one did.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from shutil import copyfile
from typing import Any

from agent.crypto.jose import message_digest
from sandbox.consumer.client import Heard, Question
from tests.support.lookup_site import Site, digest_of, name_of, verified

REPLAY = ("replay",)
INTERRUPTED = ("interrupted",)
FORGOTTEN_S = 115
"""So long after its ``exp`` an id may soon be forgotten."""

Record = dict[str, Any]


def key_of(message: Question) -> str:
    """The person that a message asks for."""
    return message.request.items[0].keys["citizen_id"]


class Book:
    """See the module; one for all lives of a department.

    Args:
        site: the department.
        place: a folder for exports.
    """

    def __init__(self, site: Site, place: Path) -> None:
        self._site = site
        self._place = place
        self._sent: dict[str, dict[str, Question]] = {}
        self._id_of: dict[str, str] = {}
        self._owner: dict[str, tuple[Question, Heard]] = {}
        self._denied: set[str] = set()
        self._replies: set[str] = set()
        self._lines: list[str] = []
        self._records: dict[str, Record] = {}
        self._settled: dict[str, Record] = {}
        self._doomed: set[str] = set()
        self.counts: Counter[str] = Counter()

    # --- what happens ---------------------------------------------------------------

    def asks(self, message: Question) -> None:
        """A message is about to be sent."""
        jti, digest = message.request.jti, message_digest(message.jws)
        self._sent.setdefault(jti, {})[digest] = message
        self._id_of[digest] = jti

    def hears(self, message: Question, heard: Heard) -> None:
        """A signed reply to it came."""
        jti, reply = message.request.jti, heard.reply
        self.counts["replies"] += 1
        self._replies.add(digest_of(heard))
        if reply.reasons == REPLAY:
            assert reply.status == "denied"
            self._denied.add(message.jws)
            self.counts["replay"] += 1
        else:
            self._keep(message, heard)
        known = self._owner.get(jti)
        if known is not None:
            assert known[0].jws not in self._denied, "an answered message is denied"
        else:
            assert len(self._sent[jti]) > 1, "one message alone is no replay"

    def _keep(self, message: Question, heard: Heard) -> None:
        jti, reply = message.request.jti, heard.reply
        known, first = self._owner.setdefault(jti, (message, heard))
        assert known.jws == message.jws, "two messages of one id are answered"
        assert heard.jws == first.jws, "two replies to one message"
        if first is heard:
            self.counts["/".join((reply.status, *reply.reasons))] += 1
            if reply.status == "ok":
                _check_data(message, heard)

    def check_all_answered(self, messages: Iterable[Question]) -> None:
        """These were asked just now: of all messages of one id one has its reply."""
        asked = {message.jws for message in messages}
        for jti, same in self._sent.items():
            if all(message.jws in asked for message in same.values()):
                assert jti in self._owner, "an id has denials only"

    def dies(self) -> None:
        """The daemon was killed."""
        self.counts["deaths"] += 1
        self._doomed |= self._site.kept().unfinished()
        self.check()

    # --- what must be so ------------------------------------------------------------

    def check(self) -> None:
        """Every promise but the last, from files alone."""
        kept = self._site.kept()
        old = len(self._lines)
        assert kept.lines[:old] == self._lines, "the log does not only grow"
        self._lines = kept.lines
        for line in kept.lines[old:]:
            self._read(json.loads(line))
        assert self._replies <= self._records.keys(), "a reply is not in the log"
        self._check_requests(kept.requests, kept.owners)
        self._check_source()

    def _read(self, record: Record) -> None:
        if record["kind"] != "lookup.decided":
            return
        assert record["reply"] not in self._records, "a reply is in the log twice"
        self._records[record["reply"]] = record
        if tuple(record["reasons"]) == REPLAY:
            return
        jti = self._id_of[record["request"]]
        assert jti not in self._settled, "a request was decided twice"
        self._settled[jti] = record
        if jti in self._doomed:
            assert tuple(record["reasons"]) == INTERRUPTED

    def _check_requests(
        self, requests: dict[str, int | None], owners: dict[str, str]
    ) -> None:
        before = int(time.time()) - FORGOTTEN_S
        for jti, (message, heard) in self._owner.items():
            record = self._settled[jti]
            assert record["reply"] == digest_of(heard)
            assert record["request"] == message_digest(message.jws)
            if message.request.exp > before:
                assert requests[jti] == record["n"]
                assert owners[jti] == record["request"]

    def _check_source(self) -> None:
        asked = self._site.trail.asked()
        for jti, messages in self._sent.items():
            times = {digest: asked[key_of(m)] for digest, m in messages.items()}
            assert sum(times.values()) <= 1, "the source was asked twice for one id"
            record = self._settled.get(jti)
            if record is not None and record["status"] == "ok":
                assert times[record["request"]] == 1
            if record is not None and record["request"] in times:
                assert sum(times.values()) == times[record["request"]]

    def check_alive(self) -> None:
        """Once the daemon has started nothing is left unfinished."""
        kept = self._site.kept()
        left = kept.unfinished() & self._doomed
        assert not left, "recovery left a request unfinished"
        self.check()
        assert all(jti in self._settled for jti in self._doomed)
        self.counts["interrupted"] = len(self._doomed)

    def check_export(self) -> None:
        """The log as it is given away, judged by a process that knows nothing of us."""
        trust, head = self._place / "trust.json", self._place / "head.txt"
        with tempfile.TemporaryDirectory(dir=self._place) as name:
            folder = Path(name) / "log"
            size = self._site.export(folder)
            words = []
            if trust.exists():
                words = ["--trust", str(trust), "--head", str(head)]
            else:
                copyfile(folder / "keys.json", trust)
            found = verified(folder, *words)
            assert found["good"] is True
            assert found["size"] == size
            assert found["cosigned"] > 0
            text = (folder / "leaves-00000.jsonl").read_text("utf-8")
            assert text.splitlines()[: len(self._lines)] == self._lines[:size]
            head.write_text(_last_note(folder / "checkpoints.txt"), "utf-8")
        self.counts["exports"] += 1


def _check_data(message: Question, heard: Heard) -> None:
    (result,) = heard.reply.results
    name = name_of(key_of(message))
    if name is None:
        assert result.status == "no_match"
    else:
        shown = (result.data or {})["name"] or ""
        assert shown == name or "*" in shown  # by the policy of then


def _last_note(path: Path) -> str:
    """The last of several signed notes; each has an empty line in its middle."""
    parts = path.read_text("utf-8").rstrip("\n").split("\n\n")
    return "\n\n".join(parts[-2:]) + "\n"
