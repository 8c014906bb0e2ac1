# SPDX-License-Identifier: Apache-2.0
"""Commands and their results: what is read, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.errors import MalformedMessage
from agent.wire.command import (
    LIST_CAP,
    MOST,
    listed,
    parse,
    parse_list,
    parse_result,
)
from tests.support.commands import IAT, RESOURCE, command, result

RESULT = result()


def body(**changes: Any) -> bytes:
    found = json.loads(command("run", RESOURCE).payload())
    return json.dumps(found | changes).encode()


@pytest.mark.parametrize("cmd", ["refresh", "run", "reconcile", "diagnostics"])
def test_what_is_sent_is_what_is_read(cmd: str) -> None:
    """Those of a resource have it, the others nothing."""
    found = command(cmd, RESOURCE if cmd in {"run", "reconcile"} else None)
    assert parse(found.payload()) == found


def test_command_of_a_later_version_is_read() -> None:
    """So that the exchange can be told that it is not known, whatever it takes."""
    found = parse(body(cmd="reboot", args={"at": 7}))
    assert (found.cmd, found.resource) == ("reboot", None)


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"iss": "Not an exchange"},
        {"aud": "rsj"},
        {"jti": "1"},
        {"iat": -1},
        {"exp": IAT},
        {"exp": IAT + 601},
        {"cmd": "rm -rf"},
        {"cmd": None},
        {"args": None},
        {"args": {}},
        {"args": {"resource": "../../etc/passwd"}},
        {"args": {"resource": RESOURCE, "kind": "recall"}},
        {"cmd": "refresh"},
        {"colour": "red"},
    ],
    ids=str,
)
def test_command_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    """Each member has its type and bounds, and there are no others."""
    with pytest.raises(MalformedMessage):
        parse(body(**changes))


def test_result_that_is_sent_is_what_is_read() -> None:
    """With a reason, and with the digest of a bundle."""
    assert parse_result(RESULT.payload()) == RESULT
    refused = result(status="refused", code="off")
    assert parse_result(refused.payload()) == refused
    brought = result(bundle="sha256:" + "1" * 64)
    assert parse_result(brought.payload()) == brought


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "perhaps"},
        {"code": "off"},
        {"status": "failed"},
        {"irt": None},
        {"at": "yesterday"},
        {"bundle": "1" * 64},
        {"detail": "in plain words"},
    ],
    ids=str,
)
def test_result_that_does_not_fit_is_refused(changes: dict[str, Any]) -> None:
    """A code stands exactly where something was not done; free text nowhere."""
    with pytest.raises(MalformedMessage):
        parse_result(json.dumps(json.loads(RESULT.payload()) | changes).encode())


def test_list_is_bounded() -> None:
    """By its commands and its bytes; a later member is ignored."""
    assert parse_list(listed(["a.b.c"] * MOST)) == ("a.b.c",) * MOST
    assert parse_list(b'{"v":1,"commands":[],"more":true}') == ()
    for bad in (
        listed(["a.b.c"] * (MOST + 1)),
        listed(["x" * LIST_CAP]),
        b'{"v":1,"commands":[1]}',
        b'{"v":1,"commands":null}',
        b"[]",
    ):
        with pytest.raises(MalformedMessage):
            parse_list(bad)
