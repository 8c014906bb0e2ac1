# SPDX-License-Identifier: Apache-2.0
"""Who is who: nodes, their keys, resources and exchanges (wire.md §1, Directory).

The files are those that the TUF repository will carry; until then the exchange signs
them together as ``fep-directory+jws``. Unknown files and unknown members are ignored,
so that a later directory does not stop an older agent.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

from agent.crypto.jose import PublicKey
from agent.errors import MalformedMessage, UnknownKey
from agent.wire import keys as key_chain
from agent.wire import strict
from agent.wire.grammar import DEPARTMENT, EXCHANGE, KID, NODE, RESOURCE
from agent.wire.keys import KeyChain
from agent.wire.members import Members, read

TYP = "fep-directory+jws"
CAP = 16 * 1024 * 1024
"""Longest directory that is read, bytes of the compact JWS."""

EXCHANGE_PURPOSES = ("receipt", "command", "witness")
"""Purposes of the keys that an exchange has."""

Status = Literal["active", "retired", "revoked"]
_STATUS = ("active", "retired", "revoked")
NodeStatus = Literal["active", "retired", "revoked", "left"]
_NODE_STATUS = (*_STATUS, "left")
_DEPARTMENT_FILE = re.compile(r"directory/([0-9A-Z]{18})\.json")
_EXCHANGE_FILE = "exchange.json"
_REVOKED_FILE = "revoked.json"


@dataclass(frozen=True)
class KeyStatus:
    """How a key of a node stands.

    Args:
        since: when this status began, wire grammar.
        until: when it ends, or None.
    """

    kid: str
    status: Status
    since: str
    until: str | None


@dataclass(frozen=True)
class Reset:
    """A node that began anew with other keys.

    Args:
        at: when, wire grammar.
        reason: for people.
    """

    at: str
    reason: str


@dataclass(frozen=True)
class NodeEntry:
    """A node: its key statements as received, and how each key stands.

    ``reset`` says why its chain does not follow from an earlier one.
    """

    node: str
    status: NodeStatus
    statements: tuple[str, ...]
    keys: tuple[KeyStatus, ...]
    reset: Reset | None = None

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """Message digests of its statements, whose signatures nobody has checked."""
        inputs = (s.rpartition(".")[0].encode("utf-8") for s in self.statements)
        return tuple(f"sha256:{hashlib.sha256(i).hexdigest()}" for i in inputs)

    @cached_property
    def by_kid(self) -> Mapping[str, KeyStatus]:
        """The keys by kid; of one that is there twice the first."""
        return {key.kid: key for key in reversed(self.keys)}


@dataclass(frozen=True)
class DepartmentFile:
    """``directory/<USCC>.json``: a department's nodes, and which node owns what."""

    department: str
    nodes: tuple[NodeEntry, ...]
    resources: Mapping[str, str]
    """Resource -> node."""

    def as_object(self) -> dict[str, Any]:
        """The JSON of the file."""
        resources = [{"resource": r, "node": n} for r, n in self.resources.items()]
        nodes = [_node_object(n) for n in self.nodes]
        head = {"v": 1, "department": self.department}
        return {**head, "nodes": nodes, "resources": resources}


@dataclass(frozen=True)
class ExchangeEntry:
    """An exchange, its endpoints (https URLs) and its keys with their status."""

    aud: str
    endpoints: tuple[str, ...]
    keys: tuple[tuple[PublicKey, Status], ...]


@dataclass(frozen=True)
class ExchangeFile:
    """``exchange.json``."""

    exchanges: tuple[ExchangeEntry, ...]

    def as_object(self) -> dict[str, Any]:
        """The JSON of the file."""
        entries = [
            {
                "aud": e.aud,
                "endpoints": list(e.endpoints),
                "keys": [{**key.jwk, "status": status} for key, status in e.keys],
            }
            for e in self.exchanges
        ]
        return {"v": 1, "exchanges": entries}


@dataclass(frozen=True)
class RevokedFile:
    """``revoked.json``: kid or node -> since when, wire grammar."""

    kids: Mapping[str, str]
    nodes: Mapping[str, str]

    def as_object(self) -> dict[str, Any]:
        """The JSON of the file."""
        kids = [{"kid": kid, "at": at} for kid, at in self.kids.items()]
        nodes = [{"node": node, "at": at} for node, at in self.nodes.items()]
        return {"v": 1, "kids": kids, "nodes": nodes}


@dataclass(frozen=True)
class Directory:
    """All files together, and what can be asked of them.

    Args:
        iat: when the exchange signed it, seconds since 1970.
        departments: files by department.
    """

    iat: int
    departments: Mapping[str, DepartmentFile]
    exchange: ExchangeFile
    revoked: RevokedFile
    _chains: dict[str, KeyChain] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    """Chains that were verified already; a directory never changes."""

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        files = {
            f"directory/{d.department}.json": d.as_object()
            for d in self.departments.values()
        }
        files[_EXCHANGE_FILE] = self.exchange.as_object()
        files[_REVOKED_FILE] = self.revoked.as_object()
        data = strict.dumps({"v": 1, "iat": self.iat, "files": files})
        parse(data)
        return data

    def endpoints(self, aud: str) -> tuple[str, ...]:
        """Endpoints of an exchange, none if it is unknown."""
        for entry in self.exchange.exchanges:
            if entry.aud == aud:
                return entry.endpoints
        return ()

    def exchange_key(self, aud: str, kid: str, purpose: str) -> PublicKey:
        """A key of an exchange that is not revoked.

        Raises:
            UnknownKey: the directory has none, or it is revoked.
        """
        for entry in self.exchange.exchanges:
            for key, status in entry.keys if entry.aud == aud else ():
                if key.kid == kid and key.purpose == purpose:
                    self._refuse_revoked(kid, status)
                    return key
        raise UnknownKey(f"directory: {aud} has no {purpose} key {kid}")

    def command_key(self, aud: str, kid: str) -> PublicKey:
        """A key with which an exchange may order things now.

        Raises:
            UnknownKey: the directory has none, or it is retired or revoked.
        """
        for entry in self.exchange.exchanges:
            for key, status in entry.keys if entry.aud == aud else ():
                if (key.kid, key.purpose, status) == (kid, "command", "active"):
                    self._refuse_revoked(kid, status)
                    return key
        raise UnknownKey(f"directory: {aud} has no active command key {kid}")

    def node(self, node: str) -> NodeEntry | None:
        """The entry of a node."""
        return self._entries.get(node)

    @cached_property
    def _entries(self) -> dict[str, NodeEntry]:
        return {
            entry.node: entry
            for name, department in self.departments.items()
            for entry in department.nodes
            if entry.node.partition("/")[0] == name
        }

    def node_keys(self, node: str) -> KeyChain:
        """The verified statements of a node.

        Raises:
            UnknownKey: the directory has no such node, or it is revoked.
            MalformedMessage: a statement breaks the format or the chain.
            BadSignature: a statement is not signed as the chain demands.
        """
        entry = self.node(node)
        revoked = entry is not None and entry.status == "revoked"
        if revoked or node in self.revoked.nodes:
            raise UnknownKey(f"directory: {node} is revoked")
        return self.statements(node)

    def statements(self, node: str) -> KeyChain:
        """The verified statements of a node, though it is revoked by now.

        Raises:
            UnknownKey: the directory has no such node.
            MalformedMessage: a statement breaks the format or the chain.
            BadSignature: a statement is not signed as the chain demands.
        """
        entry = self.node(node)
        if entry is None or not entry.statements:
            raise UnknownKey(f"directory: no keys of {node}")
        if node not in self._chains:
            chain = key_chain.chain(entry.statements)
            if chain.node != node:
                raise MalformedMessage(
                    f"directory: {node} has the keys of {chain.node}"
                )
            self._chains[node] = chain
        return self._chains[node]

    def node_key(self, node: str, kid: str, purpose: str) -> PublicKey:
        """A key of a node that is not revoked.

        Raises:
            UnknownKey: its statements hold none, or it is revoked.
            MalformedMessage: a statement breaks the format or the chain.
            BadSignature: a statement is not signed as the chain demands.
        """
        key = self.node_keys(node).all.get(kid)
        if key is None or key.purpose != purpose:
            raise UnknownKey(f"directory: {node} has no {purpose} key {kid}")
        status = self.key_status(node, kid)
        self._refuse_revoked(kid, "active" if status is None else status.status)
        return key

    def encryption_key(self, node: str) -> PublicKey:
        """The key to encrypt to: a node's newest active ``decrypt`` key.

        Newest is the last that its newest statement lists.

        Raises:
            UnknownKey: it has none.
            MalformedMessage: a statement breaks the format or the chain.
            BadSignature: a statement is not signed as the chain demands.
        """
        for key in reversed(self.node_keys(node).live):
            status = self.key_status(node, key.kid)
            active = status is None or status.status == "active"
            if key.purpose == "decrypt" and active and key.kid not in self.revoked.kids:
                return key
        raise UnknownKey(f"directory: {node} has no active decrypt key")

    def witness_keys(self, aud: str) -> tuple[PublicKey, ...]:
        """Keys with which an exchange cosigns, those that are not revoked."""
        return tuple(
            key
            for entry in self.exchange.exchanges
            for key, status in (entry.keys if entry.aud == aud else ())
            if key.purpose == "witness"
            and status != "revoked"
            and key.kid not in self.revoked.kids
        )

    def key_status(self, node: str, kid: str) -> KeyStatus | None:
        """How a node's key stands; None if the directory does not say."""
        entry = self.node(node)
        return None if entry is None else entry.by_kid.get(kid)

    def owner(self, resource: str) -> str | None:
        """The node that owns a resource; None if none does, or two claim it."""
        claims = [
            department.resources[resource]
            for department in self.departments.values()
            if resource in department.resources
        ]
        return claims[0] if len(claims) == 1 else None

    def _refuse_revoked(self, kid: str, status: Status) -> None:
        if status == "revoked" or kid in self.revoked.kids:
            raise UnknownKey(f"directory: {kid} is revoked")


def parse(payload: bytes) -> Directory:
    """The directory of a verified message.

    Raises:
        MalformedMessage: a file is missing or a member does not fit. Statements of
            nodes are verified when they are asked for, so that one department's damage
            is not everybody's.
    """
    m = read(payload, "directory", "iat files", open_ended=True)
    files = m.inner("files", f"{_EXCHANGE_FILE} {_REVOKED_FILE}", open_ended=True)
    departments = {}
    for path in m.raw("files"):
        if found := _DEPARTMENT_FILE.fullmatch(path):
            departments[found[1]] = parse_department(files.raw(path), found[1])
    return Directory(
        iat=m.integer("iat"),
        departments=departments,
        exchange=parse_exchange(files.raw(_EXCHANGE_FILE)),
        revoked=parse_revoked(files.raw(_REVOKED_FILE)),
    )


def parse_department(value: object, department: str) -> DepartmentFile:
    """A department's file.

    Raises:
        MalformedMessage: a member does not fit, or speaks of another department.
    """
    m = _file(value, f"directory/{department}.json", "department nodes resources")
    if m.match("department", DEPARTMENT) != department:
        m.fail("department", department)
    nodes = tuple(_node(e) for e in m.objects("nodes", "node status statements keys"))
    resources = {}
    for entry in m.objects("resources", "resource node"):
        resource = entry.match("resource", RESOURCE)
        if resource in resources:
            entry.fail("resource", "every resource once")
        resources[resource] = entry.match("node", NODE)
    found = DepartmentFile(department, nodes, resources)
    for node in (*(n.node for n in nodes), *resources.values()):
        if not node.startswith(f"{department}/"):
            raise MalformedMessage(f"{m.at}: {node} is of another department")
    if len({n.node for n in nodes}) != len(nodes):
        raise MalformedMessage(f"{m.at}.nodes: expected every node once")
    return found


def _node(m: Members) -> NodeEntry:
    statements = m.array("statements")
    if not all(isinstance(s, str) for s in statements):
        m.fail("statements", "compact JWS texts")
    return NodeEntry(
        node=m.match("node", NODE),
        status=cast("NodeStatus", m.choice("status", *_NODE_STATUS)),
        statements=tuple(statements),
        keys=tuple(_key_status(k) for k in m.objects("keys", "kid status since until")),
        reset=_reset(m),
    )


def _key_status(m: Members) -> KeyStatus:
    until = None if m.null("until") else m.time("until")
    return KeyStatus(m.match("kid", KID), _status(m), m.time("since"), until)


def parse_exchange(value: object) -> ExchangeFile:
    """``exchange.json``.

    Raises:
        MalformedMessage: a member does not fit.
    """
    m = _file(value, _EXCHANGE_FILE, "exchanges")
    entries = m.objects("exchanges", "aud endpoints keys")
    return ExchangeFile(tuple(_exchange(entry) for entry in entries))


def _exchange(m: Members) -> ExchangeEntry:
    endpoints = m.array("endpoints")
    if not all(isinstance(e, str) and 1 <= len(e) <= 256 for e in endpoints):
        m.fail("endpoints", "texts of 1 to 256 characters")
    keys = tuple(
        _exchange_key(k) for k in m.objects("keys", "kty crv x alg purpose status")
    )
    return ExchangeEntry(m.match("aud", EXCHANGE), tuple(endpoints), keys)


def _exchange_key(m: Members) -> tuple[PublicKey, Status]:
    m.choice("purpose", *EXCHANGE_PURPOSES)
    names = ("kty", "crv", "x", "y", "alg", "purpose")
    jwk = {name: m.raw(name) for name in names if m.has(name)}
    return PublicKey.from_jwk(jwk), _status(m)


def parse_revoked(value: object) -> RevokedFile:
    """``revoked.json``.

    Raises:
        MalformedMessage: a member does not fit.
    """
    m = _file(value, _REVOKED_FILE, "kids nodes")
    return RevokedFile(
        kids={e.match("kid", KID): e.time("at") for e in m.objects("kids", "kid at")},
        nodes={
            e.match("node", NODE): e.time("at") for e in m.objects("nodes", "node at")
        },
    )


def _file(value: object, path: str, names: str) -> Members:
    m = Members(value, path, f"v {names}", open_ended=True)
    m.integer("v", least=1, most=1)
    return m


def _status(m: Members) -> Status:
    return cast("Status", m.choice("status", *_STATUS))


def _node_object(entry: NodeEntry) -> dict[str, Any]:
    body = {
        **asdict(entry),
        "statements": list(entry.statements),
        "keys": _dicts(entry.keys),
    }
    if entry.reset is None:
        del body["reset"]
    return body


def _reset(m: Members) -> Reset | None:
    if not m.has("reset"):
        return None
    found = m.inner("reset", "at reason", open_ended=True)
    return Reset(found.time("at"), found.text("reason"))


def _dicts(values: tuple[KeyStatus, ...]) -> list[dict[str, Any]]:
    return [asdict(value) for value in values]
