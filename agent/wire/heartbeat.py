# SPDX-License-Identifier: Apache-2.0
"""How a node stands, as it tells the exchange, ``fep-heartbeat+jws`` (wire.md §6).

It carries codes, counts and times only: no value of a row, no name of a person.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from agent.errors import MalformedMessage
from agent.wire import strict
from agent.wire.grammar import CODE, DIGEST, EXCHANGE, INCARNATION, NODE, RESOURCE
from agent.wire.members import Members, read

TYP = "fep-heartbeat+jws"
CAP = 16 * 1024
"""Longest heartbeat that is read, bytes of the compact JWS."""
WORST = 20
"""So many streams are told one by one, those first that need somebody."""
ANSWER_CAP = 4096
"""Longest answer that is read, bytes."""
_FAR = strict.LIMIT - 1


@dataclass(frozen=True)
class ConfigStand:
    """Which configuration runs; a digest is ``sha256:<hex>``.

    Args:
        desired: what the centre wants to run, None while it sends none.
        running: settings and resource documents that are in force.
        failed: what was tried and given up, None if nothing was.
        reason: code of the error why not everything that is wanted runs, or None.
    """

    desired: str | None
    running: str
    failed: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class StreamStand:
    """How one stream stands.

    Args:
        state: ``paused``, ``held``, ``trouble``, ``running``, ``waiting``, ``idle`` or
            ``recalled``.
        code: of the error that keeps it, or None.
        since: when that began, wire grammar; None without a code.
        waiting: batches without a receipt.
    """

    resource: str
    state: str
    code: str | None
    since: str | None
    waiting: int


@dataclass(frozen=True)
class Totals:
    """All streams together; ``stuck`` of them need somebody."""

    streams: int
    stuck: int
    batches: int
    bytes: int


@dataclass(frozen=True)
class SpoolStand:
    """Bytes used, allowed and free on the disk; ``blocked`` if reading waits for it."""

    used: int
    quota: int
    free: int
    blocked: bool


@dataclass(frozen=True)
class Heartbeat:
    """One beat.

    Args:
        iss: the node.
        aud: the exchange.
        iat: the node's clock, seconds since 1970.
        incarnation: of its state, 32 lower hex.
        n: grows with every beat of an incarnation.
        agent: name and version of the program.
        worst: at most :data:`WORST` streams, those first that need somebody.
        certificate_days: left to its certificate, less than 0 afterwards.
        clock_offset_ms: how far the exchange's clock is ahead, None if not known.
        audit_size: records of its audit log.
        troubles: codes of what is wrong apart from streams; optional on the wire.
    """

    iss: str
    aud: str
    iat: int
    incarnation: str
    n: int
    agent: str
    config: ConfigStand
    worst: tuple[StreamStand, ...]
    totals: Totals
    spool: SpoolStand
    certificate_days: int
    clock_offset_ms: int | None
    audit_size: int
    troubles: tuple[str, ...] = ()

    def payload(self) -> bytes:
        """The JSON to sign.

        Raises:
            MalformedMessage: a member does not fit.
        """
        body = asdict(self)
        worst = body.pop("worst")
        streams = {"worst": list(worst), "totals": body.pop("totals")}
        body["troubles"] = list(self.troubles)
        data = strict.dumps({"v": 1, **body, "streams": streams})
        parse(data)
        return data


def parse(payload: bytes) -> Heartbeat:
    """The beat of a verified message; unknown members are ignored.

    Raises:
        MalformedMessage: a member is missing or does not fit.
    """
    m = read(
        payload,
        "heartbeat",
        "iss aud iat incarnation n agent config streams spool certificate_days"
        " clock_offset_ms audit_size",
        open_ended=True,
    )
    streams = m.inner("streams", "worst totals", open_ended=True)
    worst = streams.objects("worst", "resource state code since waiting")
    if len(worst) > WORST:
        streams.fail("worst", f"at most {WORST} streams")
    return Heartbeat(
        iss=m.match("iss", NODE),
        aud=m.match("aud", EXCHANGE),
        iat=m.integer("iat"),
        incarnation=m.match("incarnation", INCARNATION),
        n=m.integer("n", least=1),
        agent=m.text("agent"),
        config=_config(
            m.inner("config", "desired running failed reason", open_ended=True)
        ),
        worst=tuple(_stream(entry) for entry in worst),
        totals=_totals(
            streams.inner("totals", "streams stuck batches bytes", open_ended=True)
        ),
        spool=_spool(m.inner("spool", "used quota free blocked", open_ended=True)),
        certificate_days=m.integer("certificate_days", least=-_FAR),
        clock_offset_ms=None
        if m.null("clock_offset_ms")
        else m.integer("clock_offset_ms", least=-_FAR),
        audit_size=m.integer("audit_size"),
        troubles=_codes(m),
    )


def _config(m: Members) -> ConfigStand:
    def digest(name: str) -> str | None:
        return None if m.null(name) else m.match(name, DIGEST)

    return ConfigStand(
        desired=digest("desired"),
        running=m.match("running", DIGEST),
        failed=digest("failed"),
        reason=None if m.null("reason") else m.match("reason", CODE),
    )


def _stream(m: Members) -> StreamStand:
    return StreamStand(
        resource=m.match("resource", RESOURCE),
        state=m.match("state", CODE),
        code=None if m.null("code") else m.match("code", CODE),
        since=None if m.null("since") else m.time("since"),
        waiting=m.integer("waiting"),
    )


def _totals(m: Members) -> Totals:
    return Totals(
        streams=m.integer("streams"),
        stuck=m.integer("stuck"),
        batches=m.integer("batches"),
        bytes=m.integer("bytes"),
    )


def _spool(m: Members) -> SpoolStand:
    return SpoolStand(
        used=m.integer("used"),
        quota=m.integer("quota"),
        free=m.integer("free"),
        blocked=m.boolean("blocked"),
    )


def _codes(m: Members) -> tuple[str, ...]:
    if not m.has("troubles"):
        return ()
    found = m.array("troubles", most=WORST)
    if not all(isinstance(code, str) and CODE.fullmatch(code) for code in found):
        m.fail("troubles", "codes of errors")
    return tuple(found)


def refresh_wanted(body: bytes) -> frozenset[str]:
    """What the answer to a beat hints to fetch anew, such as ``directory``.

    Nobody signed it: a hint may bring a fetch forward and do nothing else.

    Raises:
        MalformedMessage: another answer than ``{v, refresh: [...]}``.
    """
    if len(body) > ANSWER_CAP:
        raise MalformedMessage(f"heartbeat answer: expected at most {ANSWER_CAP} bytes")
    m = read(body, "heartbeat answer", "refresh", open_ended=True)
    found = m.array("refresh", most=16)
    if not all(isinstance(name, str) for name in found):
        m.fail("refresh", "names of what changed")
    return frozenset(found)


def answer(refresh: tuple[str, ...]) -> bytes:
    """The answer to a beat."""
    return strict.dumps({"v": 1, "refresh": list(refresh)})
