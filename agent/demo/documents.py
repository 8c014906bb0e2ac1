# SPDX-License-Identifier: Apache-2.0
"""The department's resource documents, and the settings of its agent."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from agent import settings
from agent.catalog.document import Resource
from agent.catalog.folder import load_folder
from agent.catalog.gate import closed, leave
from agent.demo import consumers, department
from agent.demo.site import Exchange, Site
from agent.model.job import Job

FOLDER = Path(__file__).with_name("catalog")
SOURCE = "rsj"


def resources() -> tuple[Resource, ...]:
    """All of the department's resources, by code."""
    return load_folder(FOLDER, sources=(SOURCE,))


def pushed() -> tuple[Resource, ...]:
    """Those that the gate lets leave."""
    return tuple(r for r in resources() if closed(r) is None)


def kept() -> tuple[Resource, ...]:
    """Those that may not leave."""
    return tuple(r for r in resources() if closed(r) is not None)


def table(resource: Resource) -> str:
    """Name of the table that a resource is bound to."""
    return resource.binding.table[-1] if resource.binding else ""


def write(place: Site, exchange: Exchange) -> None:
    """Put documents and settings in place; the exchange's address may be a new one."""
    place.catalog.mkdir(exist_ok=True)
    for document in FOLDER.glob("*.toml"):
        shutil.copyfile(document, place.catalog / document.name)
    policy = place.folder / consumers.POLICY
    policy.write_text(consumers.policy_text(), encoding="utf-8")
    place.state.mkdir(exist_ok=True, mode=0o700)
    place.config.write_text(settings_text(place, exchange), encoding="utf-8")


def settings_text(place: Site, exchange: Exchange) -> str:
    """The agent's settings; waits are short because somebody looks on."""
    return f"""\
[agent]
node = {_quoted(f"{department.USCC}/{department.NODE}")}

[paths]
state = {_quoted(place.state)}
run = {_quoted(place.run)}

[exchange]
aud = {_quoted(exchange.aud)}
url = {_quoted(exchange.url)}
ca_sha256 = {_quoted(exchange.ca_sha256)}
kid = {_quoted(exchange.kid)}
retry_base_s = 0.5
retry_cap_s = 2.0

[sources.{SOURCE}]
connector = "sqlite"
path = {_quoted(place.source)}

[push]
workers = 2
poll_s = 0.2

[audit]
checkpoint_s = 1.0
"""


def digest_jobs(place: Site, *, run: str) -> Iterable[Job]:
    """Jobs that read every resource again and only count and digest.

    Args:
        place: with settings and documents in place.
        run: uuid7 that the jobs carry.

    Raises:
        ConfigInvalid, CatalogInvalid: somebody changed the files meanwhile.
    """
    known = settings.load(place.config)
    found = load_folder(known.agent.catalog, sources=known.sources)
    for outgoing in (leave(r) for r in found if closed(r) is None):
        yield Job(
            kind="digest",
            resource=outgoing.resource,
            run=run,
            connector=known.sources[outgoing.source].connector,
            source=known.source_config(outgoing.source),
            table=outgoing.table,
            items=outgoing.items,
            timezone=known.agent.timezone,
            severity=known.quality.severity(),
            batch_raw_bytes=known.push.batch_raw_mb * 1_000_000,
            max_rows_per_batch=known.push.max_rows_per_batch,
            quarantine="",
            statement_timeout_s=known.push.statement_timeout_s,
        )


def _quoted(value: object) -> str:
    """A TOML basic string (JSON's escapes are a part of TOML's)."""
    return json.dumps(str(value), ensure_ascii=False)
