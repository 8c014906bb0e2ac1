# SPDX-License-Identifier: Apache-2.0
"""Which commands are carried out: every forgery, every reason, and the rate."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

import pytest

from agent.control.commands import AT_ONCE, Here, Pace, judge
from agent.crypto.jose import PrivateKey
from agent.errors import BadSignature, MalformedMessage, UnknownKey
from agent.wire import command as wire
from tests.support.commands import (
    AUD,
    IAT,
    KEY,
    NODE,
    OTHER,
    RESOURCE,
    command,
    directory,
    signed,
)

ALL = frozenset(wire.COMMANDS)


def here(at: int = IAT, allowed: Collection[str] = ALL) -> Here:
    return Here(NODE, AUD, datetime.fromtimestamp(at, UTC), allowed)


def reason(cmd: str = "refresh", at: int = IAT, **more: Any) -> str | None:
    allowed = more.pop("allowed", ALL)
    return judge(signed(command(cmd, **more)), directory(), here(at, allowed)).reason


@pytest.mark.parametrize("cmd", wire.COMMANDS)
def test_each_command_is_off_by_default(cmd: str) -> None:
    """And allowed one by one."""
    resource = RESOURCE if cmd in wire.OF_A_RESOURCE else None
    assert reason(cmd, resource=resource, allowed=()) == "off"
    assert reason(cmd, resource=resource, allowed=(cmd,)) is None
    others = ALL - {cmd}
    assert reason(cmd, resource=resource, allowed=others) == "off"


def test_unknown_command_is_refused() -> None:
    """Also if somebody managed to allow it."""
    assert reason("reboot", allowed=("reboot",)) == "unknown"


def test_clock_has_the_tolerance_of_lookups() -> None:
    """60 s before and 60 s after; not a second more."""
    assert reason(at=IAT - 60) is None
    assert reason(at=IAT - 61) == "early"
    assert reason(at=IAT + 660) is None
    assert reason(at=IAT + 661) == "late"


def test_command_to_another_node_is_nothing_of_ours() -> None:
    """Though it is genuine; nor one of another exchange under our exchange's key."""
    for found in (command(aud=OTHER), command(iss="other.exchange")):
        with pytest.raises(MalformedMessage):
            judge(signed(found), directory(), here())


def test_command_signed_by_a_strangers_key_is_refused() -> None:
    """Nor does the exchange's receipt key order anything."""
    stranger = PrivateKey.generate("command")
    with pytest.raises(UnknownKey):
        judge(signed(command(), stranger), directory(), here())
    receipt = PrivateKey.generate("receipt")
    same = PrivateKey.from_pem(receipt.pem(), purpose="command")
    known = directory((receipt, "active"))
    with pytest.raises(UnknownKey):
        judge(signed(command(), same), known, here())


def test_command_with_another_signature_is_refused() -> None:
    """A kid is no proof."""
    forged = signed(command(), PrivateKey.generate("command"))
    genuine = signed(command())
    mixed = ".".join((*genuine.split(".")[:2], forged.rpartition(".")[2]))
    with pytest.raises(BadSignature):
        judge(mixed, directory(), here())


@pytest.mark.parametrize("how", ["retired", "revoked", "list"])
def test_command_of_a_key_that_is_not_active_is_refused(how: str) -> None:
    """Retired, revoked by its status, revoked by the list."""
    known = {
        "retired": directory((KEY, "retired")),
        "revoked": directory((KEY, "revoked")),
        "list": directory(revoked=(KEY.public.kid,)),
    }[how]
    with pytest.raises(UnknownKey):
        judge(signed(command()), known, here())


def test_long_command_is_refused_before_any_key_is_looked_up() -> None:
    """By its bytes: no argument is read of it."""
    text = signed(command())
    for bad in (text + "A" * wire.CAP, "x" * (wire.CAP + 1), "", "a.b", "人.人.人"):
        with pytest.raises(MalformedMessage):
            judge(bad, directory(revoked=(KEY.public.kid,)), here())


def test_pace_lets_a_burst_through_and_then_one_at_a_time() -> None:
    """However long it was quiet before, no more than the burst."""
    at = [0.0]
    pace = Pace(lambda: at[0])
    assert [pace.take() for _ in range(1000)].count(True) == AT_ONCE
    assert pace.wait_s() == pytest.approx(6.0)
    at[0] += 6.0
    assert [pace.take(), pace.take()] == [True, False]
    at[0] += 86_400
    assert [pace.take() for _ in range(1000)].count(True) == AT_ONCE
