# SPDX-License-Identifier: Apache-2.0
"""The sections of ``agent.toml``: typed, frozen, every unit in its name.

``agent.toml`` in this folder says what each key means, in Chinese and English.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SkipValidation,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)

from agent.model.pacing import Bounds, Pacing, Rate
from agent.model.proxy import Proxy as ProxyOfNow
from agent.model.run import READABLE, ScheduledKind
from agent.model.windows import check_window, inside
from agent.schedule import OFF, Plan, check_times
from agent.settings.secret import Secret
from agent.settings.source import SECRET_SCHEMA, SOURCES_SCHEMA, Source

Severity = Literal["warn", "quarantine", "halt"]
T = TypeVar("T", bound=BaseModel)


class Section(BaseModel):
    """A table of the file: no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # its own error is a KeyError
        raise ValueError("an IANA time zone such as Asia/Shanghai") from None
    return name


def _text(pattern: str, words: str) -> Any:
    """A text of a form; ``words`` is what a message expects."""
    return Field(pattern=pattern, description=words)


Node = Annotated[
    str,
    _text(
        r"^[0-9A-Z]{18}/[a-z0-9][a-z0-9-]{0,31}$",
        "<unified social credit code>/<machine>, such as 11990100MB0000018H/fep1",
    ),
]
Zone = Annotated[str, AfterValidator(_zone)]
File = Annotated[Path, Field(strict=False)]
Aud = Annotated[
    str,
    _text(r"^[a-z0-9][a-z0-9.-]{0,63}$", "an exchange id, such as yunxi.exchange"),
]
Url = Annotated[
    str, _text(r"^https://[^/?#\s@]+(/[^?#\s]*)?$", "an address that begins https://")
]
ProxyUrl = Annotated[
    str,
    _text(
        r"^http://[^/?#\s@]+/?$",
        "an address such as http://proxy.example:3128, without a login in it",
    ),
]
Window = Annotated[str, AfterValidator(check_window)]
Digest = Annotated[str, _text(r"^[0-9a-f]{64}$", "64 lower hex digits (SHA-256)")]
Kid = Annotated[str, _text(r"^[A-Za-z0-9_-]{43}$", "a kid of 43 characters")]


Listen = Annotated[
    str,
    _text(
        r"^$|^([0-9A-Za-z.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$",
        "<address>:<port>, such as 0.0.0.0:8444, or nothing",
    ),
]


class Agent(Section):
    """Who this agent is and how it speaks."""

    node: Node
    timezone: Zone = "Asia/Shanghai"
    catalog: File = Path("catalog")
    ceiling: File = Path("ceiling.toml")
    language: Literal["zh", "en"] = "zh"

    @property
    def department(self) -> str:
        """The unified social credit code in ``node``."""
        return self.node.partition("/")[0]


class Paths(Section):
    """Where things lie on this machine."""

    state: File = Path("/var/lib/fep")
    run: File = Path("/run/fep")

    @property
    def database(self) -> Path:
        """The state database."""
        return self.state / "state.db"

    @property
    def ledger(self) -> Path:
        """The database of lookups and of the audit log."""
        return self.state / "lookup.db"

    @property
    def evidence(self) -> Path:
        """Keys of the days under which evidence is kept."""
        return self.state / "evidence"

    @property
    def trust(self) -> Path:
        """The city's TUF repository, as far as it was verified."""
        return self.state / "tuf"

    @property
    def keys(self) -> Path:
        """Private keys and certificate."""
        return self.state / "keys"

    @property
    def spool(self) -> Path:
        """Sealed batches."""
        return self.state / "spool"

    @property
    def config(self) -> Path:
        """What the centre set, and what became of it."""
        return self.state / "config"

    @property
    def running(self) -> Path:
        """What of it runs."""
        return self.config / "running.json"

    @property
    def good(self) -> Path:
        """What of it ran well last."""
        return self.config / "good.json"

    @property
    def ballast(self) -> Path:
        """Space that is given up when the disk is full."""
        return self.state / "ballast"

    @property
    def diff(self) -> Path:
        """What was sent of streams that are compared with it."""
        return self.state / "diff"

    @property
    def reports(self) -> Path:
        """Keys in which the centre differed, where a person asked for them."""
        return self.state / "reconcile"

    @property
    def quarantine(self) -> Path:
        """Withheld rows."""
        return self.state / "quarantine"

    @property
    def socket(self) -> Path:
        """Where the command line speaks to the daemon."""
        return self.run / "fep.sock"


class Proxy(Section):
    """An HTTP proxy on the way to the exchange; TLS goes through it, end to end."""

    url: ProxyUrl
    user: Annotated[str, _text(r"^[^:\x00-\x1f]*$", "a name without a colon")] = ""
    password: Annotated[
        SkipValidation[Secret | None], WithJsonSchema(SECRET_SCHEMA)
    ] = None

    def now(self) -> ProxyOfNow:
        """With its password, read now. Never to be logged.

        Raises:
            SecretUnreadable: the password.
        """
        password = "" if self.password is None else self.password.read()
        return ProxyOfNow(self.url, self.user, password)


class Rhythm(Section):
    """How patiently the exchange is spoken to; the centre may set it, too."""

    retry_base_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    retry_cap_s: Annotated[float, Field(gt=0, le=86_400)] = 600.0
    connect_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    read_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 60.0
    heartbeat_s: Annotated[float, Field(ge=1, le=3600)] = 60.0


class Exchange(Rhythm):
    """The exchange and what is known of it beforehand."""

    aud: Aud
    url: Url
    more_urls: Annotated[tuple[Url, ...], Field(strict=False, max_length=7)] = ()
    proxy: Proxy | None = None
    ca_sha256: Digest
    kid: Kid
    tuf_root_sha256: Annotated[
        str,
        _text(r"^([0-9a-f]{64})?$", "64 lower hex digits (SHA-256), or nothing"),
    ] = ""
    tuf_folder: Annotated[
        str, _text(r"^(/[^\x00]*)?$", "the whole path of a folder, or nothing")
    ] = ""
    directory_max_age_s: Annotated[float, Field(ge=60, le=2_592_000)] = 900.0
    probation_s: Annotated[float, Field(ge=1, le=604_800)] = 600.0
    clock_tolerance_s: Annotated[float, Field(gt=0, le=3600)] = 300.0


class Reading(Section):
    """How rows are read and packed; the centre may set it, too."""

    batch_raw_mb: Annotated[int, Field(ge=1, le=60)] = 8
    max_rows_per_batch: Annotated[int, Field(ge=1, le=1_000_000)] = 200_000
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    statement_timeout_s: Annotated[int, Field(ge=1, le=86_400)] = 3600
    poll_s: Annotated[float, Field(gt=0, le=3600)] = 5.0


class Push(Reading):
    """How rows are read, packed and kept."""

    worker_memory_mb: Annotated[int, Field(ge=256, le=65_536)] = 1024


class Bandwidth(Section):
    """What uploads may use at a time of day."""

    window: Window
    kb_s: Annotated[int, Field(ge=64, le=10_000_000)]


class Uplink(Section):
    """How batches share the line."""

    streams: Annotated[int, Field(ge=1, le=16)] = 4
    bandwidth: Annotated[tuple[Bandwidth, ...], Field(strict=False, max_length=16)] = ()


class Quota(Section):
    """Most that the spool holds; the centre may set it, too."""

    quota_mb: Annotated[int, Field(ge=64, le=10_000_000)] = 4096


class Spool(Quota):
    """Bounds of the spool, at which reading stops, and the reserve for all else."""

    free_floor_mb: Annotated[int, Field(ge=0, le=10_000_000)] = 512
    ballast_mb: Annotated[int, Field(ge=0, le=1_000_000)] = 64


class Quality(Section):
    """Severity of each quality rule."""

    required: Severity = "quarantine"
    code_list: Severity = "quarantine"
    citizen_id: Severity = "warn"
    citizen_id_15: Severity = "warn"
    citizen_id_form: Severity = "warn"
    uscc: Severity = "warn"
    uscc_form: Severity = "warn"
    secrecy_marker: Literal["quarantine", "halt"] = "halt"

    def severity(self) -> dict[str, str]:
        """Rule -> severity, as a worker takes it."""
        return dict(self)


class Lookup(Section):
    """How lookups come in, and how much of them at a time."""

    relay: bool = True
    listen: Listen = ""
    policy: File = Path("policy.toml")
    statement_timeout_s: Annotated[int, Field(ge=1, le=25)] = 3
    in_flight: Annotated[int, Field(ge=1, le=1024)] = 64
    peer_in_flight: Annotated[int, Field(ge=1, le=1024)] = 16
    peer_per_s: Annotated[int, Field(ge=1, le=100_000)] = 200


Times = Annotated[str, AfterValidator(check_times)]


class Schedule(Section):
    """When a resource is read; of all resources in ``defaults``."""

    full: Times = OFF
    incremental: Times = OFF
    deletes: Times = OFF
    reconcile: Times = OFF
    off_peak: Annotated[tuple[Window, ...], Field(strict=False, max_length=16)] = ()
    jitter_s: Annotated[float, Field(ge=0, le=86_400)] = 0.0

    @field_validator("incremental", "deletes", "reconcile")
    @classmethod
    def _readable(cls, times: str, info: ValidationInfo) -> str:
        """Times that nothing would happen at are a fault."""
        if times != OFF and info.field_name not in READABLE:
            raise ValueError("off, for this version only reads everything")
        return times


CODE_EXPECTED = "defaults, or the code of a resource in quotes"
Code = Annotated[
    str,
    _text(r"^defaults$|^[0-9A-Za-z]{1,32}(/[0-9A-Za-z]{1,32}){1,3}$", CODE_EXPECTED),
]


class SourceLimits(Section):
    """How kindly a source is read; all sources in ``defaults``. 0 is no limit."""

    rows_per_s: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    mb_per_s: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    off_peak: Annotated[tuple[Window, ...], Field(strict=False, max_length=16)] = ()
    off_peak_rows_per_s: Annotated[int, Field(ge=0, le=100_000_000)] = 0
    off_peak_mb_per_s: Annotated[float, Field(ge=0, le=100_000)] = 0.0
    probe_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    busy_percent: Annotated[int, Field(ge=0, le=100)] = 50
    lock_waits: Annotated[int, Field(ge=0, le=100_000)] = 5
    replica_lag_s: Annotated[float, Field(ge=0, le=604_800)] = 60.0


LIMITS_EXPECTED = "defaults, or the name of a source"


class Audit(Section):
    """How often the audit log is witnessed."""

    checkpoint_s: Annotated[float, Field(ge=1, le=3600)] = 60.0
    checkpoint_records: Annotated[int, Field(ge=1, le=1_000_000)] = 1000


class Keep(Section):
    """How long what is on this machine's disk stays; receipts stay for ever."""

    loaded_hours: Annotated[float, Field(ge=0, le=87_600)] = 24.0
    stored_days: Annotated[float, Field(ge=1, le=3650)] = 30.0
    quarantine_days: Annotated[int, Field(ge=1, le=3650)] = 90
    evidence_days: Annotated[int, Field(ge=1, le=36_500)] = 1095


class Log(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"


def _over(tables: Mapping[str, T], name: str, nothing: T) -> T:
    """A table of its own over that of all."""
    general, own = tables.get("defaults", nothing), tables.get(name, nothing)
    said = {key: getattr(own, key) for key in own.model_fields_set}
    return general.model_copy(update=said)


class Settings(Section):
    """All of ``agent.toml``."""

    agent: Agent
    paths: Paths = Paths()
    exchange: Exchange
    sources: Annotated[
        Mapping[str, SkipValidation[Source]],
        Field(default={}),
        WithJsonSchema(SOURCES_SCHEMA),
    ]
    push: Push = Push()
    uplink: Uplink = Uplink()
    spool: Spool = Spool()
    quality: Quality = Quality()
    lookup: Lookup = Lookup()
    audit: Audit = Audit()
    keep: Keep = Keep()
    log: Log = Log()
    limits: Mapping[str, SourceLimits] = {}
    schedule: Mapping[Code, Schedule] = {}

    def schedule_of(self, resource: str) -> Schedule:
        """When a resource is read: what it says itself, else what all do."""
        return _over(self.schedule, resource, Schedule())

    def pacing(self, source: str) -> Pacing:
        """How kindly a source is read: what it says itself, else what all do."""
        found = _over(self.limits, source, SourceLimits())
        return Pacing(
            source=source,
            usual=Rate(found.rows_per_s, found.mb_per_s * 1e6),
            off_peak=Rate(found.off_peak_rows_per_s, found.off_peak_mb_per_s * 1e6),
            windows=found.off_peak,
            probe_s=found.probe_s,
            bounds=Bounds(
                busy=found.busy_percent / 100,
                lock_waits=found.lock_waits,
                replica_lag_s=found.replica_lag_s,
            ),
        )

    def ceiling(self, now: datetime) -> float | None:
        """Most bytes a second that uploads may send at a moment, None for any number.

        The first window that the local time lies in counts.
        """
        clock = now.astimezone(ZoneInfo(self.agent.timezone)).time()
        for limit in self.uplink.bandwidth:
            if inside(limit.window, clock):
                return limit.kb_s * 1000.0
        return None

    def plans(self, resource: str) -> dict[ScheduledKind, Plan]:
        """The times of a resource by kind; what is off is left out.

        Windows bind what reads a whole table; changes are few and may come at any time.
        """
        found = self.schedule_of(resource)
        windows = found.off_peak
        times: tuple[tuple[ScheduledKind, str, tuple[str, ...]], ...] = (
            ("full", found.full, windows),
            ("deletes", found.deletes, windows),
            ("reconcile", found.reconcile, windows),
            ("incremental", found.incremental, ()),
        )
        zone, jitter = self.agent.timezone, found.jitter_s
        return {
            kind: Plan(text, zone, open_at, jitter)
            for kind, text, open_at in times
            if text != OFF
        }

    def source_config(self, name: str) -> dict[str, Any]:
        """Settings of a source for its connector, secrets read now. Never log them.

        Raises:
            SecretUnreadable: a secret of it.
            KeyError: no such source.
        """
        return self.sources[name].config()

    def source_fingerprint(self, name: str) -> dict[str, str]:
        """Secret's key -> text that changes when its file does.

        Raises:
            SecretUnreadable: a secret of it.
            KeyError: no such source.
        """
        return self.sources[name].fingerprint()
