# SPDX-License-Identifier: Apache-2.0
"""The listener's process is killed while requests are in flight.

Daemon, exchange, source and door are real processes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from sandbox.consumer.client import Heard
from tests.support.lookup_site import DoorAsker, Site, digest_of, person, running_site
from tests.support.postgres import find_programs

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(find_programs() is None, reason="needs PostgreSQL"),
]
NUMBERS = count(2, 2)
AT_A_TIME = 24


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """A department, its daemon running."""
    with (
        tempfile.TemporaryDirectory(prefix="fep") as folder,
        running_site(Path(folder)) as site,
    ):
        yield site


@pytest.fixture(scope="module")
def asker(site: Site) -> Iterator[DoorAsker]:
    """Who asks; the department has its keys already."""
    with DoorAsker(site) as asker:
        known = asker.message(person(next(NUMBERS)))
        site.until(lambda: isinstance(asker.by(known), Heard))
        yield asker


@pytest.mark.parametrize("after_s", [0.05, 0.1, 0.3])
def test_what_was_settled_is_in_the_log_and_answered_again(
    site: Site, asker: DoorAsker, after_s: float
) -> None:
    """Whether its answer came or was lost: one query, one record, one signed reply."""
    keys = [person(next(NUMBERS)) for _ in range(AT_A_TIME)]
    messages = [asker.message(key) for key in keys]
    jtis = {message.request.jti for message in messages}
    pid = site.pid

    def kill() -> None:
        time.sleep(after_s)
        assert site.kill_door()

    first = asker.meanwhile([(message, True) for message in messages], kill)
    site.until(lambda: not site.kept().unfinished() & jtis)
    begun = jtis & site.kept().requests.keys()
    settled = site.kept().replies()
    site.until(lambda: site.lookups()["listener"]["up"])
    again = asker.meanwhile([(message, True) for message in messages])
    for message, key, was, now in zip(messages, keys, first, again, strict=True):
        assert isinstance(now, Heard), now
        assert now.reply.status == "ok"
        assert digest_of(now) in site.kept().replies()
        if isinstance(was, Heard):
            assert was.jws == now.jws
        if message.request.jti in begun:
            assert digest_of(now) in settled
        assert site.trail.asked()[key] == 1
    assert site.pid == pid


def test_the_relay_does_not_notice(site: Site, asker: DoorAsker) -> None:
    """Doors die again and again; what comes by the line is answered each time."""
    for _ in range(3):
        site.kill_door()
        heard = asker.by(asker.message(person(next(NUMBERS))))
        assert isinstance(heard, Heard)
        assert heard.reply.status == "ok"
    site.until(lambda: site.lookups()["listener"]["up"])
    assert site.lookups()["audit"]["stopped"] is None
