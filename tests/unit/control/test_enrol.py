# SPDX-License-Identifier: Apache-2.0
"""Enrolment at a real exchange in this process: what works, what is refused."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
import stat
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from agent.control.directory import STALE_S, TrustedDirectory
from agent.control.enrol import Enrolment, enrol
from agent.control.enrol_line import Target, date_of, session
from agent.control.identity import (
    IdentityFiles,
    check_pin,
    load_audit_key,
    load_decrypt_key,
    load_sign_key,
)
from agent.crypto.certificates import Certificate
from agent.crypto.jose import PrivateKey, message_digest
from agent.crypto.keys import save_private
from agent.errors import (
    BadSignature,
    ClockSkewed,
    DirectoryRefused,
    DirectoryStale,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    FepError,
    MalformedMessage,
    NotEnrolled,
    SecretUnreadable,
    SpoolWriteFailed,
)
from agent.wire.keys import KeyStatement
from sandbox.app import exchange
from sandbox.options import Options
from sandbox.tls import Authority
from tests.support.tus_double import TusDouble

NODE = "11990100MB0000018H/rsj-fep1"


class Office:
    """An exchange, a machine's files, and what to aim at."""

    def __init__(self, folder: Path, ready: dict[str, Any]) -> None:
        self.admin = ready["admin"]
        self.files = IdentityFiles(folder / "state")
        self.steps: list[str] = []
        self.slept: list[float] = []
        self.now = datetime.now(UTC)
        self.target = Target(
            node=NODE,
            url=ready["url"],
            aud=ready["aud"],
            ca_sha256=ready["ca_sha256"],
            kid=ready["kid"],
            clock_tolerance_s=300,
            connect_timeout_s=5,
            read_timeout_s=5,
        )

    async def faults(self, *faults: dict[str, Any]) -> None:
        connector = aiohttp.UnixConnector(self.admin)
        async with aiohttp.ClientSession(connector=connector) as session:
            body = {"faults": list(faults)}
            async with session.put("http://admin/faults", json=body) as answer:
                assert answer.status < 300, await answer.text()

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    async def enrol(self, **changes: Any) -> Enrolment:
        self.steps.clear()
        return await enrol(
            replace(self.target, **changes),
            self.files,
            now=lambda: self.now,
            sleep=self.sleep,
            report=self.steps.append,
        )


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A running exchange and a machine that it does not know."""
    async with exchange(Options(tmp_path / "centre", approve_all=True)) as line:
        yield Office(tmp_path, json.loads(line))


async def test_an_enrolled_machine_has_everything(office: Office) -> None:
    """Keys, certificate of the pinned CA, statement, and a directory that knows us."""
    done = await office.enrol()
    assert office.steps == ["ca", "keys", "certificate", "statement", "directory"]
    assert office.files.missing() == ()
    key = load_sign_key(office.files)
    assert key.public.kid == done.kid
    directory = TrustedDirectory(
        office.files.directory, aud=office.target.aud, kid=office.target.kid
    )
    assert directory.load()
    assert directory.current.node_key(NODE, done.kid, "sign") == key.public
    assert directory.current.node_keys(NODE).digest == done.statement
    ours = {
        key.public.kid: key.public.purpose
        for key in (key, load_decrypt_key(office.files), load_audit_key(office.files))
    }
    known = directory.current.node_keys(NODE).live
    assert ours.items() <= {k.kid: k.purpose for k in known}.items()
    assert sorted(k.purpose for k in known) == ["audit", "decrypt", "sign", "tls"]


async def test_a_machine_enrolled_with_two_keys_gets_the_others(office: Office) -> None:
    """A second statement, signed by the first's key, adds decrypt and audit keys."""
    files = office.files
    sign, tls = PrivateKey.generate("sign"), PrivateKey.generate("tls")
    files.folder.mkdir(parents=True)
    save_private(files.sign_key, sign)
    save_private(files.tls_key, tls)
    old = KeyStatement(NODE, 1, (tls.public, sign.public), "2026-01-01T00:00:00Z")
    files.statement(1).write_text(sign.sign("fep-keys+jws", old.payload()))
    first = files.statement(1).read_bytes()
    done = await office.enrol()
    assert files.statement(1).read_bytes() == first
    assert done.statement == message_digest(first.decode())
    held = TrustedDirectory(
        files.directory, aud=office.target.aud, kid=office.target.kid
    )
    assert held.load()
    chain = held.current.node_keys(NODE)
    assert [len(s.keys) for s in chain.statements] == [2, 4]
    wanted = load_decrypt_key(files).public
    assert held.current.encryption_key(NODE) == wanted
    await office.enrol()
    assert not files.statement(3).exists()


def test_a_machine_without_the_new_keys_is_told_to_enrol(tmp_path: Path) -> None:
    """Each names its file."""
    files = IdentityFiles(tmp_path)
    with pytest.raises(NotEnrolled, match=r"decrypt\.key"):
        load_decrypt_key(files)
    with pytest.raises(NotEnrolled, match=r"audit\.key"):
        load_audit_key(files)


async def test_private_keys_are_closed_to_others(office: Office) -> None:
    """All four keys have mode 0400, their folder 0700."""
    await office.enrol()
    keys = sorted(office.files.folder.glob("*.key"))
    assert [k.name for k in keys] == ["audit.key", "decrypt.key", "sign.key", "tls.key"]
    for path in keys:
        assert stat.S_IMODE(path.stat().st_mode) == 0o400
    assert stat.S_IMODE(office.files.folder.stat().st_mode) == 0o700


async def test_another_ca_than_the_slips_ends_before_anything_is_sent(
    office: Office,
) -> None:
    """Wrong exchange.ca_sha256: untrusted, and not even a key is made."""
    with pytest.raises(ExchangeUntrusted, match=r"expected exchange\.ca_sha256"):
        await office.enrol(ca_sha256="0" * 64)
    assert not office.files.folder.exists()


async def test_a_clock_that_is_off_is_said_first(office: Office) -> None:
    """An hour off is named, with both clocks, before certificates are judged."""
    office.now += timedelta(hours=1)
    with pytest.raises(ClockSkewed, match="allowed: 300 s"):
        await office.enrol()


@pytest.mark.parametrize("lie", ["expired", "wrong-ca"])
async def test_a_false_server_certificate_is_untrusted(
    office: Office, lie: str
) -> None:
    """After cacerts only the pinned CA counts, whoever answers at the address."""
    await office.enrol()
    office.files.tls_certificate.unlink()
    await office.faults({"kind": "tls", "lie": lie})
    with pytest.raises(ExchangeUntrusted, match="certificate"):
        await office.enrol()


async def test_enrolling_again_changes_nothing(office: Office) -> None:
    """Every file is kept byte for byte."""
    first = await office.enrol()
    before = {p: p.read_bytes() for p in office.files.folder.iterdir()}
    assert await office.enrol() == first
    assert {p: p.read_bytes() for p in office.files.folder.iterdir()} == before


@pytest.mark.parametrize(
    "route",
    [
        "POST /.well-known/est/simpleenroll",
        "POST /v1/keys",
        "GET /v1/directory",
    ],
)
async def test_an_interrupted_enrolment_goes_on(office: Office, route: str) -> None:
    """A cut at each step; the next try uses the keys of the first and ends well."""
    await office.faults({"kind": "drop", "route": route, "when": "after"})
    with pytest.raises(ExchangeUnreachable):
        await office.enrol()
    await office.faults()
    key = office.files.sign_key.read_bytes()
    await office.enrol()
    assert office.files.sign_key.read_bytes() == key
    assert office.files.missing() == ()


async def test_a_pending_request_is_asked_again(office: Office) -> None:
    """202 with Retry-After: we wait as told and ask with the same key."""
    await office.faults({"kind": "pending", "retry_after": 7, "count": 2})
    await office.enrol()
    assert office.slept == [7.0, 7.0]
    assert office.steps.count("pending") == 2


async def test_a_refusal_names_the_problem(office: Office) -> None:
    """A 5xx without a problem document is ExchangeRefused with its status."""
    await office.faults({"kind": "status", "status": 502, "route": "POST /v1/keys"})
    with pytest.raises(ExchangeRefused) as e:
        await office.enrol()
    assert e.value.problem == "http-502"


async def test_a_redirect_is_not_followed(office: Office) -> None:
    """A 307 is a refusal; nothing is sent to where it points."""
    await office.faults(
        {"kind": "redirect", "location": "https://192.0.2.1/", "route": "POST /v1/keys"}
    )
    with pytest.raises(ExchangeRefused) as e:
        await office.enrol()
    assert e.value.problem == "http-307"


async def test_a_state_folder_that_cannot_be_written_is_said(office: Office) -> None:
    """A file in the folder's place: SpoolWriteFailed with the path, exit 74."""
    office.files.state.write_text("")
    with pytest.raises(SpoolWriteFailed, match="state"):
        await office.enrol()


async def test_nobody_there_is_unreachable(office: Office) -> None:
    """A closed port is ExchangeUnreachable with the address."""
    with pytest.raises(ExchangeUnreachable, match=r"127\.0\.0\.1"):
        await office.enrol(url="https://127.0.0.1:9")


async def test_another_node_with_our_certificate_is_refused(office: Office) -> None:
    """A certificate for another node than agent.node is not used."""
    await office.enrol()
    with pytest.raises(ExchangeUntrusted, match="expected node"):
        await office.enrol(node=NODE + "2")


async def test_a_certificate_for_another_key_is_refused(office: Office) -> None:
    """When tls.key was replaced, the old certificate does not fit and says so."""
    await office.enrol()
    office.files.tls_key.unlink()
    with pytest.raises(ExchangeUntrusted, match="another"):
        await office.enrol()


OURS = f"fep:node/{NODE}"
OTHER = "fep:keys/sha256/" + "0" * 64


@pytest.mark.parametrize("uris", [[OURS], [OURS, OTHER], [OURS, OTHER, OTHER], [OTHER]])
async def test_a_certificate_that_does_not_keep_both_uris_is_refused(
    office: Office, tmp_path: Path, uris: list[str]
) -> None:
    """Of the pinned CA and for our key, but not bound to our key statement."""
    await office.enrol()
    held = Certificate.from_pem(certified(office.files, tmp_path / "centre", uris))
    assert held.issued_by(Certificate.from_pem(office.files.ca.read_bytes()))
    office.files.tls_certificate.write_bytes(held.pem)
    with pytest.raises((ExchangeUntrusted, MalformedMessage), match="fep:"):
        await office.enrol()


def certified(files: IdentityFiles, centre: Path, uris: list[str]) -> bytes:
    """What a CA that is careless about names would issue for our key."""
    ca_key: Any = load_pem_private_key(
        sorted(centre.rglob("ca.key"))[0].read_bytes(), None
    )
    key: Any = load_pem_private_key(files.tls_key.read_bytes(), None)
    names = [x509.UniformResourceIdentifier(uri) for uri in uris]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    authority = Authority(x509.load_pem_x509_certificate(files.ca.read_bytes()), ca_key)
    made = authority.issue_client(request, now=datetime.now(UTC), days=1)
    return made.public_bytes(Encoding.PEM)


async def test_an_expired_certificate_is_asked_for_anew(office: Office) -> None:
    """Once not_after has passed, enrolling again asks with the same keys."""
    first = await office.enrol()
    office.now = first.not_after + timedelta(days=1)
    await office.enrol(clock_tolerance_s=1e9)
    assert office.files.missing() == ()
    held = Certificate.from_pem(office.files.tls_certificate.read_bytes())
    assert held.issued_by(Certificate.from_pem(office.files.ca.read_bytes()))


async def test_garbage_for_cacerts_is_an_error_of_the_tree(tmp_path: Path) -> None:
    """Whatever a stranger answers, enrolment ends with a named error."""

    async def stranger(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await reader.read(100)
        writer.write(b"\xff" * 300)
        writer.close()

    server = await asyncio.start_server(stranger, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    target = Target(NODE, f"https://127.0.0.1:{port}", "x", "0" * 64, "k", 300, 5, 5)
    async with server:
        with pytest.raises(FepError):
            await enrol(target, IdentityFiles(tmp_path), now=lambda: datetime.now(UTC))


async def test_nothing_of_a_stranger_is_inflated(office: Office) -> None:
    """A small answer stays small, whatever its Content-Encoding says."""
    bomb = gzip.compress(bytes(1 << 24))

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"Content-Encoding": "gzip"})

    server = TusDouble()
    server.answer("GET", "/bomb", answer)
    async with server.serving() as url:
        target = replace(office.target, url=url)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        async with session(target, tls) as http:
            assert await http.get("/bomb") == bomb


# --- what is kept ---------------------------------------------------------------------


def test_missing_files_are_named(tmp_path: Path) -> None:
    """Before enrolment the daemon says what it expects, and where."""
    with pytest.raises(NotEnrolled, match=r"sign\.key"):
        load_sign_key(IdentityFiles(tmp_path))


async def test_a_key_open_to_others_is_not_used(office: Office) -> None:
    """Mode 0440 is refused."""
    await office.enrol()
    office.files.sign_key.chmod(0o440)
    with pytest.raises(SecretUnreadable, match="0440"):
        load_sign_key(office.files)


async def test_the_ca_counts_only_while_it_is_the_slips(office: Office) -> None:
    """Another pin, a further certificate beside it, or garbage: not enrolled."""
    await office.enrol()
    ca, pin = office.files.ca, office.target.ca_sha256
    check_pin(office.files, ca_sha256=pin)
    with pytest.raises(NotEnrolled, match=r"exchange\.ca_sha256"):
        check_pin(office.files, ca_sha256="0" * 64)
    good = ca.read_bytes()
    ca.write_bytes(good + office.files.tls_certificate.read_bytes())
    with pytest.raises(NotEnrolled, match="no more"):
        check_pin(office.files, ca_sha256=pin)
    ca.write_bytes(b"garbage")
    with pytest.raises(NotEnrolled, match="cannot be read"):
        check_pin(office.files, ca_sha256=pin)
    await office.enrol()
    assert ca.read_bytes() == good


async def test_the_directory_counts_only_with_the_pinned_key(office: Office) -> None:
    """Another pin: the same directory is refused."""
    await office.enrol()
    text = office.files.directory.read_bytes()
    other = PrivateKey.generate("receipt").public.kid
    held = TrustedDirectory(office.files.directory, aud=office.target.aud, kid=other)
    assert not held.load()
    with pytest.raises(BadSignature, match=r"exchange\.kid"):
        held.take(text)


async def test_an_older_directory_does_not_replace_a_newer_one(office: Office) -> None:
    """Going back is refused: it could unrevoke a key."""
    await office.enrol()
    target = office.target
    held = TrustedDirectory(office.files.directory, aud=target.aud, kid=target.kid)
    old = office.files.directory.read_bytes()
    await office.faults({"kind": "clock", "seconds": 60})
    office.files.tls_certificate.unlink()
    await office.enrol()
    assert held.load()
    with pytest.raises(DirectoryRefused, match="or later"):
        held.take(old)


async def test_two_directories_at_a_time_do_not_leave_the_older_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is kept for the next start is the one in use."""
    await office.enrol()
    target, file = office.target, office.files.directory
    old = file.read_bytes()
    await office.faults({"kind": "clock", "seconds": 60})
    office.files.tls_certificate.unlink()
    await office.enrol()
    new = file.read_bytes()
    held = TrustedDirectory(file, aud=target.aud, kid=target.kid)
    begun, go_on = threading.Event(), threading.Event()

    def slow(path: Path, data: bytes) -> None:
        if data == old:
            begun.set()
            go_on.wait(1)
        path.write_bytes(data)

    monkeypatch.setattr("agent.control.directory.write_file", slow)
    first = asyncio.create_task(asyncio.to_thread(held.take, old))
    await asyncio.to_thread(begun.wait, 5)
    second = asyncio.create_task(asyncio.to_thread(held.take, new))
    await asyncio.sleep(0.2)
    go_on.set()
    await asyncio.gather(first, second)
    assert file.read_bytes() == new


async def test_enrolling_again_does_not_go_back_to_an_older_directory(
    office: Office,
) -> None:
    """The one that is kept counts here too."""
    await office.faults({"kind": "clock", "seconds": 60})
    await office.enrol()
    kept = office.files.directory.read_bytes()
    await office.faults({"kind": "clock", "seconds": 0})
    with pytest.raises(DirectoryRefused, match="or later"):
        await office.enrol()
    assert office.files.directory.read_bytes() == kept


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sat, 21 Nov 2026 08:00:00",
        "Sat, 21 Nov 2026 08:00:00 -0000",
        "Sat, 21 Nov 2026 08:00:00 +99999999999999999999",
        "Sat, 99999999999999999999 Nov 2026 08:00:00 GMT",
    ],
)
def test_a_date_that_is_none_ends_nothing(text: str) -> None:
    """Nonsense, no zone, or numbers that overflow: as if there were no header."""
    assert date_of(text) is None


async def test_an_unknown_receipt_key_asks_for_a_refresh(office: Office) -> None:
    """The lookup fails now; the directory is wanted again."""
    await office.enrol()
    target = office.target
    held = TrustedDirectory(office.files.directory, aud=target.aud, kid=target.kid)
    held.load()
    assert held.held().receipt_key(target.kid).purpose == "receipt"
    assert not held.wanted.is_set()
    with pytest.raises(BadSignature):
        held.held().receipt_key("A" * 43)
    assert held.wanted.is_set()


def test_a_damaged_directory_is_as_good_as_none(tmp_path: Path) -> None:
    """The daemon starts without it and asks for another."""
    path = tmp_path / "directory.jws"
    path.write_bytes(b"\x00" * 50)
    held = TrustedDirectory(path, aud="x", kid="y")
    assert not held.load()
    assert held.wanted.is_set()
    with pytest.raises(BadSignature, match="no directory"):
        _ = held.current


async def test_a_revoked_key_does_not_outlive_an_exchange_that_is_away(
    office: Office,
) -> None:
    """Lookups may rely on a directory for a while only, across restarts too."""
    await office.enrol()
    target, file = office.target, office.files.directory
    text = file.read_bytes()
    at, wall = 1000.0, file.stat().st_mtime

    def opened() -> TrustedDirectory:
        return TrustedDirectory(
            file, aud=target.aud, kid=target.kid, clock=lambda: at, wall=lambda: wall
        )

    held = opened()
    assert held.load()
    assert held.fresh is held.current
    at += STALE_S
    assert held.fresh is held.current
    at += 1
    with pytest.raises(DirectoryStale, match="901 s"):
        _ = held.fresh
    assert held.wanted.is_set()
    assert held.held().receipt_key(target.kid).purpose == "receipt"
    wall += STALE_S + 1
    again = opened()
    assert again.load()
    with pytest.raises(DirectoryStale):
        _ = again.fresh
    again.take(text)
    assert again.fresh is again.current
