# SPDX-License-Identifier: Apache-2.0
"""A lookup whose daemon is killed, or whose disk fails, at one exact moment.

Daemon, exchange, source and verifier are real processes; PostgreSQL's own log tells
what it was asked. Moments are met by a lock on the table, by SIGSTOP and by strace.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

from agent.crypto.jose import message_digest
from agent.wire.problem import Problem
from sandbox.consumer.client import Heard
from tests.support.lookup_site import (
    DoorAsker,
    Site,
    digest_of,
    person,
    running_site,
    verified,
)
from tests.support.postgres import find_programs

STRACE = shutil.which("strace")
pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(find_programs() is None, reason="needs PostgreSQL"),
]
traced = pytest.mark.skipif(STRACE is None, reason="needs strace (apt install strace)")
NUMBERS = count(2, 2)


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder with a short name."""
    with tempfile.TemporaryDirectory(prefix="fep") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def department(place: Path) -> Iterator[Site]:
    """One for all tests; each may leave its daemon dead."""
    with running_site(place) as site:
        yield site


@pytest.fixture(scope="module")
def asker(department: Site) -> Iterator[DoorAsker]:
    """Who asks."""
    with DoorAsker(department) as asker:
        yield asker


@pytest.fixture
def site(department: Site) -> Site:
    """The department, its daemon running, its worker too."""
    if not department.alive or department.lookups()["audit"]["stopped"]:
        reborn(department)
    department.until(lambda: bool(department.workers()))
    return department


# --- kills ----------------------------------------------------------------------------


def test_killed_before_the_source_is_asked_it_is_never_asked(
    site: Site, asker: DoorAsker
) -> None:
    """Begun and not queried: answered ``interrupted``, with one and the same reply."""
    key = new_key()
    message = asker.message(key)
    jti = message.request.jti

    def kill() -> None:
        site.until(lambda: jti in site.kept().unfinished())
        site.kill()

    for pid in site.workers():
        stopped(pid)
    assert asker.meanwhile([(message, True)], kill) == [None]
    assert site.kept().unfinished() == {jti}
    site.start()
    assert site.kept().unfinished() == set()
    heard = interrupted(asker.by(message, door=True))
    assert asker.by(message) == heard
    assert digest_of(heard) in site.kept().replies()
    assert site.trail.asked()[key] == 0


def test_killed_while_the_source_answers_it_is_not_asked_again(
    site: Site, asker: DoorAsker
) -> None:
    """Queried and not settled: answered ``interrupted``, without a second query."""
    key = new_key()
    message = asker.message(key)

    def kill() -> None:
        site.until(lambda: site.busy() == 1)
        stopped(site.pid)
        release()
        site.until(lambda: site.busy() == 0)
        site.kill()

    with site.paused() as release:
        assert asker.meanwhile([(message, True)], kill) == [None]
    assert site.trail.asked()[key] == 1
    assert site.kept().unfinished() == {message.request.jti}
    site.start()
    heard = interrupted(asker.by(message))
    assert digest_of(heard) in site.kept().replies()
    assert site.trail.asked()[key] == 1


@traced
def test_killed_between_record_and_reply_the_record_is_answered(
    site: Site, asker: DoorAsker
) -> None:
    """Settled and not sent: the next life gives the reply that the record names."""
    key = new_key()
    message = asker.message(key)
    jti = message.request.jti

    def kill() -> None:
        site.until(lambda: site.busy() == 1)
        with injected(site, "fdatasync:delay_exit=2000000"):
            release()
            site.until(lambda: site.kept().requests[jti] is not None)
            site.kill()

    with site.paused() as release:
        assert asker.meanwhile([(message, True)], kill) == [None]
    recorded = site.kept()
    site.start()
    heard = good(asker.by(message))
    assert recorded.replies()[digest_of(heard)]["n"] == recorded.requests[jti]
    assert good(asker.by(message, door=True)).jws == heard.jws
    assert site.trail.asked()[key] == 1


@traced
@pytest.mark.parametrize("door", [False, True])
def test_no_reply_leaves_before_its_record_is_synced(
    site: Site, asker: DoorAsker, door: bool
) -> None:
    """While the disk takes its time the consumer waits."""
    message = asker.message(new_key())
    jti = message.request.jti
    written: list[float] = []

    def slow() -> None:
        site.until(lambda: site.busy() == 1)
        with injected(site, "fdatasync:delay_enter=1000000"):
            release()
            site.until(lambda: site.kept().requests[jti] is not None)
            written.append(time.monotonic())
            time.sleep(1.5)

    with site.paused() as release:
        (answer,) = asker.meanwhile([(message, door)], slow)
    good(answer)
    assert asker.heard_at - written[0] > 0.8


@traced
def test_killed_in_its_recovery_it_recovers_again(site: Site, asker: DoorAsker) -> None:
    """However often it dies over what it left unfinished, that is answered once."""
    messages = [asker.message(new_key()) for _ in range(4)]
    jtis = {message.request.jti for message in messages}

    def kill() -> None:
        site.until(lambda: site.kept().unfinished() == jtis)
        site.kill()

    for pid in site.workers():
        stopped(pid)
    asker.meanwhile([(message, True) for message in messages], kill)
    left = [len(jtis)]
    for _ in range(2):
        die_at_sync(site, 2)  # the first is that of its start
        left.append(len(site.kept().unfinished()))
    assert left == sorted(left, reverse=True)
    assert set(left) & {1, 2, 3}, "it never died half way"
    site.start()
    for message in messages:
        interrupted(asker.by(message))
    recorded = [r["request"] for r in site.kept().replies().values()]
    assert all(recorded.count(message_digest(m.jws)) == 1 for m in messages)


# --- disks ----------------------------------------------------------------------------


@traced
def test_a_full_disk_answers_nothing_and_the_status_says_why(
    site: Site, asker: DoorAsker
) -> None:
    """ENOSPC: an unsigned ``busy`` on both ways, no query, a daemon that still tells;
    space alone mends nothing, a restart does."""
    key = new_key()
    message = asker.message(key)
    with injected(site, "pwrite64:error=ENOSPC"):
        for door in (True, False):
            refused(asker.by(message, door=door))
    refused(asker.by(message))
    assert site.alive
    found = site.lookups()
    assert found["healthy"] is False
    assert found["audit"]["stopped"] == "audit-write-failed"
    assert site.agent.run("status").returncode == 1
    assert site.trail.asked()[key] == 0
    reborn(site)
    heard = good(asker.by(message))
    assert digest_of(heard) in site.kept().replies()
    assert site.trail.asked()[key] == 1


@traced
def test_a_disk_that_fills_while_the_source_answers_sends_nothing(
    site: Site, asker: DoorAsker
) -> None:
    """The row was read, the record could not be written: it is not answered, not even
    after a restart, when it was ``interrupted``."""
    key = new_key()
    message = asker.message(key)

    def fill() -> None:
        site.until(lambda: site.busy() == 1)
        with injected(site, "pwrite64:error=ENOSPC"):
            release()
            site.until(lambda: bool(site.lookups()["audit"]["stopped"]))

    with site.paused() as release:
        answers = asker.meanwhile([(message, False), (message, True)], fill)
    for answer in answers:
        refused(answer)
    reborn(site)
    interrupted(asker.by(message))
    assert site.trail.asked()[key] == 1


# --- afterwards -----------------------------------------------------------------------


def test_after_all_that_the_log_is_whole(site: Site, place: Path) -> None:
    """The verifier, a process that knows nothing of us, takes what is exported."""
    size = site.export(place / "log")
    found = verified(place / "log")
    assert found["good"] is True
    assert found["size"] == size


# --- parts ----------------------------------------------------------------------------


def new_key() -> str:
    """A known person whom nobody has asked for."""
    return person(next(NUMBERS))


def reborn(site: Site) -> None:
    """kill -9, and the next life."""
    if site.agent.process is not None:
        site.kill()
    site.start()


def stopped(pid: int) -> None:
    """Stop a process, and wait until it stands."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        time.sleep(0.001)


def tracing(site: Site, words: str) -> list[str]:
    """strace, that does something at calls on the ledger's journal."""
    assert STRACE is not None
    wal = site.ledger.with_name("lookup.db-wal")
    call = words.partition(":")[0]
    return [
        STRACE,
        "-f",
        "-P",
        str(wal),
        "-e",
        f"trace={call}",
        "-e",
        f"inject={words}",
    ]


@contextmanager
def injected(site: Site, words: str) -> Iterator[None]:
    """strace does something to the daemon that runs."""
    with subprocess.Popen(
        [*tracing(site, words), "-p", str(site.pid)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as tracer:
        assert tracer.stderr is not None
        line = tracer.stderr.readline()
        if "attached" not in line:
            tracer.kill()
            pytest.skip(f"strace cannot attach: {line}")
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.stderr.read()


def die_at_sync(site: Site, number: int) -> None:
    """A life that ends with ``kill -9`` at a sync of the journal."""
    words = tracing(site, f"fdatasync:signal=KILL:when={number}")
    site.agent.launch(*words)
    assert site.agent.process is not None
    site.agent.process.wait(60)
    site.agent.process = None


def interrupted(answer: object) -> Heard:
    """A signed answer that says that it was not finished."""
    assert isinstance(answer, Heard), answer
    assert (answer.reply.status, answer.reply.reasons) == ("error", ("interrupted",))
    return answer


def good(answer: object) -> Heard:
    """A signed answer with a row."""
    assert isinstance(answer, Heard), answer
    assert (answer.reply.status, answer.reply.reasons) == ("ok", ())
    assert answer.reply.results[0].status == "ok"
    return answer


def refused(answer: object) -> None:
    """No signed answer, but a problem: come again later."""
    assert isinstance(answer, Problem), answer
    assert (answer.status, answer.code) == (503, "busy")
