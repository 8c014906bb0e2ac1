# SPDX-License-Identifier: Apache-2.0
"""What the packager knows, without making a package."""

from __future__ import annotations

import configparser
import hashlib
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import native_rows
from tests.support.maker import (
    elf,
    native,
    packages,
    place,
    sbom,
    signing,
    sources,
    tree,
    wheels,
)

ROOT = Path(__file__).resolve().parents[3]
SETUP = (ROOT / "packaging/files/setup").read_text("utf-8")


def test_a_signature_shows_every_change(tmp_path: Path) -> None:
    """The manual's two commands say OK, and stop saying it when a byte is another."""
    for name, words in (
        ("key", ["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
        ("pem", ["ec", "-in", str(tmp_path / "key"), "-pubout"]),
    ):
        subprocess.run(
            ["openssl", *words, "-out", str(tmp_path / name)],
            check=True,
            capture_output=True,
        )
    package = tmp_path / "fep.deb"
    package.write_bytes(b"a package")
    listed = signing.sums([package], tmp_path)
    signing.sign(listed, tmp_path / "key")
    assert _verify(tmp_path) == [0, 0]
    package.write_bytes(b"another package")
    assert _verify(tmp_path) == [0, 1]
    signing.sums([package], tmp_path)
    assert _verify(tmp_path) == [1, 0]


def _verify(folder: Path) -> list[int]:
    """Exit codes of the commands of docs/installing.md, section 2."""
    text = (ROOT / "docs/installing.md").read_text("utf-8")
    block = text.partition("## 2. Verify")[2].split("```")[1].strip().splitlines()
    assert len(block) == 2
    commands = [line.replace("release.pem", "pem").split() for line in block]
    return [
        subprocess.run(c, cwd=folder, capture_output=True, check=False).returncode
        for c in commands
    ]


def test_an_elf_file_tells_what_it_needs() -> None:
    """This interpreter is for this machine and needs some glibc."""
    program = Path(sys.executable).resolve()
    found = elf.read(program)
    assert found.machine == platform.machine()
    assert found.needed
    with pytest.raises(ValueError, match="not for riscv64"):
        elf.needs(program.parent, machine="riscv64")


def test_every_source_is_pinned() -> None:
    """Each file has a SHA-256, and each name that the build unpacks a version."""
    _, found = sources.lock()
    assert {s.name for s in found} == {
        *("python", "openssl", "sqlite", "libffi", "zlib", "xz", "bzip2")
    }
    for source in found:
        assert all(re.fullmatch("[0-9a-f]{64}", told) for told in source.files.values())
        assert source.upstream in next(iter(source.files))


@pytest.mark.parametrize(("kind", "count"), [("deb", 3), ("rpm", 3)])
def test_every_script_of_a_package_is_shell(kind: str, count: int) -> None:
    """What the packager says and `setup` behind it are one script that parses."""
    found = packages.sections(ROOT / f"packaging/files/{kind}.hooks")
    assert len(found) == count
    assert set(found) == set(packages.HOOKS[kind])
    for head in found.values():
        text = f"{head}\n{SETUP.partition(chr(10))[2]}"
        subprocess.run(["sh", "-n"], input=text, text=True, check=True)


def test_every_locked_library_belongs_to_one_package() -> None:
    """What a connector's package brings is in the lock, and in no other package."""
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    brought = [lib for part in tree.PARTS for lib in part.libraries or ()]
    assert len(brought) == len(set(brought))
    assert [lib for lib in brought if f"\n{lib}==" not in f"\n{lock}"] == []
    assert wheels.NOT_INSTALLED.isdisjoint(brought)


def test_every_connector_belongs_to_one_package() -> None:
    """An entry point of setup.cfg that no package brings could never be installed."""
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = cfg["options.entry_points"]["fep.connectors"].strip().splitlines()
    known = sorted(line.partition("=")[0].strip() for line in lines)
    assert sorted(c for part in tree.PARTS for c in part.connectors) == known


def test_every_first_file_is_in_the_package() -> None:
    """What tmpfiles copies to /etc/fep lies in config/, from where it is packaged."""
    text = (ROOT / "packaging/files/fep.tmpfiles").read_text("utf-8")
    copied = re.findall(r"^C /etc/fep/(\S+) .* /usr/share/fep/(\S+)$", text, re.M)
    assert copied
    for to, source in copied:
        assert to == source
        assert (ROOT / "config" / source).is_file()


def test_every_source_that_a_package_brings_is_there() -> None:
    """A moved module would otherwise be in no package at all."""
    for part in tree.PARTS:
        assert [p for p in part.sources or () if not (ROOT / p).exists()] == []


def test_the_bill_names_what_is_there_and_nothing_else(tmp_path: Path) -> None:
    """A library found is a component with its package URL; the interpreter's too."""
    site = tmp_path / tree.SITE
    info = site / "yarl-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: yarl\nVersion: 1.2\n")
    (tmp_path / "opt/fep/python/sources.txt").write_text("zlib 1.3.1 zlib 1:1.3.1-1\n")
    body = json.loads(sbom.bill("fep", "x86_64", tmp_path))
    assert (body["bomFormat"], body["specVersion"]) == ("CycloneDX", "1.6")
    assert [c["purl"] for c in body["components"]] == [
        "pkg:deb/debian/zlib@1:1.3.1-1?arch=source",
        "pkg:pypi/yarl@1.2",
    ]


def test_the_bill_names_the_readers_library_with_its_checksum(tmp_path: Path) -> None:
    """It comes from no registry: its bytes say which one it is."""
    path = tmp_path / tree.SITE / native.NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"compiled")
    (found,) = json.loads(sbom.bill("fep", "x86_64", tmp_path))["components"]
    told = hashlib.sha256(b"compiled").hexdigest()
    assert found["name"] == "libfepcolumns.so"
    assert found["hashes"] == [{"alg": "SHA-256", "content": told}]


def test_a_readers_library_that_fails_elsewhere_is_not_packaged(tmp_path: Path) -> None:
    """For another machine, or with names that are not its own: the build ends."""
    here = platform.machine()
    made = native_rows.build(tmp_path / "lib.so")
    with pytest.raises(place.Failed, match="expected "):
        native.judge(made, "aarch64" if here != "aarch64" else "x86_64")
    with pytest.raises(place.Failed, match="needs"):
        native.judge(Path(sys.executable).resolve(), here)


def test_the_readers_sources_stay_at_home(tmp_path: Path) -> None:
    """A package brings the compiled library of its machine, not this machine's."""
    tree.copy_sources(tree.CORE, tmp_path)
    names = {path.name for path in (tmp_path / "connectors/native").iterdir()}
    assert {"loader.py", "page.py"} <= names
    assert {Path(n).suffix for n in names} == {".py"}
