# SPDX-License-Identifier: Apache-2.0
"""Connectors by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from agent import registry
from agent.errors import ConfigInvalid
from connectors.contract import API, offers_lookup


def test_our_connectors_are_found() -> None:
    """Both connectors are installed, under their own names."""
    for name in ("postgres", "sqlite"):
        assert name in registry.names()
        assert (registry.find(name).name, registry.find(name).api) == (name, API)


def test_an_unknown_connector_is_a_fault_of_the_settings() -> None:
    """A name that nothing is installed under is refused with those that are."""
    with pytest.raises(ConfigInvalid, match=r"oracle.*postgres, sqlite"):
        registry.find("oracle")


def test_what_is_installed_has_its_version() -> None:
    """Our three come with the agent."""
    found = {one.name: one for one in registry.installed()}
    assert {"mysql", "postgres", "sqlite"} <= found.keys()
    mysql = found["mysql"]
    assert (mysql.package, mysql.trouble) == ("fep-agent", None)
    assert mysql.version
    assert mysql.connector is not None
    assert not offers_lookup(mysql.connector)


def test_finding_a_connector_loads_no_driver() -> None:
    """The daemon may ask for a connector's settings; pyarrow and drivers stay out."""
    code = (
        "import sys\n"
        "from agent.registry import find\n"
        "find('postgres').spec(), find('sqlite').spec()\n"
        "print({'pyarrow', 'psycopg', 'numpy'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("set()\n", "")
