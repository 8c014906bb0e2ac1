# SPDX-License-Identifier: Apache-2.0
"""An exchange that lets nobody in without a code and a person (wire.md §6)."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.cli.main import main as fep_main
from agent.control.enrol import Enrolment, enrol
from agent.control.enrol_line import Target
from agent.control.identity import IdentityFiles
from agent.errors import ExchangeUnreachable
from agent.wire.enrolment import Code
from sandbox.__main__ import main as sandbox_main
from tests.support import peers
from tests.support.exchange_client import Answer, Node, payload
from tests.support.histories import Clock
from tests.support.sandbox_process import SandboxProcess, running_sandbox

pytestmark = pytest.mark.contract

USCC = "11990100MB0000018H"
ENROL = "/.well-known/est/simpleenroll"
SCRIPT = Path(__file__).with_name("enrol_with_openssl.sh")
WAIT_S = 60


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    folder = tmp_path_factory.mktemp("centre")
    options = folder / "options.toml"
    options.write_text("approval_retry_s = 1\n")
    with running_sandbox(
        folder / "x", "--config", str(options), approve_all=False
    ) as found:
        yield found


class Office:
    """Commands of people at the centre, and `fep enrol`, in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, centre: SandboxProcess, *words: str) -> str:
        """What a command says, on stderr if it fails."""
        self._capsys.readouterr()
        code = sandbox_main(["--dir", str(centre.folder), *words])
        said = self._capsys.readouterr()
        assert (code == 0) == (not said.err)
        return said.err or said.out

    def fep(self, config: Path, *words: str) -> dict[str, Any]:
        """The JSON of `fep enrol`."""
        self._capsys.readouterr()
        before = os.umask(0o022)
        with pytest.raises(SystemExit):
            fep_main(["enrol", "--config", str(config), "--json", *words])
        os.umask(before)
        body: dict[str, Any] = json.loads(self._capsys.readouterr().out)
        return body


@pytest.fixture
def office(capsys: pytest.CaptureFixture[str]) -> Office:
    return Office(capsys)


def new_codes(centre: SandboxProcess, *nodes: str) -> list[Code]:
    body = {"nodes": list(nodes), "hours": 72}
    slips = centre.ask("POST", "/codes", body)["slips"]
    return [Code.parse(slip["code"]) for slip in slips]


def pending(centre: SandboxProcess, node: str) -> dict[str, Any]:
    """The request of a node, once it waits."""
    until = time.monotonic() + WAIT_S
    while True:
        for found in centre.ask("GET", "/pending")["pending"]:
            if found["node"] == node:
                return dict(found)
        assert time.monotonic() < until, f"nothing of {node} came"
        time.sleep(0.02)


def approve(centre: SandboxProcess, node: str, statement: str) -> None:
    centre.ask("POST", "/approve", {"node": node, "said": statement})


@dataclass
class Shell:
    """openssl and curl, enrolling a node."""

    centre: SandboxProcess
    node: str
    folder: Path

    def start(self) -> subprocess.Popen[str]:
        """With a code of its own in a file."""
        self.folder.mkdir(exist_ok=True)
        (code,) = new_codes(self.centre, self.node)
        file = self.folder / "code"
        file.write_text(code.text + "\n")
        command = ["sh", str(SCRIPT), self.centre.url, self.centre.ca_sha256]
        command += [self.node, str(self.folder)]
        env = os.environ | {"CODE_FILE": str(file)}
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)

    def enrol(self) -> None:
        """Started, approved by what it shows, ended well."""
        with self.start() as process:
            pending(self.centre, self.node)
            approve(
                self.centre, self.node, (self.folder / "statement").read_text("ascii")
            )
            _, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == 0, err

    def statements(self) -> list[str]:
        """As the directory has them that it fetched."""
        files = payload((self.folder / "directory.jws").read_text())["files"]
        nodes = files[f"directory/{USCC}.json"]["nodes"]
        (found,) = (entry for entry in nodes if entry["node"] == self.node)
        return list(found["statements"])


# --- who reads only wire.md --------------------------------------------------------


def test_openssl_and_curl_enrol_with_a_code(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Code by Basic login, 202 until approved; npm jose verifies the chain."""
    shell = Shell(centre, f"{USCC}/shell", tmp_path / "shell")
    shell.enrol()
    judged = peers.ask("keys.mjs", {"verify": shell.statements()})
    assert judged["ok"], judged
    assert judged["digest"] == (shell.folder / "statement").read_text()
    assert len(judged["kids"]) == 4


def test_npm_jose_makes_the_keys_that_openssl_and_curl_enrol(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Statement 1 of another JOSE implementation; then a second, which rotates."""
    node = f"{USCC}/jose"
    shell = Shell(centre, node, tmp_path / "jose")
    shell.folder.mkdir()
    made = peers.ask("keys.mjs", {"make": node})
    (shell.folder / "tls.key").write_text(made["tls"])
    (shell.folder / "keys.jws").write_text(made["statements"][0])
    shell.enrol()
    (shell.folder / "next.jws").write_text(made["statements"][1])
    for words in (
        ["--data-binary", "@next.jws", f"{centre.url}/v1/keys"],
        ["-o", "directory.jws", f"{centre.url}/v1/directory"],
    ):
        curl = ["curl", "-sSf", "--cacert", "ca.pem", "--cert", "tls.pem"]
        curl += ["--key", "tls.key", *words]
        subprocess.run(curl, cwd=shell.folder, check=True)
    assert shell.statements() == made["statements"]
    assert peers.ask("keys.mjs", {"verify": shell.statements()})["ok"]
    strange = peers.ask("keys.mjs", {"make": node})["statements"][1]
    bad = peers.ask("keys.mjs", {"verify": [made["statements"][0], strange]})
    assert bad == {"ok": False, "why": "statement 2 by a stranger"}


# --- over real addresses -----------------------------------------------------------


def ask_from(node: Node, address: str, code: Code) -> Answer:
    """A first request from an address of this machine."""
    host, port = node.address
    connection = http.client.HTTPSConnection(
        host, port, timeout=WAIT_S, context=node.context, source_address=(address, 0)
    )
    connection.request("POST", ENROL, node.csr(), {"Authorization": code.login()})
    answer = connection.getresponse()
    found = Answer(answer.status, answer.headers, answer.read())
    connection.close()
    return found


def test_attack_lock_out_from_another_address(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Guessing gets 401, then 429 with a time; the honest one next door gets 202."""
    name = f"{USCC}/locked"
    node = Node(centre.address, centre.ca, tmp_path, name)
    (code,) = new_codes(centre, name)
    wrong = Code(code.id, "0" * 18)
    first, second = (ask_from(node, "127.0.0.2", wrong) for _ in range(2))
    assert (first.status, first.problem) == (401, "unauthenticated")
    assert first.headers["WWW-Authenticate"].startswith("Basic ")
    assert (second.status, second.problem) == (429, "busy")
    assert int(second.headers["Retry-After"]) >= 1
    answer = ask_from(node, "127.0.0.1", code)
    assert (answer.status, answer.headers["Retry-After"]) == (202, "1")


def test_attack_request_with_a_bad_signature_uses_up_no_code(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """It is malformed before the code is looked at: the honest one is still first."""
    name = f"{USCC}/unsigned"
    node = Node(centre.address, centre.ca, tmp_path, name)
    (code,) = new_codes(centre, name)
    lines = node.csr().decode().rstrip()
    broken = (lines[:-8] + "AAAAAAA=").encode()
    answer = node.ask("POST", ENROL, broken, Authorization=code.login())
    assert (answer.status, answer.problem) == (400, "malformed")
    answer = node.ask("POST", ENROL, node.csr(), Authorization=code.login())
    assert answer.status == 202


def test_who_is_not_enrolled_yet_gets_nothing_else(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """A request that waits opens no other route."""
    name = f"{USCC}/early"
    node = Node(centre.address, centre.ca, tmp_path, name)
    (code,) = new_codes(centre, name)
    node.ask("POST", ENROL, node.csr(), Authorization=code.login())
    for method, path in (("GET", "/v1/directory"), ("POST", "/v1/keys")):
        answer = node.ask(method, path, Authorization=code.login())
        assert (answer.status, answer.problem) == (401, "unauthenticated")


# --- people at the centre ----------------------------------------------------------


def test_slips_of_sixty_departments_are_printed(
    centre: SandboxProcess, office: Office, tmp_path: Path
) -> None:
    """Each on its own page with pins and code, in a file for its owner alone."""
    nodes = [f"11990100MB00000{n:02}X/fep1" for n in range(60)]
    listed = tmp_path / "nodes"
    listed.write_text("# all of them\n" + "\n".join(nodes) + "\n")
    out = tmp_path / "slips"
    words = ["codes", "--nodes-file", str(listed), "-o", str(out)]
    assert office(centre, *words) == ""
    assert out.stat().st_mode & 0o777 == 0o600
    pages = out.read_text().split("\f")[:-1]
    assert len(pages) == 60
    for node, page in zip(nodes, pages, strict=True):
        for pin in (node, centre.url, centre.aud, centre.ca_sha256, centre.kid):
            assert f'"{pin}"' in page
    assert "File exists" in office(centre, *words)


def test_people_approve_by_the_words_that_they_hear(
    centre: SandboxProcess, office: Office, tmp_path: Path
) -> None:
    """pending shows them, approve takes them, and refuses others."""
    name = f"{USCC}/heard"
    node = Node(centre.address, centre.ca, tmp_path, name)
    (code,) = new_codes(centre, name)
    node.ask("POST", ENROL, node.csr(), Authorization=code.login())
    words = pending(centre, name)["words"]["zh"]
    assert " ".join(words) in office(centre, "pending")
    assert "do not approve" in office(centre, "approve", name, *reversed(words))
    assert "approved" in office(centre, "approve", name, *words)
    answer = node.ask("POST", ENROL, node.csr(), Authorization=code.login())
    assert answer.status == 200
    thief = Node(centre.address, centre.ca, tmp_path / "thief", name)
    answer = thief.ask("POST", ENROL, thief.csr(), Authorization=code.login())
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert f"code-reused: code {code.id}" in office(centre, "alarms")


# --- a department that asks --------------------------------------------------------


def test_the_sample_consumer_enrols_with_a_code(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Refused without; with it, it says what to compare and waits for a person."""
    node = f"{USCC}/asker"
    words = [sys.executable, "-m", "sandbox.consumer", "--dir", str(tmp_path / "d")]
    words += ["--exchange", str(centre.folder / "sandbox.json")]
    words += ["enrol", "--node", node]
    refused = subprocess.run(
        words, capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    assert refused.returncode == 1
    assert json.loads(refused.stdout)["problem"]["status"] == 401
    (code,) = new_codes(centre, node)
    (tmp_path / "code").write_text(code.text + "\n")
    words += ["--code-file", str(tmp_path / "code")]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        statement = pending(centre, node)["statement"]
        assert statement in said
        approve(centre, node, statement)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    assert json.loads(out) == {"node": node, "statement": statement}
    assert code.secret not in err + out + said


# --- a fleet -----------------------------------------------------------------------

FLEET = 30
FLEET_S = 3 * WAIT_S


async def test_thirty_agents_enrol_while_the_exchange_is_killed(
    tmp_path: Path,
) -> None:
    """All wait, it is killed, all are approved, it is killed again: none is harmed."""
    with running_sandbox(tmp_path / "x", approve_all=False) as centre:
        nodes = [f"11990100MB00000{n:02}X/fep1" for n in range(FLEET)]
        codes = new_codes(centre, *nodes)
        crowd = Crowd(centre, tmp_path)
        agents = [
            asyncio.create_task(crowd.member(node, code))
            for node, code in zip(nodes, codes, strict=True)
        ]
        await crowd.all_wait()
        centre.kill()
        centre.start()
        for found in centre.ask("GET", "/pending")["pending"]:
            approve(centre, found["node"], found["statement"])
        centre.kill()
        crowd.go_on.set()
        centre.start()
        async with asyncio.timeout(FLEET_S):
            done = await asyncio.gather(*agents)
        assert centre.ask("GET", "/alarms") == {"alarms": []}
    assert [one.node for one in done] == nodes
    assert len({one.statement for one in done}) == FLEET
    for node in nodes:
        assert crowd.files(node).missing() == ()


class Crowd:
    """Agents in this process; they wait where a person would have to decide."""

    def __init__(self, centre: SandboxProcess, folder: Path) -> None:
        self.centre = centre
        self.folder = folder
        self.go_on = asyncio.Event()
        self._waiting = 0
        self._all = asyncio.Event()

    def files(self, node: str) -> IdentityFiles:
        return IdentityFiles(self.folder / node.replace("/", "_"))

    async def all_wait(self) -> None:
        async with asyncio.timeout(FLEET_S):
            await self._all.wait()

    async def member(self, node: str, code: Code) -> Enrolment:
        """Enrol, as a person would: call it again when the exchange is not there."""
        target = Target(
            node=node,
            url=self.centre.url,
            aud=self.centre.aud,
            ca_sha256=self.centre.ca_sha256,
            kid=self.centre.kid,
            clock_tolerance_s=300,
            connect_timeout_s=WAIT_S,
            read_timeout_s=WAIT_S,
        )
        while True:
            try:
                return await enrol(
                    target,
                    self.files(node),
                    now=lambda: datetime.now(UTC),
                    sleep=self._sleep,
                    code=code,
                )
            except ExchangeUnreachable:
                await asyncio.sleep(0.2)

    async def _sleep(self, _: float) -> None:
        if not self.go_on.is_set():
            self._waiting += 1
            if self._waiting == FLEET:
                self._all.set()
            await self.go_on.wait()
        await asyncio.sleep(0.2)


# --- the command itself ------------------------------------------------------------


def settings(folder: Path, centre: SandboxProcess, node: str) -> Path:
    """What a department copies from its slip."""
    (folder / "catalog").mkdir()
    path = folder / "agent.toml"
    path.write_text(
        f'[agent]\nnode = "{node}"\ncatalog = "catalog"\n[paths]\nstate = "state"\n'
        f'run = "run"\n[exchange]\naud = "{centre.aud}"\nurl = "{centre.url}"\n'
        f'ca_sha256 = "{centre.ca_sha256}"\nkid = "{centre.kid}"\n'
    )
    return path


def command(config: Path, *words: str) -> list[str]:
    program = "from agent.cli.main import main; main()"
    return [sys.executable, "-c", program, "enrol", "--config", str(config), *words]


def test_the_command_asks_a_terminal_and_shows_what_to_compare(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Code typed when asked for; words and QR code, whom to ring; then enrolled."""
    name = f"{USCC}/typed"
    config = settings(tmp_path, centre, name)
    (code,) = new_codes(centre, name)
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(config, "--lang", "en"),
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        text=True,
    ) as process:
        os.close(theirs)
        screen = Screen(ours)
        screen.until("One-time code")
        os.write(ours, code.text.lower().encode() + b"\n")
        found = pending(centre, name)
        shown = screen.until("waiting for approval")
        for language in ("zh", "en"):
            assert " ".join(found["words"][language]) in shown
        assert "\u2580" in shown or "\u2584" in shown  # half blocks of the QR code
        approve(centre, name, found["statement"])
        out, _ = process.communicate(timeout=WAIT_S)
    os.close(ours)
    assert process.returncode == 0
    assert f"Enrolled as {name}." in out


def test_the_command_says_first_that_the_clock_is_a_year_off(
    centre: SandboxProcess, tmp_path: Path
) -> None:
    """Really off, for TLS too: not 'certificate not yet valid', but the clock."""
    config = settings(tmp_path, centre, f"{USCC}/late")
    clock = Clock(tmp_path / "clock")
    clock.set("+1y")
    done = subprocess.run(
        command(config, "--json"),
        env=os.environ | clock.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(done.stdout)["error"]["code"] == "clock-skew", done.stderr
    assert not (tmp_path / "state" / "keys").exists()


class Screen:
    """What a program writes to its terminal."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._data = b""

    def until(self, text: str) -> str:
        """All of it, once ``text`` is there."""
        until = time.monotonic() + WAIT_S
        while text.encode() not in self._data:
            assert time.monotonic() < until, self._data
            if select.select([self._handle], [], [], 1)[0]:
                self._data += os.read(self._handle, 65536)
        return self._data.decode()


def test_the_command_enrols_by_file(
    centre: SandboxProcess, office: Office, tmp_path: Path
) -> None:
    """Export, issue at the centre, import: nothing between the two but files."""
    name = f"{USCC}/island"
    config = settings(tmp_path, centre, name)
    (code,) = new_codes(centre, name)
    file, request, reply = (tmp_path / n for n in ("code", "request", "reply"))
    words = ["--export", str(request), "--code-file", str(file)]
    assert office.fep(config, *words)["error"]["code"] == "usage"  # no such file
    file.write_text("0000-0000")
    assert office.fep(config, *words)["error"]["code"] == "code-mistyped"
    file.write_text(code.text)
    shown = office.fep(config, *words)
    assert request.stat().st_mode & 0o777 == 0o600
    assert office.fep(config, *words)["error"]["code"] == "usage"  # never replaced
    issue = ["issue", str(request), str(reply)]
    assert "do not approve" in office(centre, *issue)
    assert "carry it back" in office(centre, *issue, *shown["words"]["zh"])
    taken = office.fep(config, "--import", str(reply))
    assert (taken["node"], taken["statement"]) == (name, shown["statement"])
    both = office.fep(config, "--import", str(reply), "--export", str(request))
    assert both["error"]["code"] == "usage"
