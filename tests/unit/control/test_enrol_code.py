# SPDX-License-Identifier: Apache-2.0
"""Enrolment with a code and a person, at a real exchange in this process."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from agent.control.enrol_file import export, take
from agent.control.identity import IdentityFiles
from agent.crypto.jose import PrivateKey, message_digest
from agent.errors import (
    BadSignature,
    ClockSkewed,
    CodeRefused,
    EnrolRefused,
    ExchangeRefused,
    ExchangeUnreachable,
    ExchangeUntrusted,
    MalformedMessage,
    NotEnrolled,
)
from agent.wire.enrolment import Code
from agent.wire.enrolment_file import Reply, parse_reply, parse_request
from sandbox.app import exchange
from sandbox.options import Options
from tests.support.own_certificate import certify
from tests.support.registration import NODE, Registration, registration

OTHER = "11990100MB0000026D/ybj-fep1"


@pytest.fixture
async def machine(tmp_path: Path) -> AsyncIterator[Registration]:
    async with registration(tmp_path) as found:
        yield found


async def nothing() -> None:
    """Time passes."""


async def test_a_machine_waits_until_a_person_has_compared_its_words(
    machine: Registration,
) -> None:
    """202 twice, approved meanwhile, then everything is in place."""
    machine.meanwhile += [nothing, machine.approve]
    done = await machine.enrol(await machine.code())
    assert machine.steps == [
        *("ca", "keys", "certificate", "pending", "pending"),
        *("statement", "directory"),
    ]
    assert machine.slept == [15.0, 15.0]  # as the exchange asked
    assert machine.files.missing() == ()
    assert done.node == NODE
    assert await machine.alarms() == []


async def test_without_a_code_the_machine_is_told_so(machine: Registration) -> None:
    """Its keys are made, it waits for nobody, and no alarm is raised."""
    with pytest.raises(CodeRefused, match="slip"):
        await machine.enrol()
    with pytest.raises(CodeRefused, match="slip"):
        await machine.enrol(Code.generate())
    assert await machine.pending() == []
    assert await machine.alarms() == []


async def test_a_code_of_another_department_is_refused(machine: Registration) -> None:
    """And central ops hear of it."""
    with pytest.raises(EnrolRefused, match="another node"):
        await machine.enrol(await machine.code(OTHER))
    assert await machine.alarms() == ["code-misused"]


async def test_a_denied_machine_is_told_so(machine: Registration) -> None:
    """Instead of waiting for ever."""

    async def deny() -> None:
        (found,) = await machine.pending()
        body = {"node": NODE, "said": found["statement"]}
        assert (await machine.ask("POST", "/deny", body))[0] == 204

    machine.meanwhile += [deny]
    with pytest.raises(EnrolRefused, match="denied"):
        await machine.enrol(await machine.code())


async def test_an_interrupted_wait_is_taken_up_again(machine: Registration) -> None:
    """Stopped while pending, approved meanwhile, called again with the same code."""

    async def stop() -> None:
        raise asyncio.CancelledError

    code = await machine.code()
    machine.meanwhile += [stop]
    with pytest.raises(asyncio.CancelledError):
        await machine.enrol(code)
    key = machine.files.sign_key.read_bytes()
    await machine.approve()
    await machine.enrol(code)
    assert machine.files.sign_key.read_bytes() == key
    assert "pending" not in machine.steps


async def test_an_exchange_that_is_away_ends_no_wait(machine: Registration) -> None:
    """Connections are cut and answers lost while it waits; it asks on."""
    cut = {"kind": "drop", "route": "POST /.well-known/est/simpleenroll"}
    code = await machine.code()

    async def away() -> None:
        await machine.faults(cut | {"count": 2, "when": "after"})

    machine.meanwhile += [away, machine.approve, nothing, nothing]
    await machine.enrol(code)
    assert machine.steps.count("away") == 2
    assert machine.steps.count("pending") == 1
    machine.files.tls_certificate.unlink()
    await machine.faults(cut | {"count": 1})
    with pytest.raises(ExchangeUnreachable):  # nobody approves what never arrived
        await machine.enrol(code)


async def test_a_neighbours_guesses_make_a_machine_wait_and_no_more(
    machine: Registration,
) -> None:
    """Behind the same address, as behind one router: 429, then it is heard."""
    code = await machine.code()
    with pytest.raises(CodeRefused):
        await machine.enrol(Code(code.id, "0" * 18))

    async def later() -> None:
        await machine.faults({"kind": "clock", "seconds": 60})

    machine.meanwhile += [later, machine.approve]
    await machine.enrol(code)
    assert machine.steps.count("away") == 1
    assert machine.slept[0] == 5.0


async def test_a_refusal_that_no_wait_mends_ends_the_enrolment(
    machine: Registration,
) -> None:
    """Another problem than busy is not tried again."""
    await machine.faults({"kind": "status", "status": 502, "route": "POST /.well"})
    with pytest.raises(ExchangeRefused, match="502"):
        await machine.enrol(await machine.code())


# --- attacks ------------------------------------------------------------------------


async def test_attack_man_in_the_middle_with_a_ca_of_his_own(
    machine: Registration, tmp_path: Path
) -> None:
    """Right name, wrong CA: not a key is made, neither request nor code is sent."""
    code = await machine.code()
    async with exchange(Options(tmp_path / "false", approve_all=True)) as line:
        false = json.loads(line)["url"]
        with pytest.raises(ExchangeUntrusted, match=r"exchange\.ca_sha256"):
            await machine.enrol(code, url=false)
    assert not machine.files.folder.exists()


async def test_attack_man_in_the_middle_who_shows_the_right_ca(
    machine: Registration,
) -> None:
    """He passes cacerts on, which is public, but cannot speak as the exchange."""
    code = await machine.code()
    await machine.faults({"kind": "tls", "lie": "wrong-ca"})
    with pytest.raises(ExchangeUntrusted, match="certificate"):
        await machine.enrol(code)
    assert machine.steps == ["ca", "keys", "certificate"]
    assert await machine.pending() == []
    await machine.faults()
    machine.meanwhile += [machine.approve]
    await machine.enrol(code)  # it was not used up


@pytest.mark.parametrize("days", [365, -365])
async def test_a_clock_wrong_by_a_year_is_said_first(
    machine: Registration, days: int
) -> None:
    """Before a key is made; and again when an enrolment is taken up."""
    code = await machine.code()
    machine.now += timedelta(days=days)
    with pytest.raises(ClockSkewed, match="allowed: 300 s"):
        await machine.enrol(code)
    assert not machine.files.folder.exists()
    machine.now -= timedelta(days=days)
    machine.meanwhile += [machine.approve]
    await machine.enrol(code)
    machine.now += timedelta(days=days)
    with pytest.raises(ClockSkewed):
        await machine.enrol(code)
    assert machine.steps == ["ca"]


async def test_expired_everything_is_said_one_after_the_other(
    machine: Registration, tmp_path: Path
) -> None:
    """Code, the exchange's certificate, our own: each by its name, and each mended."""
    code, days = await machine.code(), timedelta(days=4)
    await machine.faults({"kind": "clock", "seconds": int(days.total_seconds())})
    machine.now += days
    with pytest.raises(EnrolRefused, match="has expired"):
        await machine.enrol(code)
    await machine.faults()
    machine.now -= days
    machine.meanwhile += [machine.approve]
    first = await machine.enrol(await machine.code())

    await machine.faults({"kind": "tls", "lie": "expired"})
    with pytest.raises(ExchangeUntrusted, match="expired"):
        await machine.enrol()
    await machine.faults()

    begun = datetime.now(UTC) - timedelta(days=730)
    certify(machine.files, NODE, tmp_path / "centre" / "keys", begun=begun, days=365)
    with pytest.raises(CodeRefused, match="slip"):  # it cannot vouch for itself now
        await machine.enrol()
    machine.meanwhile += [machine.approve]
    again = await machine.enrol(await machine.code())
    assert (again.kid, again.statement) == (first.kid, first.statement)
    assert again.not_after > machine.now
    assert await machine.alarms() == []


async def test_attack_two_machines_with_one_slip(
    machine: Registration, tmp_path: Path
) -> None:
    """The second is refused and alarmed; the first is approved and not disturbed."""
    code = await machine.code()
    second = IdentityFiles(tmp_path / "second")
    first = machine.files

    async def twin() -> None:
        machine.files = second
        with pytest.raises(EnrolRefused, match="another request"):
            await machine.enrol(code)
        machine.files = first

    machine.meanwhile += [twin, machine.approve]
    await machine.enrol(code)
    assert first.missing() == ()
    assert first.tls_certificate not in second.missing()
    assert second.tls_certificate in second.missing()
    assert await machine.alarms() == ["code-reused"]


# --- without a line -----------------------------------------------------------------


async def carried(machine: Registration, code: Code | None = None) -> bytes:
    """Export, to the centre, and the reply back."""
    data = export(machine.target, machine.files, now=clock(machine), code=code)
    asked = parse_request(data)
    said = message_digest(asked.statements[0])
    body = {"request": data.decode(), "said": said}
    status, reply = await machine.ask("POST", "/issue", body)
    assert status == 200, reply
    return json.dumps(reply).encode()


def clock(machine: Registration) -> Any:
    return lambda: machine.now


def changed(reply: bytes, **members: str) -> bytes:
    found: Reply = replace(parse_reply(reply), **members)
    return found.payload()


async def test_a_site_without_a_line_enrols_by_file(machine: Registration) -> None:
    """A file out, a file in: then nothing is missing, and a line later just works."""
    reply = await carried(machine, await machine.code())
    done = take(reply, machine.target, machine.files, now=clock(machine))
    assert machine.files.missing() == ()
    assert await machine.enrol() == done


async def test_a_reply_of_a_false_exchange_is_not_installed(
    machine: Registration, tmp_path: Path
) -> None:
    """It answers our own request with its CA and its directory: nothing is written."""
    reply = await carried(machine)
    async with registration(tmp_path / "false") as false:
        false.files = machine.files
        theirs = parse_reply(await carried(false))
    issued = {"ca": theirs.ca, "certificate": theirs.certificate}
    lies: list[tuple[dict[str, str], type[Exception]]] = [
        (issued, ExchangeUntrusted),
        ({"ca": theirs.ca}, ExchangeUntrusted),
        ({"certificate": theirs.certificate}, ExchangeUntrusted),
        ({"directory": theirs.directory}, BadSignature),
        ({"node": OTHER}, MalformedMessage),
        ({"aud": "other.exchange"}, MalformedMessage),
        ({"certificate": "no PEM"}, MalformedMessage),
    ]
    for lie, error in lies:
        with pytest.raises(error):
            take(
                changed(reply, **lie), machine.target, machine.files, now=clock(machine)
            )
    assert not machine.files.ca.exists()
    assert not machine.files.tls_certificate.exists()
    assert not machine.files.directory.exists()


async def test_a_reply_for_other_keys_is_not_installed(
    machine: Registration, tmp_path: Path
) -> None:
    """A reply belongs to the machine that asked; one that never asked has no keys."""
    reply = await carried(machine)
    other = IdentityFiles(tmp_path / "other")
    with pytest.raises(NotEnrolled, match="export"):
        take(reply, machine.target, other, now=clock(machine))
    export(machine.target, other, now=clock(machine))
    with pytest.raises(ExchangeUntrusted, match=r"tls\.key"):
        take(reply, machine.target, other, now=clock(machine))


async def test_a_directory_that_has_other_keys_of_the_node_is_not_installed(
    machine: Registration, tmp_path: Path
) -> None:
    """The node was given to another machine while the reply was on its way."""
    reply = await carried(machine)
    await machine.ask("POST", "/reset", {"node": NODE})
    ours, machine.files = machine.files, IdentityFiles(tmp_path / "other")
    newer = parse_reply(await carried(machine)).directory
    with pytest.raises(ExchangeUntrusted, match="directory"):
        take(changed(reply, directory=newer), machine.target, ours, now=clock(machine))


async def test_a_reply_that_is_imported_again_does_not_go_back(
    machine: Registration,
) -> None:
    """A newer directory that came by the line meanwhile stays."""
    reply = await carried(machine)
    take(reply, machine.target, machine.files, now=clock(machine))
    await machine.faults({"kind": "clock", "seconds": 60})
    await machine.enrol()
    newer = machine.files.directory.read_bytes()
    take(reply, machine.target, machine.files, now=clock(machine))
    assert machine.files.directory.read_bytes() == newer


async def test_a_clock_wrong_by_a_year_is_said_at_import(machine: Registration) -> None:
    """There the certificate's own times are all there is to compare with."""
    reply = await carried(machine)
    for days in (-365, 730):
        with pytest.raises(ClockSkewed, match="this machine"):
            take(
                reply,
                machine.target,
                machine.files,
                now=lambda days=days: datetime.now(UTC) + timedelta(days=days),  # type: ignore[misc]
            )
    assert not machine.files.tls_certificate.exists()


async def test_a_request_file_that_was_altered_is_refused(
    machine: Registration,
) -> None:
    """Other keys, another node, another exchange, a stranger's statement."""
    data = export(machine.target, machine.files, now=clock(machine))
    asked = parse_request(data)
    stranger = PrivateKey.generate("sign")
    body = stranger.sign("fep-keys+jws", b"{}")
    for bad in (
        replace(asked, node=OTHER),
        replace(asked, aud="other.exchange"),
        replace(asked, statements=(body,)),
        replace(asked, statements=(asked.statements[0][:-4] + "AAAA",)),
        replace(asked, statements=asked.statements * 2),
        replace(asked, csr="nonsense"),
    ):
        said = message_digest(asked.statements[0])
        sent = {"request": bad.payload().decode(), "said": said}
        status, problem = await machine.ask("POST", "/issue", sent)
        assert status in (400, 422), (bad, status, problem)
    _, reply = await machine.ask("GET", "/pending")
    assert reply == {"pending": []}
