# SPDX-License-Identifier: Apache-2.0
"""What systemd must be told because of what the settings say.

Two things differ from site to site and cannot stand in the unit that is shipped: the
addresses that the service may reach, and the credentials it is given. Both follow from
the settings, so they are written and not typed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from agent.errors import ConfigInvalid, Fault
from agent.settings.load import load, read
from agent.settings.model import Exchange

Resolve = Callable[[str], Iterable[str]]
"""A host's addresses; raises OSError when it has none."""

SECRETS = "/etc/fep/secrets"
"""Where a credential's file lies, under the credential's name."""

_HEAD = """\
# Written by `fep service --write` from {config}; write it again when that changes.
# 由 `fep service --write` 根据上述配置生成；配置变更后请重新生成。
[Service]
"""


@dataclass(frozen=True)
class Needs:
    """What the service needs from outside.

    Args:
        hosts: setting -> host that it names.
        credentials: names, sorted.
    """

    hosts: Mapping[str, str]
    credentials: tuple[str, ...]


def needs(config: Path, *, endpoints: Iterable[str] = ()) -> Needs:
    """What the settings name.

    Args:
        config: ``agent.toml``.
        endpoints: addresses of exchanges that the centre may move to.

    Raises:
        ConfigInvalid: they cannot be used; with every fault.
    """
    settings = load(config, secrets=False)
    hosts = dict(_of_the_exchange(settings.exchange, endpoints))
    for name, source in settings.sources.items():
        host = source.options.get("host")
        if isinstance(host, str) and not host.startswith("/"):
            hosts[f"sources.{name}.host"] = host
    names = {*_credentials(read(config)), *_of_the_keys(settings.paths.keys)}
    return Needs(hosts, tuple(sorted(names)))


def _of_the_exchange(
    exchange: Exchange, endpoints: Iterable[str]
) -> Iterator[tuple[str, str]]:
    urls = {"exchange.url": exchange.url}
    for number, url in enumerate(exchange.more_urls):
        urls[f"exchange.more_urls[{number}]"] = url
    for number, url in enumerate(endpoints):
        urls[f"ceiling.toml: endpoints[{number}]"] = url
    if exchange.proxy is not None:  # the only one that is connected to
        urls = {"exchange.proxy.url": exchange.proxy.url}
    for key, url in urls.items():
        yield key, urlsplit(url).hostname or ""


def _credentials(tables: Mapping[str, Any]) -> Iterator[str]:
    proxy = tables.get("exchange", {}).get("proxy", {})
    for table in (*tables.get("sources", {}).values(), proxy):
        for value in table.values():
            if isinstance(value, dict) and isinstance(value.get("credential"), str):
                yield value["credential"]


def _of_the_keys(folder: Path) -> Iterator[str]:
    """Credentials that key files name, and the one that unseals those that are sealed.

    Who may not read the folder is not told of them.
    """
    with suppress(OSError):
        for path in sorted(folder.glob("*.key")):
            text = path.read_text("utf-8", "replace")
            if text.startswith("credential:"):
                yield text.strip().removeprefix("credential:")
            elif text.startswith("-----BEGIN ENCRYPTED"):
                yield "fep.passphrase"
            else:
                yield from re.findall(r"pin-source=credential:([\w.-]+)", text)


def addresses(config: Path, needed: Needs, resolve: Resolve) -> dict[str, list[str]]:
    """Setting -> addresses of its host.

    Raises:
        ConfigInvalid: hosts that nobody can find; an allow-list without them would cut
            the service off.
    """
    found: dict[str, list[str]] = {}
    faults = []
    for key, host in needed.hosts.items():
        try:
            found[key] = sorted(set(resolve(host)), key=lambda a: (len(a), a))
        except OSError:
            expected = "a host that can be found now, or its address"
            faults.append(Fault(str(config), key, expected, host))
    if faults:
        raise ConfigInvalid(faults=tuple(faults))
    return found


def name_servers(resolv_conf: str) -> list[str]:
    """Addresses of the servers that turn a name into an address."""
    words = (line.split() for line in resolv_conf.splitlines())
    told = [w[1] for w in words if len(w) > 1 and w[0] == "nameserver"]
    return [address for address in told if _is_address(address)]


def _is_address(text: str) -> bool:
    try:
        ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def lines(
    config: Path,
    needed: Needs,
    allowed: Mapping[str, Iterable[str]],
    servers: Iterable[str],
) -> str:
    """The drop-in for the unit.

    Args:
        config: where it comes from.
        needed: hosts and credentials.
        allowed: setting -> addresses.
        servers: name servers; left out when no setting names a host by its name.
    """
    text = _HEAD.format(config=config)
    text += "IPAddressDeny=any\nIPAddressAllow=localhost\n"
    for key, found in allowed.items():
        said = f"{key} = {needed.hosts[key]}" if key in needed.hosts else key
        text += f"# {said}\nIPAddressAllow={' '.join(found)}\n"
    if servers := list(servers):
        text += f"# /etc/resolv.conf\nIPAddressAllow={' '.join(servers)}\n"
    for name in needed.credentials:
        text += f"LoadCredential={name}:{SECRETS}/{name}\n"
    return text
