# SPDX-License-Identifier: Apache-2.0
"""The settings of the line: other addresses, a proxy, how much may be sent when."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest

from agent.errors import ConfigInvalid, SecretUnreadable
from agent.settings import Settings, load, service
from tests.support.settings_text import MINIMAL, write

PROXY = (
    'proxy = { url = "http://proxy.rsj.example:3128", user = "fep", password = %s }\n'
)
LIMITS = """
[uplink]
streams = 2
bandwidth = [
  { window = "08:00-12:00", kb_s = 100 },
  { window = "07:30-19:00", kb_s = 500 },
  { window = "22:00-06:00", kb_s = 8000 },
]
"""


def at(text: str) -> datetime:
    """A time of day in Shanghai."""
    return datetime.fromisoformat(f"2026-11-22T{text}:00+08:00")


def faults(path: Path) -> dict[str, tuple[str, str]]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path)
    return {f.key: (f.expected, f.got) for f in caught.value.faults}


def loaded(folder: Path, extra: str) -> Settings:
    return load(write(folder, extra))


@pytest.mark.parametrize(
    ("time", "bytes_s"),
    [
        ("07:29", None),
        ("07:30", 500_000.0),
        ("08:00", 100_000.0),
        ("11:59", 100_000.0),
        ("12:00", 500_000.0),
        ("19:00", None),
        ("23:59", 8_000_000.0),
        ("05:59", 8_000_000.0),
        ("06:00", None),
    ],
)
def test_the_first_window_that_fits_limits_uploads(
    tmp_path: Path, time: str, bytes_s: float | None
) -> None:
    """By the local time of day, past midnight too; outside of all nothing does."""
    assert loaded(tmp_path, LIMITS).ceiling(at(time)) == bytes_s


def test_a_password_of_a_proxy_is_read_when_it_is_used(tmp_path: Path) -> None:
    """It stands in a file, and a new one counts without a restart."""
    secret = tmp_path / "proxy"
    secret.write_text("old\n")
    secret.chmod(0o400)
    found = loaded(tmp_path, PROXY % '{ file = "proxy" }').exchange.proxy
    assert found is not None
    assert found.now().password == "old"
    assert found.now().headers() == {"Proxy-Authorization": "Basic ZmVwOm9sZA=="}
    secret.chmod(0o600)
    secret.write_text("new\n")
    assert found.now().password == "new"
    assert "new" not in repr(found) + repr(found.now())
    secret.unlink()
    with pytest.raises(SecretUnreadable, match=r"exchange\.proxy\.password"):
        found.now()


def test_a_proxy_needs_no_login(tmp_path: Path) -> None:
    """None is sent."""
    found = loaded(tmp_path, 'proxy = { url = "http://10.0.0.1:3128" }').exchange
    assert found.proxy is not None
    assert found.proxy.now().headers() == {}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (PROXY % '"kingfisher"', "exchange.proxy.password"),
        (PROXY % '{ file = "absent" }', "exchange.proxy.password"),
        ('proxy = { url = "http://fep:kingfisher@10.0.0.1" }\n', "exchange.proxy.url"),
        ('proxy = { url = "https://10.0.0.1" }\n', "exchange.proxy.url"),
        ('proxy = { url = "http://10.0.0.1", user = "a:b" }\n', "exchange.proxy.user"),
        ('more_urls = ["http://10.0.0.1"]\n', "exchange.more_urls.0"),
        (
            '[uplink]\nbandwidth = [{ window = "8-9", kb_s = 500 }]',
            "uplink.bandwidth.0.window",
        ),
        (
            '[uplink]\nbandwidth = [{ window = "08:00-09:00", kb_s = 1 }]',
            "uplink.bandwidth.0.kb_s",
        ),
        ("[uplink]\nstreams = 0", "uplink.streams"),
    ],
)
def test_what_cannot_be_used_is_said(tmp_path: Path, text: str, key: str) -> None:
    """With its key; a secret in place of its file is not repeated."""
    found = faults(write(tmp_path, text))
    assert list(found) == [key]
    if "password" in key:
        assert "kingfisher" not in str(found)


def test_every_address_may_be_reached(tmp_path: Path) -> None:
    """The drop-in for systemd names the other addresses; behind a proxy only that."""
    more = 'more_urls = ["https://b.example:8443", "https://c.example"]\n'
    assert dict(service.needs(write(tmp_path, more)).hosts) == {
        "exchange.url": "127.0.0.1",
        "exchange.more_urls[0]": "b.example",
        "exchange.more_urls[1]": "c.example",
    }
    needed = service.needs(write(tmp_path, more + PROXY % '{ credential = "proxy" }'))
    assert dict(needed.hosts) == {"exchange.proxy.url": "proxy.rsj.example"}
    assert needed.credentials == ("proxy",)


def test_the_smallest_file_limits_nothing(tmp_path: Path) -> None:
    """One address, no proxy, four streams."""
    found = load(write(tmp_path, base=MINIMAL))
    assert (found.exchange.more_urls, found.exchange.proxy) == ((), None)
    assert (found.uplink.streams, found.ceiling(at("12:00"))) == (4, None)
