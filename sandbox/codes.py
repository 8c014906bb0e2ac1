# SPDX-License-Identifier: Apache-2.0
"""One-time codes in the registry's file: what is kept of them, and of their misuse.

Rules

1. Of a code only its hash is kept.
2. A wrong secret counts for its (code id, address), and the next try from there has to
   wait twice as long as the last. Nobody else waits: who guesses cannot keep the honest
   agent out.
3. :data:`BURN` failures, from wherever, burn a code that nobody has used yet, with an
   alarm. One that is bound to a request is not burned: guessing it gains nothing any
   more.
4. A failure is counted only for a code that exists, and only until there are so many;
   of alarms the newest :data:`ALARMS` stay. So strangers cannot fill the file.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from agent.wire.enrolment import Code
from agent.wire.grammar import format_time, parse_time
from sandbox.store import Store

BURN = 50
"""So many wrong secrets burn a code."""
ALARMS = 1000
"""So many are kept."""
LONGEST_S = 3600
"""Longest wait after a wrong secret, seconds."""
_LOG = logging.getLogger("sandbox")
_SCHEMA = """
create table if not exists code(
  id text primary key, hash text not null, node text not null, expires text not null,
  state text not null, failures int not null default 0) without rowid;
create table if not exists codefailure(
  id text not null, address text not null, count int not null, at text not null,
  primary key(id, address)) without rowid;
create table if not exists enrolment(
  id text primary key, node text not null, statement text not null,
  info text not null, csr blob not null, address text not null, at text not null,
  state text not null, certificate blob) without rowid;
create table if not exists alarm(
  kind text not null, detail text not null, count int not null, first text not null,
  last text not null, primary key(kind, detail)) without rowid;
"""


@dataclass(frozen=True)
class Kept:
    """What is known of a code.

    Args:
        node: whose machine may use it.
        expires: it cannot be used for a first request after that.
        state: ``open``, ``burned``, or ``bound`` to a request.
    """

    id: str
    node: str
    expires: datetime
    state: str


@dataclass(frozen=True)
class Waiting:
    """A request to which a code is bound.

    Args:
        id: of the code.
        statement: digest of the key statement that it names.
        info: SHA-256 of its certification request info, the part that is signed.
        csr: DER.
        address: from where it came first.
        at: when it came first.
        state: ``pending``, ``denied`` or ``issued``.
        certificate: DER, once issued.
    """

    id: str
    node: str
    statement: str
    info: str
    csr: bytes
    address: str
    at: str
    state: str = "pending"
    certificate: bytes | None = None


@dataclass(frozen=True)
class Alarm:
    """Something that a person should look into; repeated ones are counted."""

    kind: str
    detail: str
    count: int
    first: str
    last: str


class Codes:
    """The codes, in the writer's thread and inside its transaction.

    Args:
        store: the registry whose file and transactions they share.
    """

    def __init__(self, store: Store) -> None:
        self._connection = store.connection
        self._connection.executescript(_SCHEMA)

    # --- codes --------------------------------------------------------------------

    def add(self, code: Code, node: str, *, expires: datetime) -> None:
        """Keep a new code's hash; the node's codes that nobody used are withdrawn."""
        self._connection.execute(
            "delete from code where node = ? and state <> 'bound'", (node,)
        )
        self._connection.execute("delete from codefailure where id = ?", (code.id,))
        self._connection.execute(
            "insert into code(id, hash, node, expires, state) values (?, ?, ?, ?, ?)",
            (code.id, code.hash(), node, format_time(expires), "open"),
        )

    def known(self, code_id: str) -> bool:
        """Whether a code has this id."""
        sql = "select 1 from code where id = ?"
        return self._connection.execute(sql, (code_id,)).fetchone() is not None

    def wait_s(self, code_id: str, address: str, *, now: datetime) -> int:
        """So long an address has to wait for its next try, seconds; 0: not at all."""
        row = self._connection.execute(
            "select count, at from codefailure where id = ? and address = ?",
            (code_id, network(address)),
        ).fetchone()
        if row is None:
            return 0
        count, at = row
        pause = timedelta(seconds=min(1 << min(count - 1, 20), LONGEST_S))
        left = parse_time(at) + pause - now
        return max(0, -(-left // timedelta(seconds=1)))

    def check(self, code: Code, address: str, *, now: datetime) -> Kept | None:
        """The code whose secret that is; None: it is wrong, and was counted."""
        row = self._connection.execute(
            "select hash, node, expires, state, failures from code where id = ?",
            (code.id,),
        ).fetchone()
        if row is None:
            return None
        kept, node, expires, state, failures = row
        if hmac.compare_digest(code.hash(), kept):
            return Kept(code.id, node, parse_time(expires), state)
        if failures < BURN:
            self._failed(code.id, address, node, now=now)
        return None

    def _failed(self, code_id: str, address: str, node: str, *, now: datetime) -> None:
        self._connection.execute(
            "insert into codefailure values (?, ?, 1, ?) on conflict(id, address)"
            " do update set count = count + 1, at = excluded.at",
            (code_id, network(address), format_time(now)),
        )
        sql = "update code set failures = failures + 1 where id = ? returning failures"
        (failures,) = self._connection.execute(sql, (code_id,)).fetchone()
        if failures < BURN:
            return
        burned = self._connection.execute(
            "update code set state = 'burned' where id = ? and state = 'open'",
            (code_id,),
        )
        if burned.rowcount:
            said = f"code {code_id} of {node}: {failures} wrong secrets"
            self.alarm("code-burned", said, now=now)

    # --- requests -----------------------------------------------------------------

    def bind(self, found: Waiting) -> None:
        """Tie a code to its first request; it can be used for no other."""
        sql = "update code set state = 'bound' where id = ?"
        self._connection.execute(sql, (found.id,))
        self._connection.execute(
            "insert into enrolment values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                found.id,
                found.node,
                found.statement,
                found.info,
                found.csr,
                found.address,
                found.at,
                found.state,
                found.certificate,
            ),
        )

    def request(self, code_id: str) -> Waiting | None:
        """The request to which a code is bound."""
        sql = f"{_REQUEST} where id = ?"
        row = self._connection.execute(sql, (code_id,)).fetchone()
        return None if row is None else Waiting(*row)

    def pending(self) -> list[Waiting]:
        """Requests that wait for a person, the oldest first."""
        sql = f"{_REQUEST} where state = 'pending' order by at, id"
        return [Waiting(*row) for row in self._connection.execute(sql)]

    def settle(
        self, code_id: str, state: str, *, certificate: bytes | None = None
    ) -> None:
        """A request is ``issued`` or ``denied``."""
        self._connection.execute(
            "update enrolment set state = ?, certificate = ? where id = ?",
            (state, certificate, code_id),
        )

    # --- alarms -------------------------------------------------------------------

    def alarm(self, kind: str, detail: str, *, now: datetime) -> None:
        """Raise one; the same again is counted."""
        at = format_time(now)
        self._connection.execute(
            "insert into alarm values (?, ?, 1, ?, ?) on conflict(kind, detail)"
            " do update set count = count + 1, last = excluded.last",
            (kind, detail, at, at),
        )
        self._connection.execute(
            "delete from alarm where last < (select last from alarm"
            " order by last desc limit 1 offset ?)",
            (ALARMS - 1,),
        )
        _LOG.warning("alarm: %s: %s", kind, detail)

    def alarms(self) -> list[Alarm]:
        """All of them, the newest first."""
        sql = "select kind, detail, count, first, last from alarm order by last desc"
        return [Alarm(*row) for row in self._connection.execute(sql)]


_REQUEST = (
    "select id, node, statement, info, csr, address, at, state, certificate"
    " from enrolment"
)


def network(address: str) -> str:
    """What counts as one address: of IPv6 the first 64 bits, which one machine has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
