# SPDX-License-Identifier: Apache-2.0
"""One machine of a department, from the disc with the package to its removal.

A Debian boots in a container with systemd as process 1. It has no network but a cable
to the exchange. The tests are chapters of one story: each begins where the one before
has ended, so the first that fails ends it.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agent.child.inside import NICE
from tests.support import debian
from tests.support.agent_process import NODE, PERMITS, PERSONS
from tests.support.answering import CITIZENS, POLICY, AnsweringAgent
from tests.support.asking_process import AskingProcess, Signed
from tests.support.debian import run
from tests.support.machine import HERE, NEIGHBOUR, STRANGER, Machine
from tests.support.packages import next_version, package
from tests.support.postgres import SUPERUSER, private_server
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.booted

ROWS = 500
DISK_MB = 160
PG_PERMITS = "101001/000003"
SETTINGS = """\
[agent]
node = "{node}"
[exchange]
aud = "{aud}"
url = "{url}"
ca_sha256 = "{ca_sha256}"
kid = "{kid}"
retry_base_s = 0.2
retry_cap_s = 1.0
[sources.rsj]
connector = "sqlite"
path = "/srv/rsj/rsj.db"
[push]
poll_s = 0.1
[audit]
checkpoint_s = 1.0
[spool]
quota_mb = 64
free_floor_mb = 4
ballast_mb = 0
"""
CITIZEN = {
    "citizen_id": "990102198807231734",
    "name": "欧阳丹青",
    "address": "云溪市临河区河沿胡同 4711 号乙单元",
    "birth_date": "1988-07-23",
    "phone": "19947110815",
}
QUESTION = {
    "aud": NODE,
    "op": "get",
    "resource": CITIZENS,
    "items": [{"keys": {"citizen_id": CITIZEN["citizen_id"]}}],
    "fields": ["name", "address", "birth_date"],
    "purpose": "administrative_basis",
    "basis": "YBJ-2026-0042",
    "officer": {"id": "ybj-0042", "auth": "cert"},
}
SHOWN = {
    "name": CITIZEN["name"],
    "address": "云溪市临河区***",
    "birth_date": CITIZEN["birth_date"],
}


@dataclass
class Site:
    """The machine, its disk of data, and who stands at the other end of its cable.

    Args:
        machine: with the agent.
        exchange: beside it.
        asker: another department.
        disk: the agent's data.
    """

    machine: Machine
    exchange: SandboxProcess
    asker: AskingProcess
    disk: Path

    def fep(self, *words: str, user: str = "root") -> Any:
        """The JSON of a command in the machine; it must end with 0."""
        return json.loads(
            self.machine.run("runuser", "-u", user, "--", "fep", *words, "--json")
        )

    def status(self) -> Any:
        """The same for status, which ends with 1 when somebody should look."""
        said = self.machine.run("fep", "status", "--json", check=False)
        return json.loads(said) if said.startswith("{") else {}

    def show(self, *names: str) -> dict[str, str]:
        """Properties of the service."""
        words = [f"--property={name}" for name in names]
        lines = self.machine.run("systemctl", "show", "fep", *words).splitlines()
        return dict(line.split("=", 1) for line in lines)

    def pid(self) -> int:
        """The daemon's process, as the machine numbers it; 0 if there is none."""
        return int(self.show("MainPID")["MainPID"])

    def rooms(self) -> set[str]:
        """What runs of the lookup side beside the daemon: ``door``, ``opener``, …"""
        words = ("systemd-cgls", "--no-pager", "--full", "--unit=fep.service")
        said = self.machine.run(*words)
        return set(re.findall(r"agent\.lookup\.([a-z]+)", said))

    def active(self) -> bool:
        """Whether the service has said READY."""
        return self.show("ActiveState")["ActiveState"] == "active"

    def wait_restarted(self, before: int, seconds: float = 40) -> None:
        """Until another process is the service, and ready."""
        self.machine.wait(
            lambda: self.active() and self.pid() not in (0, before),
            "a restart",
            seconds,
        )

    def journal(self) -> str:
        """The service's newest lines."""
        return self.machine.run("journalctl", "--unit=fep", "--lines=30", "--no-pager")

    def sql(self, statement: str) -> None:
        """Change the department's database."""
        with closing(sqlite3.connect(self.machine.file("/srv/rsj/rsj.db"))) as db:
            db.execute(statement)
            db.commit()

    def centre(self, resource: str = PERSONS) -> list[str]:
        """Names that the centre has of a resource, once it has loaded everything."""
        self.exchange.wait_loaded()
        table = resource.replace("/", "_")
        return [str(n) for (n,) in self.exchange.rows(f'SELECT name FROM "{table}"')]

    def deliver(self, name: str) -> None:
        """A new name of the first person, pulled, is at the centre."""
        self.sql(f"UPDATE person SET name = '{name}' WHERE id = 1")
        report = self.fep("pull", PERSONS, "--wait")
        assert (report["delivered"], report["balanced"]) == (True, True), report
        assert name in self.centre()

    def answering(self, way: str = "relay", seconds: float = 30) -> None:
        """Until lookups are answered: a way in is open, the log cosigned anew."""

        def true() -> bool:
            found = self.status().get("lookups")
            return bool(
                found
                and found[way]["up"]
                and found["audit"]["witness"] == "agrees"
                and found["healthy"]
            )

        self.machine.wait(true, "lookups to be answered", seconds)

    def asked(self) -> Signed:
        """A question that was answered just now, with what may be shown."""
        signed = self.asker.seal({**QUESTION, "exp": int(time.time()) + 110})
        self.answers(signed)
        return signed

    def answers(self, signed: Signed) -> None:
        """A message is answered, with what may be shown."""
        reply, _ = self.asker.open(signed, self.asker.send(signed))
        assert [r["data"] for r in reply["results"]] == [SHOWN], reply

    def answered_as_before(self, signed: Signed) -> None:
        """The same message again brings the very same signed reply."""
        before = self.asker.kept(signed)
        assert self.asker.open(signed, self.asker.send(signed))[1] == before

    def log_holds(self) -> None:
        """The log is taken away and judged offline; the exchange has cosigned it."""
        folder = "/srv/log"
        self.machine.run("rm", "-rf", folder)
        size = self.fep("audit", "export", folder)["size"]
        found = self.fep("audit", "verify", folder)
        assert (found["good"], found["size"]) == (True, size), found

    def evidence(self) -> dict[str, str]:
        """Settings, keys, receipts, keys of kept lookups: what nobody may lose."""
        files = [
            *self.machine.file("/etc/fep").rglob("*"),
            *(self.disk / "keys").rglob("*"),
            *(self.disk / "evidence").rglob("*"),
        ]
        found = {str(p): debian.checksum(p) for p in files if p.is_file()}
        assert len(found) > 5
        with closing(
            sqlite3.connect(f"file:{self.disk}/state.db?mode=ro", uri=True)
        ) as db:
            receipts = db.execute("SELECT * FROM receipts ORDER BY 1, 2").fetchall()
        assert receipts
        return {**found, "receipts": str(receipts)}

    def install(self, *files: Path) -> None:
        """``dpkg -i`` of files that were carried to the machine."""
        carried = [self.machine.file(f"/srv/{file.name}") for file in files]
        for file, to in zip(files, carried, strict=True):
            shutil.copy(file, to)
        names = (f"/srv/{file.name}" for file in files)
        self.machine.run("dpkg", "-i", *names, timeout=180)
        for to in carried:
            to.unlink()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A machine that is on, an exchange that listens, nothing installed."""
    folder = tmp_path_factory.mktemp("m")
    base = debian.tree(*debian.BOOTS)
    disk = folder / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m,mode=0755", "fep-test", disk)
    try:
        with debian.own(base, folder / "system") as root:
            yield from _running(root, disk, folder)
    finally:
        run("umount", disk)


def _running(root: Path, disk: Path, folder: Path) -> Iterator[Site]:
    machine = Machine(root, binds=[(disk, "/var/lib/fep")])
    exchange = SandboxProcess(
        folder / "exchange",
        "--listen",
        f"{NEIGHBOUR}:8443",
        within=("ip", "netns", "exec", machine.beside),
    )
    # What dpkg syncs only outlives a power cut of this machine, which is not tested.
    machine.file("/etc/dpkg/dpkg.cfg.d/fast").write_text("force-unsafe-io\n", "utf-8")
    try:
        machine.plug()
        exchange.start()
        machine.boot()
        yield Site(machine, exchange, AskingProcess(folder / "asker", exchange), disk)
    finally:
        machine.destroy()
        if exchange.process is not None:
            exchange.stop()


# --- the package -------------------------------------------------------------------


def test_the_package_installs_from_a_disc(site: Site) -> None:
    """Without a network: users, folders, unit and command are there; nothing runs."""
    site.install(package("fep", "deb"))
    machine = site.machine
    assert machine.run("fep", "version").startswith("agent ")
    modes = machine.run(
        "stat", "-c", "%n %U:%G %a", "/etc/fep", "/etc/fep/agent.toml", "/var/lib/fep"
    )
    assert modes.splitlines() == [
        "/etc/fep root:fep 750",
        "/etc/fep/agent.toml root:fep 640",
        "/var/lib/fep fep:fep 700",
    ]
    groups = machine.run("getent", "group").split()
    found = {line.partition(":")[0] for line in groups}
    assert {"fep", "fep-view", "fep-admin", "fep-approver", "fep-auditor"} <= found
    assert not site.active()
    assert "no-daemon" in machine.run("fep", "status", check=False)


def test_the_package_brings_the_readers_library(site: Site) -> None:
    """Its interpreter loads it, makes Arrow of it, and shows SQLite's functions."""
    code = (
        "import pyarrow; from connectors.native.page import Page\n"
        "from connectors.sqlite import handle; assert handle.functions()\n"
        "print(Page([pyarrow.string()], 1).batch(['a']).num_rows)"
    )
    said = site.machine.run("/opt/fep/python/bin/python3.13", "-IB", "-c", code)
    assert said == "0\n"


def test_the_installed_unit_is_hardened(site: Site) -> None:
    """systemd on the machine rates its exposure at most 1.5 and knows every line."""
    said = site.machine.run("systemd-analyze", "security", "--no-pager", "fep.service")
    score = re.search(r"exposure level for fep\.service: ([0-9.]+)", said)
    assert score is not None
    assert float(score[1]) <= 1.5
    unit = "/usr/lib/systemd/system/fep.service"
    assert "fep.service" not in site.machine.run("systemd-analyze", "verify", unit)


def test_unfinished_settings_end_it_once(site: Site) -> None:
    """The template as it is: exit 78, and systemd does not try again."""
    site.machine.run("systemctl", "start", "fep", check=False)
    shown = site.show("ExecMainStatus", "NRestarts", "ActiveState")
    assert shown == {"ExecMainStatus": "78", "NRestarts": "0", "ActiveState": "failed"}


# --- the first receipt -------------------------------------------------------------


def _department(site: Site, folder: Path) -> None:
    """Settings from the slip, resource documents, a database."""
    made = AnsweringAgent(
        folder / "department", site.exchange, rows=ROWS, people=[CITIZEN]
    )
    etc = site.machine.file("/etc/fep")
    for document in made.config.parent.glob("catalog/*.toml"):
        shutil.copy(document, etc / "catalog" / document.name)
    slip = {n: getattr(site.exchange, n) for n in ("aud", "url", "ca_sha256", "kid")}
    (etc / "agent.toml").write_text(SETTINGS.format(node=NODE, **slip), "utf-8")
    site.machine.file("/srv/rsj").mkdir()
    shutil.copy(made.source, site.machine.file("/srv/rsj/rsj.db"))


def test_enrol_and_first_receipt(site: Site, tmp_path: Path) -> None:
    """As the manual says it: settings, enrol, allow-list, start, pull, receipt."""
    _department(site, tmp_path)
    machine = site.machine
    assert site.fep("config", "check", user="fep")["ok"] is True
    assert site.fep("enrol", user="fep")
    found = site.fep("source", "check", PERSONS)["findings"]
    assert "readable" in {f["code"] for f in found}
    assert "reader-missing" not in {f["code"] for f in found}
    written = site.fep("service", "--write")
    assert written["addresses"] == {"exchange.url": [NEIGHBOUR]}
    machine.run("systemctl", "reset-failed", "fep")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "--quiet", "enable", "--now", "fep")
    assert site.active()
    before = site.pid()
    machine.run("systemctl", "reload", "fep")
    assert (site.active(), site.pid()) == (True, before)

    report = site.fep("pull", PERSONS, "--wait")
    assert (report["delivered"], report["balanced"]) == (True, True)
    assert (report["read"], report["loaded"]) == (ROWS, ROWS)
    assert len(site.centre()) == ROWS
    batch = site.fep("spool", "show", PERSONS, "1", "1")
    receipt = machine.file("/srv/receipt.jws")
    receipt.write_text(batch["receipts"][-1]["jws"], "utf-8")
    assert site.fep("verify", "/srv/receipt.jws")["genuine"] is True


WORKERS_NICE = """\
for found in /proc/[0-9]*; do
    grep -qs 'agent[.]pipeline[.]worker' $found/cmdline && cut -d' ' -f19 $found/stat
done
true
"""


def test_a_worker_gives_way_under_the_units_rules(site: Site) -> None:
    """The next run's waits from two seconds after a run on."""
    site.fep("pull", PERSONS, "--wait")

    def nice() -> bool:
        return str(NICE) in site.machine.run("sh", "-c", WORKERS_NICE).split()

    site.machine.wait(nice, "a worker that lets others go first", 20)


def test_a_lookup_answered(site: Site) -> None:
    """A policy is put in force; another department asks, and gets what it says.

    Before that it gets nothing; for another purpose it gets a signed refusal. Each is
    in the log, which holds when it is judged by itself.
    """
    site.asker.enrol()
    site.answering()
    reply = site.asker.ask(QUESTION)
    assert (reply["status"], reply["reasons"]) == ("denied", ["grant"])

    policy = site.machine.file("/etc/fep/policy.toml")
    assert site.fep("policy", "check")["grants"] == []
    policy.write_text(POLICY, "utf-8")
    assert site.fep("policy", "check", user="fep")["ok"] is True
    rev = site.fep("policy", "activate")["rev"]

    reply = site.asker.ask(QUESTION)
    assert (reply["status"], reply["policy"]["rev"]) == ("ok", rev)
    assert [r["data"] for r in reply["results"]] == [SHOWN]
    assert reply["masked"] == ["address"]
    refused = site.asker.ask({**QUESTION, "purpose": "work_reference"})
    assert (refused["status"], refused["reasons"]) == ("denied", ["purpose"])
    assert refused["results"] == []

    found = site.fep("audit", "search", "--kind", "lookup.decided")["records"]
    assert [r["status"] for r in found] == ["denied", "ok", "denied"]
    site.log_holds()
    assert CITIZEN["citizen_id"] not in site.machine.run("journalctl", "--no-pager")


def test_a_connector_of_its_own_package(site: Site) -> None:
    """Without it the settings are refused; with it rows go from a source to a receipt.

    The driver works within the hardened unit, and reaches its source because the
    settings name it.
    """
    etc = site.machine.file("/etc/fep")
    known = (etc / "agent.toml").read_text("utf-8")
    with private_server(
        settings={"listen_addresses": f"'{NEIGHBOUR}'"},
        hba=f"local all all trust\nhost all all {HERE}/32 trust\n",
        within=site.exchange.within,
    ) as server:
        server.sql(
            "CREATE TABLE permit AS SELECT i AS id, 'p' || i AS name"
            " FROM generate_series(1, 50) i; ALTER TABLE permit ADD PRIMARY KEY (id)"
        )
        more = '[sources.pg]\nconnector = "postgres"\ndatabase = "postgres"\n'
        more += f'host = "{NEIGHBOUR}"\nport = {server.port}\nuser = "{SUPERUSER}"\n'
        (etc / "agent.toml").write_text(known + more, "utf-8")
        document = (etc / "catalog/permit.toml").read_text("utf-8")
        document = document.replace(PERMITS, PG_PERMITS).replace('"rsj"', '"pg"')
        (etc / "catalog/pg.toml").write_text(document, "utf-8")

        said = site.machine.run("fep", "config", "check", check=False)
        assert "sources.pg.connector: expected" in said
        site.install(package("fep-connector-postgres", "deb"))
        assert site.fep("config", "check", user="fep")["ok"] is True
        found = site.fep("source", "check", PG_PERMITS, user="fep")
        assert found["ok"] is True, found

        written = site.fep("service", "--write")
        assert written["addresses"]["sources.pg.host"] == [NEIGHBOUR]
        site.machine.run("systemctl", "daemon-reload")
        site.machine.run("systemctl", "restart", "fep")
        report = site.fep("pull", PG_PERMITS, "--wait")
        assert (report["balanced"], report["loaded"]) == (True, 50)
    (etc / "agent.toml").write_text(known, "utf-8")
    (etc / "catalog/pg.toml").unlink()
    site.machine.run("dpkg", "--remove", "fep-connector-postgres")
    site.fep("service", "--write")
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "restart", "fep")


def test_a_lookup_over_the_listener(site: Site) -> None:
    """The other way in: a process that the hardened unit may start and feed.

    The allow-list lets the exchange come to it; a department's own certificate is
    turned away.
    """
    settings = site.machine.file("/etc/fep/agent.toml")
    known = settings.read_text("utf-8")
    listening = f'[lookup]\nrelay = false\nlisten = "{HERE}:8444"\n'
    settings.write_text(known + listening, "utf-8")
    url = f"https://{HERE}:8444"
    site.machine.run("systemctl", "restart", "fep")
    site.exchange.ask("POST", "/inbound", {"node": NODE, "url": url})
    site.answering(way="listener")
    site.asked()
    rooms = {"door", "opener", "query"}
    site.machine.wait(lambda: rooms <= site.rooms(), "every process of this way in")
    signed = site.asker.seal(QUESTION)
    answer = site.asker.send(signed, url=f"{url}/v1/lookups", insecure=True)
    assert (answer.status, answer.problem) == (403, "forbidden")

    site.exchange.ask("POST", "/inbound", {"node": NODE, "url": None})
    settings.write_text(known, "utf-8")
    site.machine.run("systemctl", "restart", "fep")
    site.answering()


def test_the_service_reaches_the_exchange_and_nobody_else(site: Site) -> None:
    """The allow-list written from the settings is enforced by the kernel."""
    listener = f"import socket; s = socket.create_server(({STRANGER!r}, 8443));"
    listener += " print(flush=True); input()"
    within = ("ip", "netns", "exec", site.machine.beside, sys.executable, "-c")
    pipe = subprocess.PIPE
    with subprocess.Popen([*within, listener], stdin=pipe, stdout=pipe) as stranger:
        assert stranger.stdout is not None
        assert stranger.stdout.readline() == b"\n"
        try:
            free = [_reaches(site, a, confined=False) for a in (NEIGHBOUR, STRANGER)]
            held = [_reaches(site, a, confined=True) for a in (NEIGHBOUR, STRANGER)]
        finally:
            stranger.kill()
    assert free == [True, True]
    assert held == [True, False]


def _reaches(site: Site, address: str, *, confined: bool) -> bool:
    """Whether a connection comes about, in the service's control group or outside."""
    program = (
        "import socket, sys\n"
        "if sys.argv[2] == 'confined':\n"
        "    group = '/sys/fs/cgroup/system.slice/fep.service/cgroup.procs'\n"
        "    open(group, 'w').write('0')\n"
        "try: socket.create_connection((sys.argv[1], 8443), 2)\n"
        "except OSError: print('no')\n"
        "else: print('yes')\n"
    )
    python = "/opt/fep/python/bin/python3.13"
    how = "confined" if confined else "free"
    said = site.machine.run(python, "-I", "-c", program, address, how)
    return {"yes": True, "no": False}[said.strip()]


# --- what goes wrong ---------------------------------------------------------------


def test_a_killed_daemon_is_started_again(site: Site) -> None:
    """kill -9: another process takes over, goes on, and knows what was answered."""
    signed = site.asked()
    before = site.pid()
    site.machine.run("sh", "-c", f"kill -KILL {before}")
    site.wait_restarted(before)
    assert "status=9/KILL" in site.journal()
    site.deliver("after-kill")
    site.answering()
    site.answered_as_before(signed)
    site.asked()


def test_a_stuck_event_loop_is_noticed(site: Site) -> None:
    """A process that is there but does not turn: the watchdog ends it, another goes on.

    The unit waits 60 s; here it is 4.
    """
    drop_in = site.machine.file("/etc/systemd/system/fep.service.d/watchdog.conf")
    drop_in.write_text("[Service]\nWatchdogSec=4\n", "utf-8")
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "restart", "fep")
    before = site.pid()
    site.machine.run("sh", "-c", f"kill -STOP {before}")
    site.wait_restarted(before, seconds=90)
    assert "Watchdog timeout" in site.journal()
    drop_in.unlink()
    site.machine.run("systemctl", "daemon-reload")
    site.machine.run("systemctl", "restart", "fep")
    site.deliver("after-watchdog")


def test_a_reboot_needs_nobody(site: Site) -> None:
    """After a reboot the service runs by itself, delivers and answers."""
    signed = site.asked()
    site.machine.reboot()
    site.machine.wait(site.active, "the service after the reboot")
    site.deliver("after-reboot")
    site.answering()
    site.answered_as_before(signed)
    site.asked()
    site.log_holds()


def test_a_disk_that_fills_refuses_lookups_first(site: Site) -> None:
    """The rest is kept for the records of pushes, which go on; with room it answers."""
    filler = site.disk / "filler"
    _fill(filler, leave=40_000_000)
    signed = site.asker.seal({**QUESTION, "exp": int(time.time()) + 110})
    assert site.asker.send(signed).problem == "busy"
    assert site.status()["lookups"]["healthy"] is False
    site.deliver("nearly-full")

    filler.unlink()
    site.answers(signed)


def test_a_full_disk_loses_nothing(site: Site) -> None:
    """At the floor reading waits; without a byte nothing is answered, nothing leaves.

    With room again the service begins anew by itself, and both go on.
    """
    filler = site.disk / "filler"
    _fill(filler, leave=2_000_000)
    site.sql("UPDATE person SET name = 'after-full-' || id")
    site.fep("pull", PERSONS)
    site.machine.wait(
        lambda: site.status()["spool"]["blocked"] is True, "a word about the disk"
    )
    assert "spool-full" in json.dumps(site.status())
    assert "after-full-1" not in site.centre()

    _fill(site.disk / "more", leave=0)
    before = site.pid()
    said = site.machine.run("fep", "pull", PERMITS, "--json", check=False)
    assert json.loads(said)["error"]["code"] == "audit-write-failed"
    assert site.status()["lookups"]["audit"]["stopped"] == "audit-write-failed"

    filler.unlink()
    (site.disk / "more").unlink()
    signed = site.asker.seal({**QUESTION, "exp": int(time.time()) + 120})
    assert site.asker.send(signed).problem == "busy"  # room alone mends nothing
    site.wait_restarted(before, 100)
    site.answering()
    site.answers(signed)
    site.log_holds()

    site.machine.wait(lambda: "after-full-1" in site.centre(), "the batch to go", 60)
    site.machine.wait(lambda: site.status().get("healthy") is True, "all well", 60)
    names = site.centre()
    assert (len(names), len(set(names))) == (ROWS, ROWS)
    assert all(name.startswith("after-full-") for name in names)
    assert site.fep("pull", PERMITS, "--wait")["balanced"] is True


def _fill(filler: Path, *, leave: int) -> None:
    """Write until so many bytes of the file system are left."""
    with filler.open("wb") as file:
        size = shutil.disk_usage(filler.parent).free - leave
        try:
            while size > 0:
                size -= file.write(b"\0" * min(size, 65536))
                file.flush()
        except OSError:
            assert leave == 0


def _kept(site: Site, before: Mapping[str, str]) -> bool:
    """Whether all that was there is, unchanged."""
    return before.items() <= site.evidence().items()


# --- upgrade, remove, purge --------------------------------------------------------


def test_upgrade_and_back_keep_settings_keys_and_spool(
    site: Site, tmp_path: Path
) -> None:
    """A batch that waits while the program is exchanged arrives; so does the next.

    A connector goes there and back with the agent, in the same call.
    """
    files = [package(name, "deb") for name in ("fep", "fep-connector-mysql")]
    later = [next_version(file, tmp_path) for file in files]
    site.install(files[1])
    before = site.evidence()
    old = site.fep("version", "--daemon")
    site.exchange.stop()
    site.sql("UPDATE person SET name = 'over-upgrade' WHERE id = 2")
    site.fep("pull", PERSONS)
    site.machine.wait(
        lambda: site.status()["resources"][0]["waiting"]["batches"] > 0,
        "a batch to wait",
    )
    running = site.pid()
    site.install(*later)
    site.wait_restarted(running)
    new = site.fep("version", "--daemon")
    assert new["daemon"] == new["agent"] == f"{old['agent']}+next"
    find = "from agent.registry import find; print(find('mysql').api)"
    find = f"import pkcs11, pymysql; {find}"  # keys may be in a token on any machine
    python = "/opt/fep/python/bin/python3.13"
    assert site.machine.run(python, "-I", "-c", find).strip().isdigit()
    assert site.status()["resources"][0]["waiting"]["batches"] > 0
    assert _kept(site, before)

    site.exchange.start()
    site.machine.wait(lambda: "over-upgrade" in site.centre(), "the batch to arrive")
    running = site.pid()
    site.install(*files)
    site.wait_restarted(running)
    assert site.fep("version", "--daemon") == old
    site.deliver("after-downgrade")
    site.answering()
    site.asked()


def test_remove_keeps_the_data(site: Site) -> None:
    """No program and no unit, but settings, keys and receipts; it can come back."""
    before = site.evidence()
    site.machine.run("dpkg", "--remove", "fep-connector-mysql", "fep")
    assert not site.machine.file("/opt/fep").exists()
    assert site.show("LoadState") == {"LoadState": "not-found"}
    assert _kept(site, before)
    site.install(package("fep", "deb"))
    assert _kept(site, before)
    site.machine.run("systemctl", "--quiet", "enable", "--now", "fep")
    site.deliver("after-remove")


def test_a_purge_without_a_person_keeps_keys_and_proof(site: Site) -> None:
    """Noninteractive: the program goes, the data stay, and it says where they are."""
    before = site.evidence()
    said = site.machine.run(
        "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-P", "fep"
    )
    assert "kept /etc/fep and /var/lib/fep" in said
    assert _kept(site, before)


def test_a_purge_that_is_meant_leaves_nothing(site: Site) -> None:
    """With the answer given beforehand, settings, keys, users and groups go."""
    site.install(package("fep", "deb"))
    answer = "echo fep fep/purge-data boolean true | debconf-set-selections"
    site.machine.run("sh", "-c", answer)
    site.machine.run("env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-P", "fep")
    assert list(site.disk.iterdir()) == []
    assert not site.machine.file("/etc/fep").exists()
    assert not site.machine.file("/opt/fep").exists()
    entries = site.machine.run("getent", "passwd") + site.machine.run("getent", "group")
    assert "fep" not in {line.partition(":")[0] for line in entries.splitlines()}
