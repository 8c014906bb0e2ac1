# SPDX-License-Identifier: Apache-2.0
"""What systemd is told of the settings."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from agent.errors import ConfigInvalid
from agent.settings import service
from agent.settings.load import load
from tests.support.settings_text import MINIMAL, write

SOURCES = """
[sources.rsj]
connector = "postgres"
host = "db.rsj.example"
database = "rsj"
user = "fep_read"
password = { credential = "rsj" }
[sources.local]
connector = "postgres"
host = "/run/postgresql"
password = { file = "secrets/local" }
"""
KNOWN = {"127.0.0.1": ["127.0.0.1"], "db.rsj.example": ["10.9.0.7", "10.9.0.5"]}


def resolve(host: str) -> Iterable[str]:
    """Addresses of the hosts above; of no other."""
    if host not in KNOWN:
        raise OSError(f"unknown host {host}")
    return KNOWN[host]


def test_hosts_and_credentials_are_found(tmp_path: Path) -> None:
    """The exchange, every networked source, every credential; no socket."""
    found = service.needs(write(tmp_path, SOURCES))
    assert dict(found.hosts) == {
        "exchange.url": "127.0.0.1",
        "sources.rsj.host": "db.rsj.example",
    }
    assert found.credentials == ("rsj",)


def test_the_drop_in_denies_what_it_does_not_name(tmp_path: Path) -> None:
    """Everything is denied first; each setting's addresses and credentials follow."""
    config = write(tmp_path, SOURCES)
    needed = service.needs(config)
    allowed = service.addresses(config, needed, resolve)
    text = service.lines(config, needed, allowed, ["10.9.0.1"])
    said = [line for line in text.splitlines() if not line.startswith("#")]
    assert said == [
        "[Service]",
        "IPAddressDeny=any",
        "IPAddressAllow=localhost",
        "IPAddressAllow=127.0.0.1",
        "IPAddressAllow=10.9.0.5 10.9.0.7",
        "IPAddressAllow=10.9.0.1",
        "LoadCredential=rsj:/etc/fep/secrets/rsj",
    ]


def test_a_host_that_nobody_finds_is_a_fault(tmp_path: Path) -> None:
    """No list is made without it: that list would cut the service off."""
    url = MINIMAL.replace("127.0.0.1", "gone.example")
    config = write(tmp_path, base=url)
    with pytest.raises(ConfigInvalid) as e:
        service.addresses(config, service.needs(config), resolve)
    assert [(f.key, f.got) for f in e.value.faults] == [
        ("exchange.url", "gone.example")
    ]


def test_name_servers_are_addresses() -> None:
    """Of resolv.conf only what is an address counts, with a zone or without."""
    lines = (
        "# comment",
        "nameserver 10.9.0.1",
        "nameserver fe80::1%eth0",
        "nameserver x",
    )
    text = "\n".join(lines)
    assert service.name_servers(text) == ["10.9.0.1", "fe80::1%eth0"]


def test_credentials_that_key_files_name_are_found(tmp_path: Path) -> None:
    """A key, a PIN, and the passphrase of what is sealed; an open key names none."""
    config = write(tmp_path, f'[paths]\nstate = "{tmp_path}/state"\n')
    keys = load(config, secrets=False).paths.keys
    keys.mkdir(parents=True)
    texts = {
        "sign": "pkcs11:token=x;object=y?module-path=/m&pin-source=credential:fep.pin",
        "tls": "credential:fep.tls\n",
        "decrypt": "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "audit": "-----BEGIN PRIVATE KEY-----\n",
    }
    for name, text in texts.items():
        (keys / f"{name}.key").write_text(text)
    found = service.needs(config).credentials
    assert found == ("fep.passphrase", "fep.pin", "fep.tls")
