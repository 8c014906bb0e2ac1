# SPDX-License-Identifier: Apache-2.0
"""Lookups through whole programs: exchange, agent, source, a department that asks.

The rows hold canaries: texts that occur nowhere else, planted in every personal field,
and looked for in everything that is left behind.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.audit import verify_log
from agent.crypto.jose import message_digest
from agent.errors import FepError
from agent.wire.problem import Problem
from sandbox.consumer.client import Heard
from tests.support import traces
from tests.support.agent_process import NODE
from tests.support.answering import POLICY, AnsweringAgent, Asker, reply
from tests.support.postgres import Server, find_programs, free_port, private_server
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.e2e

KEY = "990102198807231734"
NOBODY = "990102198807231750"
TWIN = "990102198807231777"
CANARY = {
    "citizen_id": KEY,
    "name": "金丝雀欧阳丹青",
    "address": "云溪市临河区金丝雀胡同 4711 号乙单元",
    "birth_date": "1988-07-23",
    "phone": "19947110815",
}
BASIS = "YBJ-CANARY-7311"
OFFICER = "canary-officer-0815"
PLANTED = (KEY, CANARY["name"], "金丝雀胡同", CANARY["phone"], BASIS, OFFICER)
PEOPLE = [CANARY, {**CANARY, "citizen_id": TWIN}, {**CANARY, "citizen_id": TWIN}]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """Everything running, with a policy in force."""
    with ExitStack() as stack:
        server: Server | None = None
        if request.param == "postgres":
            if find_programs() is None:
                pytest.skip("PostgreSQL is not installed")
            server = stack.enter_context(private_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fep")))
        (folder / "sandbox.toml").write_text("relay_timeout_s = 3\n")
        options = ("--config", str(folder / "sandbox.toml"))
        sandbox = stack.enter_context(running_sandbox(folder / "centre", *options))
        agent = AnsweringAgent(folder / "a", sandbox, people=PEOPLE, server=server)
        agent.fep("enrol")
        stack.enter_context(agent.running())
        asker = stack.enter_context(Asker(folder / "q", sandbox))
        agent.fep("policy", "activate")
        agent.answering()
        asker.renew()
        yield Place(folder, sandbox, agent, asker)


class Place:
    """All parties."""

    def __init__(
        self, folder: Path, sandbox: SandboxProcess, agent: AnsweringAgent, asker: Asker
    ) -> None:
        self.folder = folder
        self.sandbox = sandbox
        self.agent = agent
        self.asker = asker

    def ask(self, *keys: str, **changes: Any) -> Any:
        """The reply to a question about these persons."""
        found = self.asker.ask(self.asker.question(*keys, **changes))
        return reply(found)

    def direct(self, url: str) -> tuple[int, bytes]:
        """What the listener says to the consumer's own certificate."""
        question = self.asker.question(KEY)
        body, kind = question.jwe.encode(), {"Content-Type": "application/jose"}
        target = urlsplit(url)
        line = http.client.HTTPSConnection(
            str(target.hostname), target.port, context=self.asker.tls(), timeout=10
        )
        with closing(line):
            line.request("POST", "/v1/lookups", body, kind)
            answer = line.getresponse()
            return answer.status, answer.read()

    def records(self, kind: str = "lookup.decided") -> list[dict[str, Any]]:
        """Records of the audit log, newest first."""
        found = self.agent.client().post(
            "/v1/audit/search", {"kind": kind, "limit": 1000}
        )
        return list(found["records"])


def test_get_verify_and_exists(place: Place) -> None:
    """Masked fields, verdicts without values, and no more than there is."""
    found = place.ask(KEY, NOBODY)
    assert [r.status for r in found.results] == ["ok", "no_match"]
    assert found.results[0].data == {
        "name": CANARY["name"],
        "address": "云溪市临河区***",
        "birth_date": "1988-07-23",
    }
    assert found.masked == ("address",)
    claims = {"name": CANARY["name"], "birth_date": "1988-07-24"}
    items = [{"keys": {"citizen_id": KEY}, "claims": claims}]
    found = place.ask(op="verify", items=items, fields=["name", "birth_date"])
    verdicts = {"name": "match", "birth_date": "mismatch"}
    assert found.results[0].verdicts == verdicts
    found = place.ask(KEY, NOBODY, op="exists", fields=[])
    assert [r.status for r in found.results] == ["ok", "no_match"]


def test_a_thousand_items(place: Place) -> None:
    """One request, one record, results in order."""
    keys = [f"9901021988072{n:05d}" for n in range(999)]
    found = place.ask(*keys, KEY, fields=["name"])
    assert [r.status for r in found.results].count("ok") == 1
    assert found.results[-1].data == {"name": CANARY["name"]}
    assert place.records()[0]["items"] == 1000


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"purpose": "work_reference"}, "purpose"),
        ({"basis": "because"}, "basis"),
        ({"fields": ["phone"]}, "field"),
        ({"items": [{"keys": {"citizen_id": "%"}}, {"keys": {"citizen_id": KEY}}]}, ""),
        ({"resource": "101001/000001"}, "grant"),
    ],
    ids=["purpose", "basis", "field", "wildcard", "resource"],
)
def test_refusals_are_signed_and_recorded(
    place: Place, change: dict[str, Any], reason: str
) -> None:
    """With their reason; a wildcard has no meaning and finds nobody."""
    found = place.ask(KEY, **change)
    if reason:
        assert (found.status, found.reasons) == ("denied", (reason,))
    else:
        assert [r.status for r in found.results] == ["no_match", "ok"]
    newest = place.records()[0]
    assert newest["decision_id"] == found.policy.decision_id
    assert tuple(newest["reasons"]) == found.reasons


@pytest.mark.parametrize(
    "text",
    [
        "' OR '1'='1",
        "'; DROP TABLE citizen; --",
        f"{KEY}'/*",
        "９９０１０２１９８８０７２３１７３４",
        f" {KEY}",
        KEY.lower() + "\n",
        KEY[:17],
    ],
    ids=["or", "drop", "comment", "full-width", "blank", "newline", "partial"],
)
def test_a_key_is_a_text_and_nothing_else(place: Place, text: str) -> None:
    """No SQL, no look-alike, no part of a number finds anybody."""
    found = place.ask(text, fields=["name"])
    if found.status == "denied":
        assert found.reasons == ("key",)
    else:
        assert [r.status for r in found.results] == ["no_match"]
    assert place.ask(KEY, fields=["name"]).results[0].status == "ok"


def test_two_rows_for_one_key(place: Place) -> None:
    """A signed error, no row."""
    found = place.ask(TWIN)
    assert (found.status, found.reasons) == ("error", ("source",))


def test_the_same_message_again(place: Place) -> None:
    """The same signed reply, byte for byte; one record."""
    question = place.asker.question(KEY)
    first = place.asker.ask(question)
    second = place.asker.ask(place.asker.again(question))
    assert isinstance(first, Heard)
    assert isinstance(second, Heard)
    assert first.jws == second.jws
    recorded = [r["request"] for r in place.records()]
    assert recorded.count(message_digest(question.jws)) == 1


def test_another_message_under_a_used_id(place: Place) -> None:
    """Denied, and told as an alarm."""
    question = place.asker.question(KEY)
    reply(place.asker.ask(question))
    found = place.ask(NOBODY, jti=question.request.jti)
    assert (found.status, found.reasons) == ("denied", ("replay",))
    place.agent.wait_for("lookup.replay")


@pytest.mark.parametrize(
    "act", ["drop", "duplicate", "reorder", "swap", "delay", "alter"]
)
def test_a_relay_that_plays_tricks(place: Place, act: str) -> None:
    """Whatever it does, a reply that is taken answers its own question."""
    fault = {"kind": "relay", "act": act, "count": 1}
    questions = [place.asker.question(k) for k in (KEY, NOBODY)]
    place.sandbox.faults(fault)
    try:
        answers = place.asker.ask_all(questions)
    finally:
        place.sandbox.faults()
    wanted = [["ok"], ["no_match"]]
    for found, want in zip(answers, wanted, strict=True):
        if isinstance(found, Heard):
            assert [r.status for r in found.reply.results] == want
        else:
            assert isinstance(found, Problem | FepError)
    after = [place.asker.ask(place.asker.again(q)) for q in questions]
    assert [[r.status for r in reply(f).results] for f in after] == wanted
    recorded = [r["request"] for r in place.records()]
    assert all(recorded.count(message_digest(q.jws)) == 1 for q in questions)


def test_a_policy_is_a_draft_until_it_is_activated(place: Place) -> None:
    """A changed file changes nothing; activated, it counts for the next request."""
    try:
        place.agent.policy("# nobody\n")
        assert place.ask(KEY).status == "ok"
        assert place.agent.lookups()["policy"]["draft_differs"] is True
        rev = place.agent.fep("policy", "activate")["rev"]
        found = place.ask(KEY)
        assert (found.status, found.reasons) == ("denied", ("grant",))
        assert found.policy.rev == rev
    finally:
        place.agent.policy(POLICY)
        place.agent.fep("policy", "activate")
    assert place.ask(KEY).status == "ok"


def test_a_restart_forgets_nothing(place: Place) -> None:
    """The reply of before, the policy, the log; the new start is in it."""
    question = place.asker.question(KEY)
    first = place.asker.ask(question)
    assert place.agent.stop() == 0
    place.agent.start()
    place.agent.answering()
    again = place.asker.ask(place.asker.again(question))
    assert isinstance(first, Heard)
    assert isinstance(again, Heard)
    assert again.jws == first.jws
    assert len(place.records("audit.started")) >= 2


def test_a_revoked_consumer_is_refused(place: Place) -> None:
    """Its key is revoked at the exchange: from the next directory on, nothing."""
    with Asker(place.folder / "q2", place.sandbox, node=f"{'9' * 18}/x") as other:
        other.renew()
        found = reply(other.ask(other.question(KEY)))
        assert (found.status, found.reasons) == ("denied", ("grant",))
        kid = other.consumer.sign.public.kid
        place.sandbox.ask("POST", "/revoke", {"kid": kid})
        until = time.monotonic() + 20
        while True:
            found = other.ask(other.question(KEY))
            if isinstance(found, Problem) and found.code == "key-revoked":
                break
            assert time.monotonic() < until, found
            time.sleep(0.2)


def test_the_log_is_taken_away_and_holds(place: Place) -> None:
    """Exported, it is verified by one file alone, and each record can be proven."""
    reply(place.asker.ask(place.asker.question(KEY)))
    time.sleep(2.5)  # the exchange cosigns every second
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "log")
        place.agent.fep("audit", "export", out)
        done = subprocess.run(
            [sys.executable, "-I", str(verify_log.__file__), out],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = {r["kind"] for r in _all(place)}
    assert {"audit.started", "config.changed"} <= kinds
    kids = [r["kids"].keys() for r in _all(place) if r["kind"] == "keys.changed"]
    assert kids == [{"tls", "sign", "decrypt", "audit"}]
    assert {"policy.activated", "admin.action", "lookup.decided"} <= kinds
    n = place.records()[0]["n"]
    assert place.agent.fep("audit", "prove", str(n))["cosigned"] is True


def _all(place: Place) -> list[dict[str, Any]]:
    found = place.agent.client().post("/v1/audit/search", {"limit": 1000})
    return list(found["records"])


def test_nobody_between_learns_anything(place: Place) -> None:
    """Neither subject, key nor value: in journal, state, arguments, the exchange.

    The search is proven by texts that must be there: the canary in the source, the
    decision's id in the journal.
    """
    changes = {"basis": BASIS, "officer": {"id": OFFICER, "auth": "cert"}}
    question = place.asker.question(KEY, **changes)
    found = reply(place.asker.ask(question))
    reply(
        place.asker.ask(place.asker.question(KEY, **changes, purpose="collaboration"))
    )
    reply(place.asker.ask(place.asker.question("%", KEY, TWIN, **changes)))
    decision = found.policy.decision_id
    assert place.sandbox.process is not None
    assert place.agent.process is not None
    assert traces.in_bytes(place.agent.log.read_bytes(), [decision])
    assert traces.in_bytes(place.agent.log.read_bytes(), PLANTED) == {}
    assert traces.in_folder(place.agent.folder / "state", PLANTED) == {}
    assert traces.in_folder(place.sandbox.folder, PLANTED) == {}
    assert traces.in_process(place.sandbox.process.pid, PLANTED) == {}
    pids = _family(place.agent.process.pid)
    assert len(pids) > 1, "expected the lookup worker too"
    for pid in pids:
        for name in ("cmdline", "environ"):
            told = Path(f"/proc/{pid}/{name}").read_bytes()
            assert traces.in_bytes(told, PLANTED) == {}
    if place.agent.server is None:
        assert traces.in_folder(place.agent.source.parent, [KEY])


def test_a_crash_leaves_no_core(place: Place) -> None:
    """Killed by a fault, the daemon leaves no picture of its memory."""
    before = _cores(place)
    assert place.agent.process is not None
    pid = place.agent.process.pid
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"Max core file size +0 +0 ", limits)
    os.kill(pid, signal.SIGSEGV)
    place.agent.process.wait(20)
    place.agent.start()
    place.agent.answering()
    assert _cores(place) == before
    assert place.ask(KEY).status == "ok"


def _cores(place: Place) -> set[Path]:
    return set(place.folder.rglob("core*")) | set(Path.cwd().glob("core*"))


def _family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        for child in map(int, children):
            found += _family(child)
    return found


def test_the_listener_takes_the_exchange_and_nobody_else(place: Place) -> None:
    """The same agent on the other way; a consumer's own certificate is refused."""
    port = free_port()
    agent = place.agent
    text = agent.config.read_text("utf-8")
    assert agent.stop() == 0
    on = text.replace('listen = ""', f'listen = "127.0.0.1:{port}"\nrelay = false')
    agent.config.write_text(on, "utf-8")
    url = f"https://127.0.0.1:{port}"
    try:
        agent.start()
        agent.wait_for("listener.up", port=port)
        place.sandbox.ask("POST", "/inbound", {"node": NODE, "url": url})
        until = time.monotonic() + 10
        while agent.lookups()["audit"]["witness"] != "agrees":
            assert time.monotonic() < until
        assert place.ask(KEY).status == "ok"
        status, body = place.direct(url)
        assert (status, json.loads(body)["type"]) == (403, "urn:fep:problem:forbidden")
        assert agent.lookups()["relay"]["enabled"] is False
    finally:
        place.sandbox.ask("POST", "/inbound", {"node": NODE, "url": None})
        agent.stop()
        agent.config.write_text(text, "utf-8")
        agent.start()
        agent.answering()
    assert place.ask(KEY).status == "ok"


def test_the_status_says_how_it_stands(place: Place) -> None:
    """Channel, counts, policy, log and witness; healthy."""
    found = place.agent.lookups()
    assert found["healthy"] is True
    assert found["relay"]["up"] is True
    assert found["today"]["answered"] + found["today"]["denied"] > 0
    assert found["audit"]["origin"] == f"{NODE}/audit"
    assert found["audit"]["witness"] == "agrees"
    text = place.agent.run("status").stdout
    assert "lookups (1 open)" in text
    assert json.dumps(found)
