# SPDX-License-Identifier: Apache-2.0
"""Systems that are older than the one that built the packages: glibc 2.31, no systemd.

They are not booted: their C library and tools do the work, this machine's kernel is
below them. The whole push runs there, from the database to the signed receipt.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.debian import run
from tests.support.packages import made, needed_glibc

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
            *("--setenv=LANG=C.UTF-8", "--setenv=PATH=/usr/sbin:/usr/bin:/sbin:/bin"),
            *words,
            timeout=240,
            check=check,
        )

    def bring(self, package: Path) -> str:
        """Carry a file there; its name."""
        shutil.copy(package, self.root / "root" / package.name)
        return f"/root/{package.name}"


@pytest.fixture
def older(tmp_path: Path) -> Iterator[Older]:
    """A fresh one."""
    base = debian.tree("bullseye", "rpm", "libstdc++6")
    yield Older(debian.copy(base, tmp_path / "root"))
    shutil.rmtree(tmp_path / "root")


@pytest.fixture(scope="module")
def packages() -> dict[str, Path]:
    """The ``.rpm`` and ``.run`` files."""
    return made("rpm,run")


def test_the_system_is_older(older: Older) -> None:
    """Its C library is 2.31, older than that of the machine that built the packages."""
    assert "2.31" in older.run("getconf", "GNU_LIBC_VERSION")


def test_the_rpm_installs_works_and_goes(
    older: Older, packages: dict[str, Path]
) -> None:
    """rpm -i, the whole push, rpm -e: the data stay."""
    files = [older.bring(packages[name]) for name in ("fep", "fep-sandbox")]
    # The database of rpm is empty on a Debian, so it cannot know that glibc is there.
    older.run("rpm", "-i", "--nodeps", *files)
    _pushes(older)
    older.run("rpm", "-e", "fep-sandbox", "fep")
    assert not (older.root / "opt/fep/python").exists()
    assert (older.root / "etc/fep/agent.toml").is_file()


def test_the_rpm_says_what_it_needs(packages: dict[str, Path]) -> None:
    """Its requirements are what its files ask for: no more than glibc 2.28."""
    said = run("rpm", "-qpR", packages["fep"])
    asked = {
        tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", said)
    }
    assert asked == {needed_glibc(packages["fep"])}
    assert max(asked) <= (2, 28)


def test_the_run_file_installs_upgrades_and_goes(
    older: Older, packages: dict[str, Path]
) -> None:
    """Install, install again with settings of a person's, remove, purge."""
    file = older.bring(packages["fep"].with_name(_run_file(packages)))
    assert older.run("sh", file, "--check").strip() == "ok"
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
    assert "fep" not in older.run("getent", "passwd")


@pytest.mark.parametrize("spoil", ["cut", "flip"])
def test_a_damaged_run_file_changes_nothing(
    older: Older, packages: dict[str, Path], spoil: str
) -> None:
    """One byte less or one bit other: it says so and installs nothing."""
    file = older.root / older.bring(packages["fep"].with_name(_run_file(packages)))[1:]
    data = bytearray(file.read_bytes())
    if spoil == "cut":
        del data[-1]
    else:
        data[len(data) // 2] ^= 1
    file.write_bytes(data)
    said = older.run("sh", f"/root/{file.name}", check=False)
    assert {"cut": "the file is cut", "flip": "the file is damaged"}[spoil] in said
    assert not (older.root / "opt/fep").exists()


def _run_file(packages: dict[str, Path]) -> str:
    [path] = packages["fep"].parent.glob("*.run")
    return path.name


def _pushes(older: Older) -> None:
    """``fep demo``: exchange and agent, over TLS, to receipts that balance."""
    said = older.run("fep", "demo", "--rows", "2000", "--json", "--dir", "/root/demo")
    report = json.loads(said[said.index("{") :])
    assert report["healthy"] is True


def test_the_other_machines_packages_are_for_it() -> None:
    """aarch64: every ELF is for it and needs glibc 2.28 at most; its wheels too."""
    found = made("deb", "aarch64")
    for name, package in found.items():
        said = run("dpkg-deb", "--field", package, "Architecture").strip()
        assert said == ("all" if name == "fep-sandbox" else "arm64")
    assert needed_glibc(found["fep"], machine="aarch64") <= (2, 28)


def test_two_builds_have_the_same_bytes() -> None:
    """Laid out and packed again, every file is the same."""
    words = ["scripts/package", "verify", "--fast", "--out", debian.CACHE / "twice"]
    done = subprocess.run(
        [str(w) for w in words],
        cwd=debian.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    count = re.search(r"^(\d+) of (\d+) files have the same bytes$", done.stdout, re.M)
    assert count is not None
    assert count[1] == count[2]
    assert int(count[1]) >= 7
