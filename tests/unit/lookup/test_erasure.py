# SPDX-License-Identifier: Apache-2.0
"""After a day is erased: what can still be learned from all that is left."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agent.crypto.jose import message_digest
from agent.wire.grammar import new_uuid7
from agent.wire.lookup import REQUEST_TYP, Reply, Request
from tests.support.audit_log import raw_files
from tests.support.lookup import ZHANG, World
from tests.support.requester import forged, item

KEY = ZHANG["citizen_id"]
BORN = "11010119900307"
CANDIDATES = [f"{BORN}{n:03d}{check}" for n in range(100) for check in "0123456789X"]
"""Everybody who was born there on that day, near enough."""
UUID7 = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
DAY_S = 86_400


def guessed(
    world: World, record: dict[str, Any], known: Request, ids: Iterable[str]
) -> str | None:
    """Whoever was asked for, found by trying persons under these ids.

    Args:
        record: what stands in the log.
        known: the request with everything right but person and id.
        ids: to try as ``jti``.
    """
    kid = world.consumer.sign.public.kid
    header = {"alg": "ES256", "kid": kid, "typ": REQUEST_TYP}
    blank = known.payload()
    for jti in ids:
        under = blank.replace(known.jti.encode(), jti.encode())
        for number in CANDIDATES:
            payload = under.replace(b"?" * 18, number.encode())
            if message_digest(forged(header, payload)) == record["request"]:
                return number
    return None


async def test_a_person_is_not_found_by_guessing_after_erasure(tmp_path: Path) -> None:
    """Who knows all of a request but person and ``jti``, and has every file, tries
    everybody with every id that he finds. With the true id, which stands in no file,
    the person would be found."""
    world = World(tmp_path)
    jti = new_uuid7(world.iat * 1000, secrets.token_bytes(10))
    known = world.asker.request(jti=world.next_id(), items=(item("?" * 18),))
    async with world.serving():
        assert isinstance(await world.ask(jti=jti), Reply)
        (record,) = await world.records()
        assert jti.encode() in files(tmp_path)  # remembered, for the same reply again
        world.clock.move(2 * DAY_S)
        await world.log.erase(record["day"], uid=0)
        assert world.log.key_of(record["day"]) is None
        left = files(tmp_path)
    for data in (left, files(tmp_path)):
        assert record["request"].encode() in data
        ids = {found.decode() for found in UUID7.findall(data)}
        assert record["decision_id"] in ids
        assert jti not in ids
        assert guessed(world, record, known, {*ids, record["jti"]}) is None
    assert guessed(world, record, known, [jti]) == KEY


def files(folder: Path) -> bytes:
    """The bytes of all that is left."""
    return b"\n".join(data for _, data in raw_files(folder))
