# SPDX-License-Identifier: Apache-2.0
"""Codes and approvals at the exchange, rule by rule, without a network."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from agent.crypto.jose import PrivateKey
from agent.wire.enrolment import Code
from agent.wire.fingerprint import Fingerprint
from sandbox.accept import Refused
from sandbox.codes import ALARMS, BURN, LONGEST_S, Codes, network
from sandbox.desk import Desk
from sandbox.enrolment import Answer, Enrolment, Issued, Pending, Throttled
from sandbox.est import Csr
from sandbox.options import Options
from sandbox.replies import Signer
from sandbox.store import Store
from sandbox.tls import new_authority, read_client

NODE = "11990100MB0000018H/rsj-fep1"
OTHER = "11990100MB0000026D/ybj-fep1"
HERE, THERE = "192.0.2.1", "192.0.2.2"
START = datetime(2026, 11, 21, 8, tzinfo=UTC)


class Machine:
    """Keys of a machine, and the requests that it makes with them."""

    def __init__(self, node: str = NODE, *, statement: str = "ab") -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.node = node
        self.statement = "sha256:" + statement * 32

    def csr(self) -> Csr:
        """Each with a new signature over the same."""
        hexes = self.statement.removeprefix("sha256:")
        uris = (f"fep:node/{self.node}", f"fep:keys/sha256/{hexes}")
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        request = (
            x509.CertificateSigningRequestBuilder()
            .subject_name(x509.Name([]))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return Csr(base64.b64encode(request.public_bytes(Encoding.DER)))


class Centre:
    """An exchange's judge and its clock."""

    def __init__(self, folder: Path, *, approve_all: bool = False) -> None:
        self.now = START
        self.store = Store(folder / "centre.db")
        options = Options(folder, approve_all=approve_all)
        signer = Signer(PrivateKey.generate("receipt"), options.aud, lambda: self.now)
        desk = Desk(self.store, signer, options, folder)
        self.codes = Codes(self.store)
        self.stranger = Machine(statement="ef").csr()
        self.judge = Enrolment(desk, self.codes, new_authority("CA", now=START))

    def code(self, node: str = NODE, *, hours: int = 72) -> Code:
        ((_, text, _),) = self.judge.make([node], hours=hours)
        return Code.parse(text)

    def ask(self, machine: Machine, code: Code, address: str = HERE) -> Answer:
        return self.judge.ask(machine.csr(), code.login(), address)

    def refused(self, machine: Machine, code: Code, address: str = HERE) -> str:
        with pytest.raises(Refused) as e:
            self.ask(machine, code, address)
        return e.value.problem.code

    def guess(self, code: Code, address: str = HERE) -> Answer | str:
        """A try with the right id and another secret."""
        try:
            return self.judge.ask(self.stranger, wrong(code).login(), address)
        except Refused as e:
            return e.problem.code

    def approve(self, machine: Machine) -> None:
        self.judge.approve(machine.node, machine.statement)

    @property
    def alarms(self) -> list[str]:
        return [alarm.kind for alarm in self.codes.alarms()]


def wrong(code: Code) -> Code:
    return Code(code.id, "0" * 18)


@pytest.fixture
def centre(tmp_path: Path) -> Iterator[Centre]:
    found = Centre(tmp_path)
    yield found
    found.store.close()


# --- a good machine ------------------------------------------------------------------


def test_a_certificate_comes_only_after_a_person_approved(centre: Centre) -> None:
    """Pending as often as asked, then the certificate, the same however often."""
    machine, code = Machine(), centre.code()
    assert centre.ask(machine, code) == Pending()
    assert centre.ask(machine, code) == Pending()
    assert centre.store.enrolled(NODE) is None
    centre.approve(machine)
    found = centre.ask(machine, code)
    assert isinstance(found, Issued)
    assert read_client(found.der).node == NODE
    assert centre.ask(machine, code) == found
    assert centre.codes.pending() == []
    assert centre.alarms == []


def test_without_a_code_nobody_is_heard(centre: Centre) -> None:
    """No login, another scheme, or nonsense: unauthenticated, and nothing is kept."""
    centre.code()
    for login in (None, "Bearer abc", "Basic !!!"):
        with pytest.raises(Refused) as e:
            centre.judge.ask(Machine().csr(), login, HERE)
        assert e.value.problem.code == "unauthenticated"
    assert centre.codes.pending() == []


def test_only_a_hash_of_a_code_is_kept(centre: Centre, tmp_path: Path) -> None:
    """Neither the secret nor the whole code stands in any file."""
    code = centre.code()
    centre.guess(code)
    centre.ask(Machine(), code)
    kept = b"".join(p.read_bytes() for p in tmp_path.iterdir() if p.is_file())
    assert code.hash().encode() in kept
    assert code.secret.encode() not in kept
    assert code.text.encode() not in kept


def test_what_is_approved_is_what_was_compared(centre: Centre) -> None:
    """A fingerprint of other keys approves nothing; words or digest of these do."""
    machine, code = Machine(), centre.code()
    centre.ask(machine, code)
    strange = Fingerprint(NODE, Machine(statement="cd").statement)
    with pytest.raises(Refused, match="do not approve"):
        centre.judge.approve(NODE, " ".join(strange.en))
    with pytest.raises(Refused, match="no request"):
        centre.judge.approve(OTHER, machine.statement)
    assert centre.ask(machine, code) == Pending()
    centre.judge.approve(NODE, " ".join(Fingerprint(NODE, machine.statement).zh))
    assert isinstance(centre.ask(machine, code), Issued)


def test_a_denied_request_stays_denied(centre: Centre) -> None:
    """The machine is told; approving it afterwards finds nothing."""
    machine, code = Machine(), centre.code()
    centre.ask(machine, code)
    centre.judge.deny(NODE, machine.statement)
    assert centre.refused(machine, code) == "forbidden"
    with pytest.raises(Refused, match="no request"):
        centre.approve(machine)


def test_a_code_expires_but_a_request_that_waits_does_not(centre: Centre) -> None:
    """72 hours to use it; the approval may take longer."""
    machine, code = Machine(), centre.code()
    late = centre.code(OTHER)
    centre.ask(machine, code)
    centre.now += timedelta(hours=73)
    assert centre.refused(Machine(OTHER), late) == "forbidden"
    assert centre.ask(machine, code) == Pending()


def test_a_new_code_replaces_the_one_that_nobody_used(centre: Centre) -> None:
    """A slip that was lost in the post is worth nothing any more."""
    lost, new = centre.code(), centre.code()
    assert centre.refused(Machine(), lost) == "unauthenticated"
    assert centre.ask(Machine(), new) == Pending()


def test_sixty_departments_get_their_codes_at_once(centre: Centre) -> None:
    """Each its own; a name that is none or stands twice makes none at all."""
    nodes = [f"11990100MB00000{n:02}X/fep1" for n in range(60)]
    made = centre.judge.make(nodes, hours=72)
    assert [node for node, _, _ in made] == nodes
    assert len({Code.parse(text).id for _, text, _ in made}) == 60
    for bad in ([], ["nonsense"], [NODE, NODE], [NODE] * 1001):
        with pytest.raises(Refused):
            centre.judge.make(bad, hours=72)


# --- attacks -------------------------------------------------------------------------


def test_attack_stolen_code_races_the_honest_agent(centre: Centre) -> None:
    """The first request binds; the second is refused and alarmed, whoever came first.

    If the thief was first, the words that the honest clerk reads do not agree, so
    nobody approves; and the honest agent's refusal is what raises the alarm.
    """
    thief, honest, code = Machine(statement="cd"), Machine(), centre.code()
    assert centre.ask(thief, code, THERE) == Pending()
    assert centre.refused(honest, code) == "forbidden"
    assert centre.alarms == ["code-reused"]
    with pytest.raises(Refused, match="do not approve"):
        centre.judge.approve(NODE, " ".join(Fingerprint(NODE, honest.statement).en))
    assert centre.store.enrolled(NODE) is None


def test_attack_stolen_code_after_the_certificate(centre: Centre) -> None:
    """A code is consumed: other keys get nothing with it, and an alarm."""
    honest, code = Machine(), centre.code()
    centre.ask(honest, code)
    centre.approve(honest)
    assert centre.refused(Machine(statement="cd"), code, THERE) == "forbidden"
    assert centre.refused(Machine(), code, THERE) == "forbidden"  # another TLS key
    assert centre.alarms == ["code-reused", "code-reused"]


def test_attack_code_guessing_gets_slower_and_slower(centre: Centre) -> None:
    """Each wrong secret doubles the wait; a try before its end is not even judged."""
    code = centre.code()
    waits = []
    for _ in range(14):
        assert centre.guess(code) == "unauthenticated"
        found = centre.guess(code)
        assert isinstance(found, Throttled)
        waits.append(found.seconds)
        centre.now += timedelta(seconds=found.seconds)
    assert waits == [min(1 << n, LONGEST_S) for n in range(14)]


def test_attack_code_guessing_burns_the_code(centre: Centre) -> None:
    """Fifty wrong secrets from wherever: an alarm, and the right one is useless too."""
    code = centre.code()
    for n in range(BURN):
        assert centre.alarms == []
        assert centre.guess(code, f"198.51.100.{n}") == "unauthenticated"
    assert centre.alarms == ["code-burned"]
    assert centre.refused(Machine(), code) == "forbidden"
    assert centre.codes.pending() == []


def test_attack_lock_out_from_one_address_stops_no_other(centre: Centre) -> None:
    """Who guesses from his own address waits alone."""
    code = centre.code()
    centre.guess(code, THERE)
    assert isinstance(centre.guess(code, THERE), Throttled)
    assert centre.ask(Machine(), code, HERE) == Pending()


def test_attack_lock_out_of_a_request_that_waits(centre: Centre) -> None:
    """Guesses at a bound code burn nothing: it is good for its own request only."""
    machine, code = Machine(), centre.code()
    centre.ask(machine, code)
    for n in range(BURN + 1):
        centre.guess(code, f"198.51.100.{n}")
    assert centre.ask(machine, code) == Pending()
    centre.approve(machine)
    assert isinstance(centre.ask(machine, code), Issued)


def test_attack_filling_the_file_with_unknown_codes(centre: Centre) -> None:
    """A code that does not exist leaves no trace, and looks like a wrong secret."""
    for n in range(100):
        assert centre.guess(Code(f"{n:04}", "0" * 18)) == "unauthenticated"
    sql = "select count(*) from codefailure"
    assert centre.store.connection.execute(sql).fetchone() == (0,)


def test_attack_filling_the_file_with_failures_and_alarms(centre: Centre) -> None:
    """Of one code so many failures are kept as burn it; of alarms the newest."""
    code = centre.code()
    for n in range(BURN + 20):
        centre.guess(code, f"198.51.100.{n}")
    sql = "select count(*) from codefailure"
    assert centre.store.connection.execute(sql).fetchone() == (BURN,)
    with centre.store.transaction():
        for n in range(ALARMS + 20):
            centre.now += timedelta(seconds=1)
            centre.codes.alarm("code-reused", f"request {n}", now=centre.now)
    kept = [alarm.detail for alarm in centre.codes.alarms()]
    assert kept == [f"request {n}" for n in range(ALARMS + 19, 19, -1)]


def test_a_code_lives_no_longer_than_what_it_gave(centre: Centre) -> None:
    """After a reset of the node, or its certificate's end, another code is needed."""
    machine, code = Machine(), centre.code()
    centre.ask(machine, code)
    centre.approve(machine)
    assert isinstance(centre.ask(machine, code), Issued)
    centre.now += timedelta(days=366)
    assert centre.refused(machine, code) == "forbidden"
    assert centre.ask(machine, centre.code()) == Pending()  # the same keys go on
    centre.now = START
    with centre.store.transaction():  # as a reset does
        centre.store.connection.execute("delete from node where node = ?", (NODE,))
    assert centre.refused(machine, code) == "forbidden"
    assert centre.alarms == []


def test_attack_request_for_another_department_than_the_codes(centre: Centre) -> None:
    """Refused with an alarm; the code stays good for its own node."""
    code = centre.code()
    assert centre.refused(Machine(OTHER), code) == "forbidden"
    assert centre.alarms == ["code-misused"]
    assert centre.ask(Machine(), code) == Pending()


def test_attack_two_machines_with_one_identity(centre: Centre) -> None:
    """Each with a good code of the node, but other keys: the node has one machine."""
    first, second = Machine(), Machine(statement="cd")
    code = centre.code()
    centre.ask(first, code)
    centre.approve(first)
    assert centre.refused(second, centre.code()) == "forbidden"
    assert centre.alarms == ["node-taken"]
    assert isinstance(centre.ask(first, code), Issued)


def test_two_requests_of_one_node_cannot_both_be_approved(centre: Centre) -> None:
    """Both waited, each with a code of its own; the second approval is refused."""
    first, second = Machine(), Machine(statement="cd")
    one = centre.code()
    centre.ask(first, one)
    centre.ask(second, centre.code())
    centre.approve(first)
    with pytest.raises(Refused, match="other keys"):
        centre.approve(second)
    assert isinstance(centre.ask(first, one), Issued)


@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("file", "file"),
    ],
)
def test_attack_guessing_from_all_addresses_of_one_machine(
    address: str, same: str
) -> None:
    """A machine has 2^64 IPv6 addresses; they count as one."""
    assert network(address) == same


# --- by file -------------------------------------------------------------------------


def test_a_request_by_file_needs_a_person_or_says_so(centre: Centre) -> None:
    """With its fingerprint it gets a certificate, with another or none nothing."""
    machine = Machine()
    said = " ".join(Fingerprint(NODE, machine.statement).en)
    for other in (None, "legal winner"):
        with pytest.raises(Refused, match="do not approve"):
            centre.judge.by_file(machine.csr(), None, other)
    code = centre.code()
    with pytest.raises(Refused, match="one-time code"):
        centre.judge.by_file(machine.csr(), wrong(code).text, said)
    with pytest.raises(Refused, match="code: "):
        centre.judge.by_file(machine.csr(), "nonsense", said)
    centre.now += timedelta(seconds=2)
    der = centre.judge.by_file(machine.csr(), code.text, said)
    assert read_client(der).statement == machine.statement
    assert centre.judge.by_file(machine.csr(), code.text, said) == der


def test_an_exchange_that_approves_all_takes_a_code_seriously(tmp_path: Path) -> None:
    """Without one everybody is let in; with one it has to be right."""
    centre = Centre(tmp_path, approve_all=True)
    code = centre.code()
    assert isinstance(centre.judge.ask(Machine().csr(), None, HERE), Issued)
    assert centre.guess(code) == "unauthenticated"
    centre.now += timedelta(seconds=2)
    assert isinstance(centre.ask(Machine(), code), Issued)
    centre.store.close()
