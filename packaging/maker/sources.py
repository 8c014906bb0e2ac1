# SPDX-License-Identifier: Apache-2.0
"""Source packages of Debian: fetched by apt, checked against ``sources.toml``, patched.

apt is asked with lists and folders of its own, so that the machine's stay as they are.
"""

from __future__ import annotations

import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from maker.place import CACHE, PACKAGING, Failed, checksum, run, say

LOCK = PACKAGING / "runtime" / "sources.toml"
SUITES = ("bookworm", "trixie", "sid")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_APT = """\
Dir::Etc::sourcelist "{0}/sources.list";
Dir::Etc::sourceparts "-";
Dir::State::lists "{0}/lists";
Dir::State::status "/dev/null";
Dir::Cache "{0}/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Update::Post-Invoke-Success "";
"""


@dataclass(frozen=True)
class Source:
    """One version of one source package.

    Args:
        name: how the build calls it.
        package: how Debian does.
        version: Debian's.
        files: name -> SHA-256; the first is the upstream archive.
        skip: patches of Debian that are left out.
    """

    name: str
    package: str
    version: str
    files: dict[str, str]
    skip: tuple[str, ...]

    @property
    def upstream(self) -> str:
        """Version without what Debian adds."""
        plain = self.version.partition(":")[2] or self.version
        return plain.rpartition("-")[0].rpartition("really")[2]


def lock() -> tuple[int, list[Source]]:
    """Time stamp of the runtime, and every source in its order."""
    body = tomllib.loads(LOCK.read_text("utf-8"))
    found = [
        Source(
            name=table["name"],
            package=table["package"],
            version=table["version"],
            files=dict(
                [table["orig"], *([table["debian"]] if "debian" in table else [])]
            ),
            skip=tuple(table.get("skip", ())),
        )
        for table in body["source"]
    ]
    return int(body["epoch"]), found


def fetched() -> list[Source]:
    """The first version of each that can be had; its files are in the cache.

    Raises:
        Failed: none of a package can be had.
    """
    apt: dict[str, str] = {}
    chosen: dict[str, Source] = {}
    tried: dict[str, list[str]] = {}
    for source in lock()[1]:
        if source.name in chosen:
            continue
        tried.setdefault(source.name, []).append(source.version)
        if not _whole(source) and not _fetch(source, apt):
            say(f"{source.package} {source.version} cannot be had")
            continue
        chosen[source.name] = source
    if missing := {name: tried[name] for name in tried if name not in chosen}:
        raise Failed(
            f"no version can be had of {missing}; put a newer one into"
            f" {LOCK.relative_to(PACKAGING.parent)} (apt-cache showsrc has checksums)"
        )
    return list(chosen.values())


def unpack(source: Source, folder: Path) -> None:
    """Its patched files into a folder."""
    archive, *more = source.files
    folder.mkdir(parents=True)
    strip = ["--strip-components=1", "--no-same-owner"]
    run(["tar", "xf", _file(archive), "-C", folder, *strip])
    if not more:
        return
    patches = folder.with_name(folder.name + ".debian")
    patches.mkdir()
    run(["tar", "xf", _file(more[0]), "-C", patches, *strip])
    for name in _series(patches / "patches" / "series"):
        if name not in source.skip:
            words = ["patch", "-p1", "--quiet", "--force", "--no-backup-if-mismatch"]
            run([*words, "-i", patches / "patches" / name], cwd=folder)


def _series(path: Path) -> Iterator[str]:
    for line in path.read_text("utf-8").splitlines():
        if (name := line.partition("#")[0].strip()) != "":
            yield name.split()[0]


def _file(name: str) -> Path:
    return CACHE / "sources" / name


def _whole(source: Source) -> bool:
    return all(
        _file(name).is_file() and checksum(_file(name)) == told
        for name, told in source.files.items()
    )


def _fetch(source: Source, apt: dict[str, str]) -> bool:
    """Whether the files came and are those of the lock."""
    if not apt:
        apt.update(_apt())
    folder = CACHE / "sources"
    words = ["apt-get", "source", "--download-only", "--quiet"]
    try:
        run([*words, f"{source.package}={source.version}"], env=apt, cwd=folder)
    except Failed:
        return False
    for name, told in source.files.items():
        if not _file(name).is_file() or checksum(_file(name)) != told:
            raise Failed(f"{name}: not the file of {LOCK.name}: {told}")
    return True


def _apt() -> dict[str, str]:
    """Environment of an apt that knows sources; the archive is this machine's own."""
    (CACHE / "sources").mkdir(parents=True, exist_ok=True)
    folder = CACHE / "apt"
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    told = run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Origin: Debian"]
    ).split()
    # Of two archives with the same version the first is asked; security forgets first.
    places = sorted(set(told), key=lambda place: ("security" in place, place))
    if not places:
        raise Failed("apt knows no archive of Debian; the runtime is built on Debian")
    lines = []
    for place in places:
        security = "security" in place
        for suite in SUITES:
            name = f"{suite}-security" if security else suite
            if name != "sid-security":
                lines.append(f"deb-src [signed-by={KEYRING}] {place} {name} main")
    (folder / "sources.list").write_text("\n".join(lines) + "\n", "utf-8")
    (folder / "apt.conf").write_text(_APT.format(folder), "utf-8")
    env = {"APT_CONFIG": str(folder / "apt.conf")}
    say("asking the archive for its source packages")
    run(["apt-get", "update", "--quiet"], env=env)
    return env
