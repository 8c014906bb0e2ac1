# SPDX-License-Identifier: Apache-2.0
"""What can be chosen when the sandbox is started, with defaults and units."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from agent.errors import ConfigInvalid
from agent.wire.grammar import EXCHANGE


@dataclass(frozen=True)
class Options:
    """One reference exchange.

    Args:
        folder: where everything is kept; made if it is not there.
        host: address to listen on.
        port: 0 takes a free one, the same again after a restart.
        aud: id of the exchange.
        load: whether stored batches are loaded into the centre's tables.
        hosts: names and addresses in the server's certificate besides ``host``.
        delete_floor: deletes in 24 hours that are always let through.
        delete_percent: share of the loaded rows that is let through, percent.
        upload_days: unfinished uploads live so long.
        certificate_days: life of a client certificate.
        retired_days: batches signed with a retired key are taken so long.
        relay_timeout_s: so long a provider may take to answer a lookup.
        approve_all: every first request gets its certificate at once, as demonstrations
            and tests need it; else it takes a one-time code and a person.
        approval_retry_s: a machine whose request waits asks again so often.
        ping_s: a channel is pinged so often; without an answer within half of it, it
            counts as dead.
        late_s: without a heartbeat for so long a node is shown as late.
        tuf: folder of a published TUF repository, or empty for none. It is served at
            ``/tuf/``, and the directory says what it says.
    """

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    aud: str = "yunxi.exchange"
    load: bool = True
    hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "::1")
    delete_floor: int = 1000
    delete_percent: int = 5
    upload_days: int = 7
    certificate_days: int = 365
    retired_days: int = 30
    relay_timeout_s: int = 30
    ping_s: int = 30
    approve_all: bool = False
    approval_retry_s: int = 15
    late_s: int = 180
    tuf: str = ""

    def __post_init__(self) -> None:
        if not EXCHANGE.fullmatch(self.aud):
            raise ConfigInvalid(f"aud: expected an exchange id, got {self.aud[:64]!r}")

    def with_file(self, path: Path) -> Options:
        """These options, changed by a TOML file whose keys are the names above.

        Raises:
            ConfigInvalid: unreadable, not TOML, an unknown key, another type.
        """
        try:
            body = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as e:
            raise ConfigInvalid(f"{path}: {e}") from e
        known = {f.name for f in fields(self)} - {"folder"}
        if unknown := body.keys() - known:
            raise ConfigInvalid(f"{path}: unknown key {min(unknown)}")
        for name, value in body.items():
            body[name] = _fit(path, name, getattr(self, name), value)
        return replace(self, **body)


def _fit(path: Path, name: str, default: object, value: Any) -> Any:
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(str(v) for v in value)
    if type(value) is not type(default):
        wanted = type(default).__name__
        raise ConfigInvalid(
            f"{path}: {name}: expected {wanted}, got {type(value).__name__}"
        )
    return value
