# SPDX-License-Identifier: Apache-2.0
"""Systems that are older than the one that built the packages: glibc 2.31, systemd 247.

But for one test they are not booted: their C library and tools do the work, below them
is this machine's kernel. The whole push runs there, from rows to the signed receipt.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.debian import run
from tests.support.machine import Machine
from tests.support.packages import DIST, made, make, needed_glibc, package

pytestmark = pytest.mark.booted


class Older:
    """A Debian 11 in a folder; commands run in it without a network."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, *words: str, check: bool = True) -> str:
        """A command of root."""
        return run(
            *("systemd-nspawn", "--quiet", f"--directory={self.root}", "--pipe"),
            *("--register=no", "--keep-unit", "--private-network", "--as-pid2"),
            f"--machine=fepold{os.getpid()}",
            *("--setenv=LANG=C.UTF-8", "--setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
            *words,
            timeout=240,
            check=check,
        )

    def bring(self, package: Path) -> str:
        """Carry a file there; its name."""
        shutil.copy(package, self.root / "srv" / package.name)
        return f"/srv/{package.name}"


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Older]:
    """A fresh one."""
    base = debian.tree(*debian.OLDER)
    with debian.own(base, tmp_path / "system") as root:
        yield Older(root)


def test_the_system_is_older(older: Older) -> None:
    """Its C library is 2.31, older than that of the machine that built the packages."""
    assert "2.31" in older.run("getconf", "GNU_LIBC_VERSION")


def test_the_unit_starts_under_an_older_systemd(older: Older) -> None:
    """Version 247 knows every line of it, and the program runs within all of them.

    It runs as far as it can get: to exit 78, for nobody has filled in the settings.
    """
    file = older.bring(package("fep", "deb"))
    machine = Machine(older.root)
    try:
        machine.plug()
        machine.boot()
        assert "systemd 247" in machine.run("systemctl", "--version")
        machine.run("dpkg", "-i", file, timeout=180)
        unit = "/usr/lib/systemd/system/fep.service"
        assert "fep.service" not in machine.run("systemd-analyze", "verify", unit)
        machine.run("systemctl", "start", "fep", check=False)
        shown = machine.run("systemctl", "show", "fep", "--property=ExecMainStatus")
        assert shown.strip() == "ExecMainStatus=78", machine.run("journalctl", "-ufep")
        told = machine.run("journalctl", "--unit=fep", "--no-pager", "-ocat")
        assert "not-enrolled" in told
    finally:
        machine.destroy()


def test_the_rpm_installs_works_and_goes(older: Older) -> None:
    """rpm -i, the whole push, rpm -e: the data stay."""
    names = ("fep", "fep-sandbox")
    files = [older.bring(package(name, "rpm")) for name in names]
    # Its database is empty on a Debian, so it cannot know that glibc is there.
    older.run("rpm", "--force-debian", "-i", "--nodeps", *files)
    _pushes(older)
    older.run("rpm", "--force-debian", "-e", *reversed(names))
    assert not (older.root / "opt/fep/python").exists()
    assert (older.root / "etc/fep/agent.toml").is_file()


def test_the_rpm_says_what_it_needs() -> None:
    """Its requirements are what its files ask for: no more than glibc 2.28."""
    file = package("fep", "rpm")
    said = run("rpm", "-qpR", file)
    asked = {_numbers(v) for v in re.findall(r"GLIBC_([0-9.]+)", said)}
    assert asked == {needed_glibc(file)}
    assert max(asked) <= (2, 28)


def test_the_run_file_installs_upgrades_and_goes(older: Older) -> None:
    """Install, install again over a person's settings, remove, purge."""
    file = older.bring(package("fep", "run"))
    assert "ok" in older.run("sh", file, "--check").splitlines()
    assert "agent " in older.run("sh", file)
    settings = older.root / "etc/fep/agent.toml"
    settings.write_text("# mine\n")
    older.run("sh", file)
    assert settings.read_text() == "# mine\n"
    older.run("fep", "version")
    older.run("sh", file, "--remove")
    assert not (older.root / "opt/fep").exists()
    assert not (older.root / "usr/bin/fep").is_symlink()
    assert settings.read_text() == "# mine\n"
    older.run("sh", file, "--purge", "--yes")
    assert not settings.parent.exists()
    assert "fep:" not in older.run("getent", "passwd")


@pytest.mark.parametrize("spoil", ["cut", "flip"])
def test_a_damaged_run_file_changes_nothing(older: Older, spoil: str) -> None:
    """One byte less or one bit other: it says so and installs nothing."""
    name = older.bring(package("fep", "run"))
    file = older.root / name.lstrip("/")
    with file.open("r+b") as data:
        size = data.seek(0, 2)
        if spoil == "cut":
            data.truncate(size - 1)
        else:
            data.seek(size // 2)
            byte = data.read(1)[0]
            data.seek(size // 2)
            data.write(bytes([byte ^ 1]))
    said = older.run("sh", name, check=False)
    assert {"cut": "the file is cut", "flip": "the file is damaged"}[spoil] in said
    assert not (older.root / "opt/fep").exists()


def _pushes(older: Older) -> None:
    """``fep demo``: exchange and agent, over TLS, to receipts that balance."""
    said = older.run("fep", "demo", "--rows", "2000", "--json", "--dir", "/srv/demo")
    report, _ = json.JSONDecoder().raw_decode(said, said.index("{"))
    assert report["healthy"] is True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_the_other_machines_packages_are_for_it() -> None:
    """aarch64: every ELF is for it and needs glibc 2.28 at most; packages say so."""
    for name, machine in (("fep", "arm64"), ("fep-connector-postgres", "arm64")):
        file = package(name, "deb", "aarch64")
        assert run("dpkg-deb", "--field", file, "Architecture").strip() == machine
        assert needed_glibc(file, machine="aarch64") <= (2, 28)
    held = run("dpkg-deb", "--contents", package("fep", "deb", "aarch64"))
    assert len(re.findall(r"connectors/native/.*\.so$", held, re.M)) == 1
    assert re.findall(r"connectors/native/.*\.(?:c|h|map)$", held, re.M) == []
    file = package("fep", "rpm", "aarch64")
    assert run("rpm", "-qp", "--queryformat", "%{ARCH}", file) == "aarch64"
    for name in ("fep-connector-mysql", "fep-sandbox"):
        both = [package(name, "deb", arch) for arch in ("x86_64", "aarch64")]
        assert len({debian.checksum(file) for file in both}) == 1


def test_two_builds_have_the_same_bytes(tmp_path: Path) -> None:
    """Laid out and packed again elsewhere, every file is the same."""
    if made() != DIST / "x86_64":
        pytest.skip("finished packages: scripts/package verify compares those")
    again = make("x86_64", tmp_path / "again")
    first = {p.name: debian.checksum(p) for p in made().iterdir()}
    second = {p.name: debian.checksum(p) for p in again.iterdir()}
    shutil.rmtree(again)
    assert len(first) >= 11
    assert second == first
