# SPDX-License-Identifier: Apache-2.0
"""What changes while connections live: revocations, and who owns a resource."""

from __future__ import annotations

import itertools
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from tests.contract.exchange.conftest import enrolled
from tests.support.exchange_client import GAJ, Node, Stream, payload
from tests.support.sandbox_process import SandboxProcess

pytestmark = pytest.mark.contract

ROWS = [("u", "110101199003070011", "张三", 36)]
_NAMES = itertools.count(1)


@pytest.fixture
def fresh(sandbox: SandboxProcess, tmp_path: Path) -> Node:
    """A node that can be spoiled."""
    return enrolled(sandbox, tmp_path, node=f"{GAJ[:18]}/d{next(_NAMES)}")


def status(connection: HTTPSConnection, path: str = "/v1/directory") -> int:
    """Of one more request on a connection that stays open."""
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def files(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = payload(node.get("/v1/directory").body.decode())["files"]
    return found


@pytest.mark.parametrize("what", ["kid", "node"])
def test_revoked_certificate_on_a_live_connection_is_refused(
    sandbox: SandboxProcess, fresh: Node, what: str
) -> None:
    """At the next request, though TLS was done before."""
    with fresh.connection() as connection:
        assert status(connection) == 200
        body = {"kid": fresh.tls.kid} if what == "kid" else {"node": fresh.node}
        sandbox.ask("POST", "/revoke", body)
        assert connection.sock is not None
        assert status(connection) == 401


def test_revoked_node_stands_in_the_directory_with_all_its_keys(
    sandbox: SandboxProcess, fresh: Node, node: Node
) -> None:
    """Its keys stay there, revoked; nothing of it is taken any more."""
    sandbox.ask("POST", "/revoke", {"node": fresh.node})
    found = files(node)
    assert fresh.node in [n["node"] for n in found["revoked.json"]["nodes"]]
    kids = {k["kid"] for k in found["revoked.json"]["kids"]}
    assert {fresh.tls.kid, fresh.key.kid, fresh.decrypt.kid} <= kids
    (entry,) = [
        n
        for n in found[f"directory/{fresh.node[:18]}.json"]["nodes"]
        if n["node"] == fresh.node
    ]
    assert (entry["status"], len(entry["statements"])) == ("revoked", 1)


def test_upload_that_was_begun_before_its_node_was_revoked_is_not_stored(
    sandbox: SandboxProcess, fresh: Node, resource: str
) -> None:
    """The first bytes were taken; the last are not."""
    stream = Stream(fresh, resource)
    assert stream.put_catalog().status == 201
    data = stream.next(ROWS).file()
    begun = fresh.create(len(data))
    assert begun.status == 201
    sandbox.ask("POST", "/revoke", {"node": fresh.node})
    location = begun.headers["Location"]
    assert fresh.patch(location, 0, data).status == 401
    assert sandbox.state()["streams"][resource]["epoch"] == 0


def test_resource_given_to_another_node_refuses_the_old_owner(
    sandbox: SandboxProcess, node: Node, fresh: Node, resource: str
) -> None:
    """``not-owner`` for batches and catalogs, also in the middle of an upload."""
    stream = Stream(node, resource)
    assert stream.put_catalog().status == 201
    stream.push(stream.next(ROWS))
    late = stream.next(ROWS).file()
    begun = node.create(len(late), late[:-1])
    assert begun.status == 201
    sandbox.ask("POST", "/owner", {"resource": resource, "node": fresh.node})
    answer = node.patch(begun.headers["Location"], len(late) - 1, late[-1:])
    assert (answer.status, answer.problem) == (422, "not-owner")
    answer = node.create(len(late), late)
    assert (answer.status, answer.problem) == (422, "not-owner")
    assert stream.put_catalog().problem == "not-owner"
    owners = files(node)[f"directory/{fresh.node[:18]}.json"]["resources"]
    assert {"resource": resource, "node": fresh.node} in owners


def test_new_owner_goes_on_in_a_new_epoch(
    sandbox: SandboxProcess, node: Node, fresh: Node, resource: str
) -> None:
    """Chained to what the old one stored; its full snapshot replaces those rows."""
    old = Stream(node, resource)
    assert old.put_catalog().status == 201
    last = old.next(ROWS)
    old.push(last)
    sandbox.ask("POST", "/owner", {"resource": resource, "node": fresh.node})
    place = fresh.position(resource)
    assert (place["epoch"], place["seq"], place["digest"]) == (1, 1, last.digest)
    new = Stream(fresh, resource)
    assert new.put_catalog().status == 201
    assert new.node.send(new.next(ROWS)).problem in {"chain-gap", "fork"}
    new.epoch, new.seq, new.prev, new.reason = 2, 0, place["digest"], "spool_lost"
    new.push(new.next(ROWS))
    assert fresh.wait_receipt(2, 1, resource)["state"] == "loaded"


def test_only_known_nodes_get_resources(
    sandbox: SandboxProcess, stream: Stream
) -> None:
    """And only resources that somebody has."""
    for resource, node in ((stream.resource, f"{GAJ[:18]}/nobody"), ("1/2", GAJ)):
        with pytest.raises(RuntimeError, match="404"):
            sandbox.ask("POST", "/owner", {"resource": resource, "node": node})
