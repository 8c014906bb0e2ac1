# SPDX-License-Identifier: Apache-2.0
"""The daemon and a command speak over a real Unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.audit.events import AdminAction
from agent.errors import (
    AuditWriteFailed,
    BatchUnknown,
    Busy,
    DaemonAbsent,
    FepError,
    InternalFault,
    NotEnrolled,
    PeerUnknown,
    RecordUnknown,
    ResourceUnknown,
    SocketDenied,
    UsageFault,
)
from agent.local.client import LocalClient
from agent.local.server import People, application, serving
from agent.local.spooling import SpoolDesk
from agent.pipeline.flow.errands import Mended, Replay
from agent.state import KeptReceipt, Proof

NODE = "11990100MB0000027F/ybj-fep1"
CODE = "330100001/000001"


class Desk:
    """An in-memory stand-in for the daemon."""

    def __init__(self) -> None:
        self.paused: list[str | None] = []
        self.ended = asyncio.Event()

    def version(self) -> dict[str, Any]:
        return {"agent": "fep-agent", "version": "0.1.0"}

    def status(self, resource: str | None) -> dict[str, Any]:
        if resource not in (None, CODE):
            raise ResourceUnknown(resource)
        return {"resources": [{"resource": CODE, "name": "人员基本信息"}]}

    def metrics(self) -> str:
        return "fep_up 1\n"

    async def pull(
        self, resource: str, *, confirm_deletes: bool, kind: str, report: str | None
    ) -> dict[str, Any]:
        if resource in self.paused:
            raise Busy(f"{resource} is paused")
        return {"run": "run-1" if not confirm_deletes else "run-2"}

    async def wait(self, run: str, *, delivered: bool) -> dict[str, Any]:
        await self.ended.wait()
        return {"run": run, "state": "read"}

    def pause(self, resource: str | None) -> None:
        self.paused.append(resource)

    def resume(self, resource: str | None) -> None:
        self.paused.remove(resource)

    def spool(self, resource: str | None) -> dict[str, Any]:
        return {"batches": [resource]}

    def batch(self, resource: str, *, epoch: int, seq: int) -> dict[str, Any]:
        raise InternalFault(f"{resource} {epoch} {seq}")


class Policies:
    """A policy that is always the same."""

    def __init__(self) -> None:
        self.activated: list[tuple[str | None, int]] = []

    def show(self) -> dict[str, Any]:
        return {"active": None, "draft": {"digest": "d"}}

    async def activate(self, *, digest: str | None, uid: int) -> dict[str, Any]:
        self.activated.append((digest, uid))
        return {"rev": 1}


class Audit:
    """A log that says what it was asked."""

    async def search(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"asked": dict(body)}

    async def prove(self, n: int) -> dict[str, Any]:
        if n > 9:
            raise RecordUnknown(f"{n}")
        return {"n": n}

    async def evidence(self, n: int, *, uid: int) -> dict[str, Any]:
        return {"n": n, "uid": uid}

    async def erase(self, day: str, *, uid: int) -> dict[str, Any]:
        return {"day": day, "uid": uid}

    async def export(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"asked": dict(body)}

    async def leaves(self, start: int, *, size: int) -> dict[str, Any]:
        return {"asked": [start, size]}

    async def tiles(self, level: int, number: int, *, size: int) -> dict[str, Any]:
        return {"asked": [level, number, size]}

    async def checkpoints(self, since: int, *, size: int) -> dict[str, Any]:
        return {"asked": [since, size]}


class Keys:
    """A keeper that says what it was asked."""

    def view(self) -> dict[str, Any]:
        return {"keys": []}

    async def rotate(self, purposes: Sequence[str]) -> dict[str, Any]:
        return {"asked": list(purposes)}


class OtherNodes:
    """A watch that knows one node."""

    def __init__(self) -> None:
        self.accepted: list[str] = []

    def view(self) -> dict[str, Any]:
        return {"peers": []}

    async def accept(self, node: str) -> dict[str, Any]:
        if node != NODE:
            raise PeerUnknown(node)
        self.accepted.append(node)
        return {"peers": []}


class Held:
    """The centre's configuration, held or not."""

    def __init__(self) -> None:
        self.until: list[tuple[str | None, str, int]] = []

    def view(self) -> dict[str, Any]:
        return {"pinned": True}

    def history(self, limit: int) -> dict[str, Any]:
        return {"history": [limit]}

    async def hold(self, until: str | None, *, reason: str, uid: int) -> dict[str, Any]:
        self.until.append((until, reason, uid))
        return {"hold": until}


class Tools:
    """A push flow that says what it was asked about its spool."""

    async def proofs(
        self, resource: str, *, since: str, after: tuple[int, int]
    ) -> tuple[list[Any], tuple[int, int] | None]:
        if resource != CODE:
            raise ResourceUnknown(resource)
        kept = KeptReceipt(1, 7, "loaded", None, None, since, "a.b.c", since, "5a")
        return [Proof(kept, "d.e.f")], after if after != (1, 7) else None

    async def resources(self) -> Sequence[str]:
        return [CODE, "9/9"]

    async def look(self, resource: str, *, after: tuple[int, int]) -> Any:
        return Mended(after[0], after[1])

    async def mend(self, resource: str, places: Sequence[tuple[int, int]]) -> Any:
        return Mended(len(places), None)

    async def replay(self, resource: str, since: str, *, do: bool) -> Any:
        return Replay(resource, (1, 2), "none", None, 0, (), done=do)


class Office:
    """A served socket, its desk and what was put into the audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.desk = Desk()
        self.policies = Policies()
        self.keys = Keys()
        self.peers = OtherNodes()
        self.config = Held()
        self.spool = SpoolDesk(
            Tools(),
            directory=path.parent / "directory.jws",
            vouchers=path.parent / "vouchers",
        )
        self.told: list[AdminAction] = []
        self.log_fails: FepError | None = None

    async def record(self, event: AdminAction) -> int:
        if self.log_fails is not None:
            raise self.log_fails
        self.told.append(event)
        return len(self.told)

    @property
    def people(self) -> People:
        return People(
            record=self.record,
            policies=self.policies,
            audit=Audit(),
            spool=self.spool,
            keys=self.keys,
            peers=self.peers,
            config=self.config,
        )

    async def get(self, path: str, **query: object) -> Any:
        return await asyncio.to_thread(LocalClient(self.path).get, path, query)

    async def post(self, path: str, **body: object) -> Any:
        return await asyncio.to_thread(LocalClient(self.path).post, path, body)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A daemon's socket."""
    office = Office(tmp_path / "fep.sock")
    async with serving(application(office.desk, office.people), office.path):
        yield office


async def test_an_answer_arrives_as_it_was_given(office: Office) -> None:
    """Chinese names survive the way."""
    body = await office.get("/v1/status")
    assert body["resources"][0]["name"] == "人员基本信息"


async def test_only_owner_and_group_may_use_the_socket(office: Office) -> None:
    """Mode 0660."""
    assert stat.S_IMODE(office.path.stat().st_mode) == 0o660


async def test_what_changes_something_is_told_with_the_callers_uid(
    office: Office,
) -> None:
    """The uid comes from the kernel, not from the caller."""
    await office.post("/v1/pause", resource=CODE)
    assert office.told == [AdminAction(uid=os.getuid(), action="pause", resource=CODE)]


async def test_looking_is_not_told(office: Office) -> None:
    """Status and spool leave no admin event."""
    await office.get("/v1/status", resource=CODE)
    await office.get("/v1/spool")
    assert office.told == []


async def test_what_cannot_be_recorded_is_not_done(office: Office) -> None:
    """The record comes first; without it nobody is paused, nothing activated."""
    office.log_fails = AuditWriteFailed("disk full")
    for path, body in (
        ("/v1/pause", {"resource": CODE}),
        ("/v1/policy/activate", {}),
        ("/v1/audit/erase", {"day": "2026-11-01"}),
    ):
        with pytest.raises(AuditWriteFailed):
            await office.post(path, **body)
    assert office.desk.paused == []
    assert office.policies.activated == []


async def test_free_text_is_not_recorded(office: Office) -> None:
    """Whatever was typed in place of a resource stays out of the audit log."""
    await office.post("/v1/pause", resource="张三 110101199003070011")
    assert office.told[0].resource is None


async def test_a_name_in_place_of_a_day_is_not_recorded(office: Office) -> None:
    """A record is for ever."""
    for text in ("张三", "2026-11-2", "20261101", "２０２６-11-01", "2026-11-01\n"):
        with pytest.raises(UsageFault):
            await office.post("/v1/audit/erase", day=text)
    assert office.told == []


async def test_a_policy_is_activated_by_whoever_asks(office: Office) -> None:
    """With the digest that was looked at and the caller's uid, and recorded."""
    assert await office.get("/v1/policy") == office.policies.show()
    await office.post("/v1/policy/activate", digest="d")
    assert office.policies.activated == [("d", os.getuid())]
    assert [e.action for e in office.told] == ["policy activate"]


async def test_the_log_is_searched_proven_erased_and_taken_away(office: Office) -> None:
    """Every question arrives; what shows or destroys evidence is recorded."""
    uid = os.getuid()
    found = await office.post("/v1/audit/search", kind="lookup.decided")
    assert found == {"asked": {"kind": "lookup.decided"}}
    assert await office.get("/v1/audit/prove", n=3) == {"n": 3}
    with pytest.raises(RecordUnknown):
        await office.get("/v1/audit/prove", n=10)
    assert await office.post("/v1/audit/evidence", n=3) == {"n": 3, "uid": uid}
    body = await office.post("/v1/audit/erase", day="2026-11-01")
    assert body == {"day": "2026-11-01", "uid": uid}
    assert await office.post("/v1/audit/export") == {"asked": {}}
    query = {"level": 0, "number": 1, "size": 2}
    assert (await office.get("/v1/audit/tiles", **query))["asked"] == [0, 1, 2]
    assert (await office.get("/v1/audit/leaves", start=0, size=2))["asked"] == [0, 2]
    query = {"since": 0, "size": 2}
    assert (await office.get("/v1/audit/checkpoints", **query))["asked"] == [0, 2]
    actions = [e.action for e in office.told]
    assert actions == ["audit search", "audit erase 2026-11-01", "audit export"]


async def test_the_daemons_error_is_the_commands_error(office: Office) -> None:
    """Class and detail are the same on both sides."""
    with pytest.raises(ResourceUnknown) as e:
        await office.get("/v1/status", resource="no/such")
    assert e.value.detail == "no/such"


async def test_a_paused_resource_is_busy(office: Office) -> None:
    """A pull of it is refused as Busy."""
    await office.post("/v1/pause", resource=CODE)
    with pytest.raises(Busy):
        await office.post("/v1/pull", resource=CODE)


async def test_confirming_deletes_is_an_action_of_its_own(office: Office) -> None:
    """The audit can tell a confirmed pull from a plain one."""
    body = await office.post("/v1/pull", resource=CODE, confirm_deletes=True)
    assert body["run"] == "run-2"
    assert office.told[0].action == "pull --confirm-deletes"


@pytest.mark.parametrize(
    ("asked", "action"),
    [
        ({"kind": "reconcile", "report": "keys-1.jsonl"}, "reconcile"),
        ({"kind": "compare"}, "compare"),
        ({"kind": "recall"}, "recall"),
        ({"kind": "recall", "confirm_deletes": True}, "recall --confirm-deletes"),
        ({"kind": "deletes"}, "pull"),
    ],
)
async def test_a_comparison_and_a_recall_are_actions_of_their_own(
    office: Office, asked: dict[str, Any], action: str
) -> None:
    """Who took a resource back is not found under pulls."""
    await office.post("/v1/pull", resource=CODE, **asked)
    assert office.told[0].action == action


@pytest.mark.parametrize(
    "name",
    ["../keys", "a/b", "/etc/passwd", ".hidden", "", "a" * 101, 7, "a\nb", "钥匙"],
)
async def test_a_report_has_a_plain_name_in_our_own_folder(
    office: Office, name: object
) -> None:
    """Nobody in the group chooses where the agent writes."""
    with pytest.raises(UsageFault, match="report"):
        await office.post("/v1/pull", resource=CODE, kind="compare", report=name)
    assert not office.told


async def test_only_a_comparison_has_a_report(office: Office) -> None:
    """A pull finds no keys that differ."""
    with pytest.raises(UsageFault, match="report"):
        await office.post("/v1/pull", resource=CODE, report="keys")


async def test_a_run_that_goes_on_is_answered_in_time(office: Office) -> None:
    """A wait that ends first says `running`; the run is not disturbed."""
    assert (await office.get("/v1/run", run="r1"))["state"] == "running"
    office.desk.ended.set()
    assert (await office.get("/v1/run", run="r1", wait_s=5))["state"] == "read"


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/run", {}),
        ("/v1/run", {"run": "r", "wait_s": "-1"}),
        ("/v1/batch", {"resource": CODE, "epoch": "1"}),
        ("/v1/batch", {"resource": CODE, "epoch": "1e3", "seq": "1"}),
        ("/v1/nothing", {}),
    ],
)
async def test_a_wrong_question_is_a_usage_fault(
    office: Office, path: str, query: dict[str, str]
) -> None:
    """Missing and malformed members are named, nothing breaks."""
    with pytest.raises(UsageFault):
        await office.get(path, **query)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"{}" + b" " * 70_000,
        b'{"resource": 7}',
        b'{"resource": "a", "confirm_deletes": "no"}',
        b'{"resource": "a", "confirm_deletes": null}',
        b'{"resource": "a", "resource": "b"}',
        b'{"resource": "\\ud800"}',
        b'{"resource": "a", "x": ' + b"9" * 5000 + b"}",
        b'{"resource": "a", "x": NaN}',
        b'{"resource": "a", "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b'{"a":' * 10_000,
    ],
)
@pytest.mark.parametrize("route", ["pull", "pause", "resume"])
async def test_a_wrong_body_is_a_usage_fault(
    office: Office, route: str, body: bytes
) -> None:
    """What is not a small, plain JSON object is refused before anything happens."""
    answer = await asyncio.to_thread(sent, office.path, route, body)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))
    assert b'"code": "usage"' in answer
    assert office.told == []


async def test_the_bodys_content_type_changes_nothing(office: Office) -> None:
    """It is read as JSON in UTF-8; a charset that nobody knows ends nothing."""
    kind = "Content-Type: application/json; charset=nobody-knows\r\n"
    body = f'{{"resource": "{CODE}"}}'.encode()
    answer = await asyncio.to_thread(sent, office.path, "pull", body, kind)
    assert answer.startswith(b"HTTP/1.1 200")


def sent(path: Path, route: str, body: bytes, more: str = "") -> bytes:
    """The whole answer to a POST of these bytes."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(5)
        s.connect(str(path))
        head = f"POST /v1/{route} HTTP/1.1\r\nHost: fep\r\n{more}"
        head += f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        s.sendall(head.encode() + body)
        return s.makefile("rb").read()


async def test_a_fault_of_the_daemon_is_named(office: Office) -> None:
    """Status 500 with its document becomes InternalFault."""
    with pytest.raises(InternalFault) as e:
        await office.get("/v1/batch", resource=CODE, epoch=1, seq=2)
    assert e.value.detail == f"{CODE} 1 2"


async def test_a_stale_socket_is_replaced_and_a_closed_one_removed(
    tmp_path: Path,
) -> None:
    """What a killed daemon left does not stop the next one."""
    path = tmp_path / "fep.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
    async with serving(application(Desk(), Office(path).people), path):
        body = await asyncio.to_thread(LocalClient(path).get, "/v1/version")
    assert body["version"] == "0.1.0"
    assert not path.exists()


def test_no_daemon_is_a_sentence_with_the_remedy(tmp_path: Path) -> None:
    """Nobody on the socket: DaemonAbsent, which says how to start."""
    with pytest.raises(DaemonAbsent) as e:
        LocalClient(tmp_path / "fep.sock").get("/v1/status")
    assert "systemctl start fep" in e.value.remedy.en


def test_a_dead_daemons_socket_is_no_daemon(tmp_path: Path) -> None:
    """A socket that nobody listens on counts as absent."""
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "fep.sock"))
    with pytest.raises(DaemonAbsent):
        LocalClient(tmp_path / "fep.sock").get("/v1/status")


def test_a_forbidden_socket_says_who_may(tmp_path: Path) -> None:
    """PermissionError is not mistaken for an absent daemon."""
    if os.geteuid() == 0:
        pytest.skip("root may use every socket")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "fep.sock"))
        s.listen()
        (tmp_path / "fep.sock").chmod(0)
        with pytest.raises(SocketDenied):
            LocalClient(tmp_path / "fep.sock").get("/v1/status")


@pytest.mark.parametrize("answer", [b"garbage\r\n\r\n", b"", b"HTTP/1.1 500 X\r\n\r\n"])
def test_an_answer_that_is_not_ours_is_an_error_of_the_tree(
    tmp_path: Path, answer: bytes
) -> None:
    """Whatever listens there, a command ends with a named error."""
    path = tmp_path / "fep.sock"
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(path))
        s.listen()

        def serve() -> None:
            peer, _ = s.accept()
            peer.recv(65536)
            peer.sendall(answer)
            peer.close()

        import threading

        t = threading.Thread(target=serve)
        t.start()
        with pytest.raises((DaemonAbsent, InternalFault)):
            LocalClient(path).get("/v1/status")
        t.join()


async def test_receipts_come_with_their_manifest_and_their_voucher(
    office: Office,
) -> None:
    """What proves a batch is given whole, and where to go on."""
    body = await office.get("/v1/receipts", resource=CODE, epoch=1, seq=3)
    (one,) = body["receipts"]
    assert (one["jws"], one["manifest"], one["voucher"]) == ("a.b.c", "d.e.f", "5a")
    assert (one["at"], body["next"]) == ("0001-01-01T00:00:00Z", [1, 3])
    assert (await office.get("/v1/receipts/resources"))["resources"] == [CODE, "9/9"]
    with pytest.raises(UsageFault, match="since"):
        await office.get("/v1/receipts", resource=CODE, since="yesterday")


async def test_who_is_shown_receipts_is_put_down_once(office: Office) -> None:
    """At the first page, also of who begins in the middle; not at those that follow."""
    await office.get("/v1/receipts", resource=CODE)
    assert [(e.action, e.resource) for e in office.told] == [("spool export", CODE)]
    await office.get("/v1/receipts", resource=CODE, epoch=1, seq=3)  # from there
    await office.get("/v1/receipts", resource=CODE, epoch=1, seq=3)  # a page on
    assert len(office.told) == 2
    office.log_fails = AuditWriteFailed("full")
    await office.get("/v1/receipts", resource=CODE, epoch=1, seq=3)
    with pytest.raises(AuditWriteFailed):
        await office.get("/v1/receipts", resource=CODE)


async def test_a_voucher_is_found_by_its_digest_alone(
    office: Office, tmp_path: Path
) -> None:
    """No name that leads elsewhere, and the directory in use without one."""
    digest = "5a" * 32
    (tmp_path / "vouchers").mkdir()
    (tmp_path / "vouchers" / f"{digest}.jws").write_text("a.b.c")
    assert (await office.get("/v1/voucher", digest=digest))["jws"] == "a.b.c"
    with pytest.raises(UsageFault, match="64 lower hex"):
        await office.get("/v1/voucher", digest="../directory")
    with pytest.raises(BatchUnknown):
        await office.get("/v1/voucher", digest="00" * 32)
    with pytest.raises(NotEnrolled):
        await office.get("/v1/voucher")


async def test_mending_and_sending_again_are_put_down_first(office: Office) -> None:
    """Who did it is in the audit log; who only looked is not."""
    asks = {"resource": CODE, "since": "2026-11-21T08:00:00Z"}
    assert not (await office.post("/v1/spool/replay", **asks, do=False))["done"]
    assert (await office.post("/v1/spool/replay", **asks, do=True))["done"]
    await office.post("/v1/spool/repair", resource=CODE, batches=[[1, 2]])
    assert [e.action for e in office.told] == ["spool replay", "spool repair"]


@pytest.mark.parametrize("batches", [None, 1, [1], [["1", 2]], [[1, 2, 3]]])
async def test_only_places_of_batches_are_mended(
    office: Office, batches: object
) -> None:
    """[[epoch, seq], ...] and nothing else."""
    with pytest.raises(UsageFault, match="batches"):
        await office.post("/v1/spool/repair", resource=CODE, batches=batches)


async def test_a_change_of_keys_is_recorded_before_it_is_done(office: Office) -> None:
    """Who asked stands in the log; what is no purpose is refused before."""
    assert await office.get("/v1/keys") == {"keys": []}
    found = await office.post("/v1/keys/rotate", purposes=["sign"])
    assert found == {"asked": ["sign"]}
    assert [event.action for event in office.told] == ["keys rotate"]
    for wrong in ([], ["sign"] * 5, [1], "sign"):
        with pytest.raises(UsageFault):
            await office.post("/v1/keys/rotate", purposes=wrong)
    assert len(office.told) == 1


async def test_other_nodes_are_accepted_by_name_and_on_record(office: Office) -> None:
    """Who accepted stands in the log; what is no node is refused before."""
    assert await office.get("/v1/peers") == {"peers": []}
    await office.post("/v1/peers/accept", node=NODE)
    assert office.peers.accepted == [NODE]
    with pytest.raises(PeerUnknown):
        await office.post("/v1/peers/accept", node=f"{NODE}x")
    assert [event.action for event in office.told] == ["peers accept"] * 2
    for wrong in (None, 3, "../x"):
        with pytest.raises(UsageFault):
            await office.post("/v1/peers/accept", node=wrong)
    assert len(office.told) == 2


async def test_hold_of_the_configuration_is_put_down_with_who_asked(
    office: Office,
) -> None:
    """Until when, too; what is no time is refused before anything is done."""
    until = "2026-11-23T08:00:00Z"
    assert await office.get("/v1/config") == {"pinned": True}
    assert await office.get("/v1/config/history", limit=9999) == {"history": [500]}
    held = await office.post("/v1/config/hold", until=until, reason="年终")
    assert held == {"hold": until}
    await office.post("/v1/config/hold", until=None)
    assert [event.action for event in office.told] == [
        f"config hold {until}",
        "config release",
    ]
    uid = os.getuid()
    assert office.config.until == [(until, "年终", uid), (None, "", uid)]
    for wrong in ("tomorrow", 5, f"{until} "):
        with pytest.raises(UsageFault):
            await office.post("/v1/config/hold", until=wrong)
    for wrong in ("x" * 201, "two\nlines", "\u2028", 5):
        with pytest.raises(UsageFault):
            await office.post("/v1/config/hold", until=until, reason=wrong)
    assert len(office.config.until) == 2
