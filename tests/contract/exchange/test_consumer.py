# SPDX-License-Identifier: Apache-2.0
"""``python -m sandbox.consumer``, a process of its own, against a provider by hand."""

from __future__ import annotations

import asyncio
import itertools
import json
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.exchange_client import RSJ, Key, Node, digest, payload, unb64, verify
from tests.support.lookup_client import (
    REPLY,
    Provider,
    answer,
    calling,
    seal,
    unseal,
    uuid7,
)
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

SUBJECT = "110101199003070011"
ASK: dict[str, Any] = {
    "op": "get",
    "resource": "990100/rk/person",
    "items": [{"keys": {"id": SUBJECT}}],
    "fields": ["name"],
    "purpose": "work_reference",
    "basis": "TEST-1",
    "officer": {"id": "9", "auth": "password"},
}
_NAMES = itertools.count(1)


@dataclass
class Asker:
    """The program with its folder."""

    sandbox: SandboxProcess
    folder: Path
    node: str = ""

    @property
    def keys(self) -> dict[str, dict[str, str]]:
        """Purpose -> JWK, from its statement."""
        statement = (self.folder / "keys.jws").read_text()
        return {k["purpose"]: k for k in payload(statement)["keys"]}

    def command(self, *args: str) -> list[str]:
        """How it is started."""
        exchange = self.sandbox.folder / "sandbox.json"
        command = [sys.executable, "-m", "sandbox.consumer", "--dir", str(self.folder)]
        return [*command, "--exchange", str(exchange), *args]

    async def run(
        self, *args: str, body: object = None
    ) -> tuple[int, dict[str, Any], str]:
        """Exit code, what was printed, and the complaint."""
        done = await asyncio.to_thread(
            subprocess.run,
            self.command(*args),
            input=json.dumps(body),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        printed = json.loads(done.stdout) if done.stdout else {}
        return done.returncode, printed, done.stderr

    async def ask(self, provider: Provider, *args: str, **changes: Any) -> Any:
        """Ask the provider of the test."""
        body = ASK | {"aud": provider.node.node} | changes
        return await self.run("ask", *args, body=body)


@pytest.fixture(scope="module")
def asker(sandbox: SandboxProcess, tmp_path_factory: pytest.TempPathFactory) -> Asker:
    """An enrolled one."""
    node = f"{RSJ[:18]}/ask{next(_NAMES)}"
    found = Asker(sandbox, tmp_path_factory.mktemp("asker"), node)
    code, printed, complaint = asyncio.run(found.run("enrol", "--node", node))
    assert (code, printed["node"]) == (0, node), complaint
    statement = (found.folder / "keys.jws").read_text()
    assert printed["statement"] == digest(statement)
    return found


@pytest.fixture
async def provider(stranger: Node) -> AsyncIterator[Provider]:
    async with calling(stranger) as caller, caller.channel() as found:
        yield found


async def reply(
    provider: Provider,
    asker: Asker,
    *,
    change: Callable[[dict[str, Any]], dict[str, Any]] = dict,
    signer: Key | None = None,
    to: dict[str, str] | None = None,
    **header: str,
) -> str:
    """Answer the next request; the request's JWS."""
    frame = await provider.frame()
    request = unseal(frame["body"], provider.node.decrypt)
    body = change(answer(request, provider.node))
    text = (signer or provider.node.key).sign(REPLY, body)
    names = {"iss": provider.node.node, "aud": asker.node, "cty": REPLY} | header
    made = seal(text, to or asker.keys["decrypt"], **names)
    await provider.send(t="res", id=frame["id"], body=made)
    return request


async def test_answer_is_printed_and_kept(
    asker: Asker, provider: Provider, tmp_path: Path
) -> None:
    """One JSON line; both signed messages are evidence, for their owner alone."""
    file = tmp_path / "reply.jws"
    asking = asyncio.create_task(asker.ask(provider, "--save", str(file)))
    request = await reply(provider, asker)
    code, printed, complaint = await asking
    assert (code, complaint) == (0, "")
    assert printed["status"] == "ok"
    assert printed["results"][0]["data"] == {"name": "张三"}
    assert verify(file.read_text(), provider.node.key.jwk) == printed
    kept = file.with_name("reply.jws.request")
    assert kept.read_text() == request
    assert {stat.S_IMODE(f.stat().st_mode) for f in (file, kept)} == {0o600}


async def test_asking_comes_in_two_halves(
    asker: Asker, node: Node, provider: Provider, tmp_path: Path
) -> None:
    """Sealed, carried by somebody, opened and checked; kept for its owner alone."""
    signed, sealed, file = (tmp_path / n for n in ("r.jws", "r.jwe", "reply.jws"))
    body = ASK | {"aud": provider.node.node}
    command = asker.command("seal", "--save", str(signed))
    made = await asyncio.to_thread(
        subprocess.run, command, input=json.dumps(body).encode(), capture_output=True
    )
    assert made.returncode == 0, made.stderr
    request = unseal(made.stdout.decode(), provider.node.decrypt)
    assert request == signed.read_text()
    assert stat.S_IMODE(signed.stat().st_mode) == 0o600
    text = provider.node.key.sign(REPLY, answer(request, provider.node))
    names = {"iss": provider.node.node, "aud": asker.node, "cty": REPLY}
    sealed.write_text(seal(text, asker.keys["decrypt"], **names) + "\n")
    options = ("--request", str(signed), "--save", str(file))
    code, printed, complaint = await asker.run("open", *options, str(sealed))
    assert (code, printed["status"], complaint) == (0, "ok", "")
    assert file.read_text() == text
    other = node.key.sign(REPLY, answer(request, provider.node))
    sealed.write_text(seal(other, asker.keys["decrypt"], **names))
    code, printed, _ = await asker.run("open", *options, str(sealed))
    assert (code, printed) == (1, {})
    sealed.write_text("é")
    code, printed, complaint = await asker.run("open", *options, str(sealed))
    assert (code, printed) == (1, {})
    assert "Traceback" not in complaint


async def test_request_is_what_wire_md_says(asker: Asker, provider: Provider) -> None:
    """Signed by its sign key, sealed for the provider, one minute long."""
    asking = asyncio.create_task(asker.ask(provider))
    frame = await provider.frame()
    sealed = frame["body"]
    header = json.loads(unb64(sealed.split(".")[0]))
    assert header["kid"] == provider.node.decrypt.kid
    assert (header["iss"], header["aud"]) == (asker.node, provider.node.node)
    body = verify(unseal(sealed, provider.node.decrypt), asker.keys["sign"])
    assert {name: body[name] for name in ASK} == ASK
    assert (body["iss"], body["aud"]) == (asker.node, provider.node.node)
    assert body["exp"] - body["iat"] == 60
    problem = {"type": "urn:fep:problem:busy", "status": 503}
    await provider.send(t="err", id=frame["id"], body=problem)
    code, printed, _ = await asking
    assert (code, printed["problem"]["type"]) == (1, "urn:fep:problem:busy")


async def test_given_claims_are_kept(asker: Asker, provider: Provider) -> None:
    """The same jti, iat and exp make the same message again: a retry."""
    given = {"jti": uuid7(), "iat": 1_800_000_000, "exp": 1_800_000_090}
    digests = set()
    for _ in range(2):
        asking = asyncio.create_task(asker.ask(provider, **given))
        digests.add(digest(await reply(provider, asker)))
        assert (await asking)[0] == 0
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda b: b | {"irt": uuid7()}, "irt"),
        (lambda b: b | {"req_sha256": "sha256:" + "0" * 64}, "req_sha256"),
        (lambda b: b | {"iss": RSJ}, "iss"),
        (lambda b: b | {"aud": RSJ}, "aud"),
        (lambda b: b | {"results": b["results"] * 2}, "results"),
        (lambda b: b | {"status": "fine"}, "status"),
        (lambda b: b | {"reasons": ["because"]}, "reasons"),
    ],
    ids=["irt", "digest", "iss", "aud", "more results", "status", "reason"],
)
async def test_answer_to_something_else_is_refused(
    asker: Asker,
    provider: Provider,
    change: Callable[[dict[str, Any]], dict[str, Any]],
    said: str,
) -> None:
    """Nothing is printed; the complaint names the member."""
    asking = asyncio.create_task(asker.ask(provider))
    await reply(provider, asker, change=change)
    code, printed, complaint = await asking
    assert (code, printed) == (1, {})
    assert said in complaint
    assert SUBJECT not in complaint


async def test_answer_signed_by_another_key_is_refused(
    asker: Asker, provider: Provider
) -> None:
    """Not the provider's sign key, as the directory has it."""
    for signer in (Key("sign"), provider.node.tls):
        asking = asyncio.create_task(asker.ask(provider))
        await reply(provider, asker, signer=signer)
        code, printed, _ = await asking
        assert (code, printed) == (1, {})


async def test_answer_sealed_to_another_key_is_refused(
    asker: Asker, provider: Provider
) -> None:
    """It cannot be opened."""
    asking = asyncio.create_task(asker.ask(provider))
    await reply(provider, asker, to=Key("decrypt").jwk)
    code, printed, complaint = await asking
    assert (code, printed) == (1, {})
    assert "kid" in complaint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"op": "steal"}, "lookup.op"),
        ({"items": []}, "lookup.items"),
        ({"more": 1}, "unknown member"),
        ({"purpose": "curiosity"}, "lookup.purpose"),
    ],
)
async def test_broken_question_is_never_sent(
    asker: Asker, provider: Provider, change: dict[str, Any], said: str
) -> None:
    """The complaint names what is wrong and quotes nothing personal."""
    code, printed, complaint = await asker.ask(provider, **change)
    assert (code, printed) == (1, {})
    assert said in complaint
    assert SUBJECT not in complaint


async def test_problem_of_the_exchange_is_printed(asker: Asker, node: Node) -> None:
    """503 from the relay itself; exit code 1."""
    body = ASK | {"aud": node.node}
    code, printed, complaint = await asker.run("ask", body=body)
    assert (code, printed["problem"]["status"], complaint) == (1, 503, "")


async def test_nobody_asks_before_enrolling(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """The remedy is said."""
    code, printed, complaint = await Asker(sandbox, tmp_path / "x").run("ask", body=ASK)
    assert (code, printed) == (78, {})
    assert "enrol" in complaint


async def test_enrolling_twice_keeps_the_keys(asker: Asker) -> None:
    """Run again, it goes on with what is there."""
    before = (asker.folder / "keys.jws").read_text()
    code, _, complaint = await asker.run("enrol", "--node", asker.node)
    assert code == 0, complaint
    assert (asker.folder / "keys.jws").read_text() == before


async def test_foreign_exchange_is_not_trusted(
    sandbox: SandboxProcess, tmp_path: Path
) -> None:
    """Another authority than the file says: nothing is sent to it."""
    body = json.loads((sandbox.folder / "sandbox.json").read_text())
    (tmp_path / "sandbox.json").write_text(json.dumps(body | {"ca_sha256": "0" * 64}))
    command = [sys.executable, "-m", "sandbox.consumer", "--dir", str(tmp_path / "d")]
    command += ["--exchange", str(tmp_path / "sandbox.json")]
    command += ["enrol", "--node", f"{RSJ[:18]}/no"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "CA: expected 0000" in done.stderr
