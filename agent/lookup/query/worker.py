# SPDX-License-Identifier: Apache-2.0
"""The long-lived child of one source: ``python -m agent.lookup.query FD``.

Rules

1. A few lanes, each a thread with a session of its own, take turns in reading the
   socket: whoever reads a query lets the next one read and answers it. Nothing is
   handed from thread to thread, so a single key costs no switch.
2. After any error a lane's session is closed and the next query opens another. If the
   error came from a session that had worked before, the query itself is tried once
   more: a server that was restarted costs nobody an answer. A timeout is not repeated.
3. A row counts only if its own canonical key texts are the asked ones, character for
   character.
4. No value, key or message of a driver leaves but in the answer to who asked.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from agent.child.inside import DaemonGone, Lines, settle
from agent.child.source import source_faults, stream_of
from agent.errors import ConfigInvalid, FepError, InternalFault, SourceFailed
from agent.lookup.query.ask import TWICE, Row
from agent.lookup.query.talk import (
    LANES,
    NOBODY,
    Fault,
    Opening,
    Query,
    Shape,
    asked_of,
    fault_line,
    found_lines,
    opening_of,
)
from agent.lookup.query.texts import Texts, texts_of
from agent.registry import find
from connectors.contract import (
    Connector,
    Limits,
    LookupConnector,
    LookupPage,
    LookupSession,
    LookupSpec,
    SourceError,
    offers_lookup,
)

LEAVE_S = 0.2
"""How long a lane may take to close its session once the daemon is gone, seconds."""


@dataclass(frozen=True)
class Form:
    """A shape, ready to be asked.

    Args:
        spec: what the connector is asked.
        texts: of the items.
        keys: places of the key items.
    """

    spec: LookupSpec
    texts: tuple[Texts, ...]
    keys: tuple[int, ...]


class Worker:
    """What all lanes share.

    Args:
        opening: how the source is reached.
        lines: to and from the daemon.
        find: connector by name.

    Raises:
        ConfigInvalid: there is no such connector, or it answers no lookups.
    """

    def __init__(
        self, opening: Opening, lines: Lines, find: Callable[[str], Connector]
    ) -> None:
        connector = find(opening.connector)
        if not offers_lookup(connector):
            raise ConfigInvalid(f"connector {opening.connector!r} answers no lookups")
        self._connector = connector
        self._opening = opening
        self._lines = lines
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._forms: dict[int, Form] = {}

    def serve(self) -> None:
        """Answer in all lanes until the daemon is gone, or one of them fails."""
        lanes = [threading.Thread(target=self._lane, daemon=True) for _ in range(LANES)]
        for lane in lanes:
            lane.start()
        self._over.wait()
        for lane in lanes:  # one that hangs in its driver is not waited for
            lane.join(LEAVE_S)

    def _lane(self) -> None:
        limits = Limits(
            statement_timeout_s=self._opening.statement_s,
            timezone=self._opening.timezone,
        )
        lane = Lane(self._connector, self._opening.config, limits)
        try:
            while True:
                query, form = self._next()
                for line in answer(lane, query, form):
                    self._lines.send(line)
        except DaemonGone:
            lane.close()
        finally:
            self._over.set()

    def _next(self) -> tuple[Query, Form]:
        with self._turn:
            while True:
                asked = asked_of(self._lines.receive())
                if isinstance(asked, Query):
                    return asked, self._forms[asked.slot]
                slot, shape = asked
                self._forms[slot] = self._form(shape)

    def _form(self, shape: Shape) -> Form:
        columns = {bound.item.name: bound.column for bound in shape.items}
        names = [bound.item.name for bound in shape.items]
        return Form(
            LookupSpec(
                stream_of(shape.table, shape.items),
                tuple(columns[name] for name in shape.keys),
            ),
            tuple(
                Texts(b.item, self._opening.timezone, b.encoding) for b in shape.items
            ),
            tuple(names.index(name) for name in shape.keys),
        )


class Lane:
    """One session at a time, opened when it is needed.

    Args:
        connector: of the source.
        config: the source's settings.
        limits: of a session.
    """

    def __init__(
        self, connector: LookupConnector, config: Mapping[str, Any], limits: Limits
    ) -> None:
        self._connector = connector
        self._config = config
        self._limits = limits
        self._stack = ExitStack()
        self._session: LookupSession | None = None

    def fetch(self, spec: LookupSpec, keys: Sequence[tuple[str, ...]]) -> LookupPage:
        """The rows of each key, from a session that works.

        Raises:
            SourceError: as the contract says; the session is closed.
        """
        session = self._session
        if session is not None:
            try:
                return self._guarded(session, spec, keys)
            except SourceError as e:
                if e.kind == "timeout":
                    raise
        self._session = self._stack.enter_context(
            self._connector.lookup(self._config, self._limits)
        )
        return self._guarded(self._session, spec, keys)

    def close(self) -> None:
        """Close the session, whatever state it is in."""
        self._session = None
        self._stack.close()

    def _guarded(
        self, session: LookupSession, spec: LookupSpec, keys: Sequence[tuple[str, ...]]
    ) -> LookupPage:
        try:
            return session.fetch(spec, keys)
        except BaseException:
            self.close()
            raise


def answer(lane: Lane, query: Query, form: Form) -> list[bytes]:
    """The lines that answer a query."""
    keys = [tuple(key) for key in query.keys]
    try:
        with source_faults():
            page = lane.fetch(form.spec, keys)
        rows = matched(page, form, keys)
        ends = accumulate(query.split)
        asks = [rows[end - n : end] for end, n in zip(ends, query.split, strict=True)]
        return list(found_lines(query, page.as_of, asks))
    except FepError as e:
        return [fault_line(Fault(query.id, e.code, e.detail))]
    except Exception as e:  # noqa: BLE001 - the edge: a foreign message may hold values
        return [fault_line(Fault(query.id, InternalFault.code, type(e).__name__))]


def matched(
    page: LookupPage, form: Form, keys: Sequence[tuple[str, ...]]
) -> list[Row | object]:
    """For each key its row, None, or ``TWICE``."""
    found: list[Row | object] = [None] * len(keys)
    for i, row in zip(page.which, texts_of(page.columns, form.texts), strict=True):
        if tuple(row[place] for place in form.keys) == keys[i]:
            found[i] = row if found[i] is None else TWICE
    return found


def main(argv: list[str]) -> int:
    """Serve a source through descriptor ``argv[1]`` until the daemon is gone."""
    settle()
    with socket.socket(fileno=int(argv[1])) as sock:
        lines = Lines(sock)
        try:
            opening = opening_of(lines.receive())
            Worker(opening, lines, find).serve()
        except ConfigInvalid as e:
            lines.send(fault_line(Fault(NOBODY, SourceFailed.code, e.detail)))
            return 3
        except DaemonGone:
            return 3
    os._exit(3)  # a lane may hang in its driver, and nobody is left to wait
