# SPDX-License-Identifier: Apache-2.0
"""The files of every package, laid out as they will lie on the machine.

=======================  ==========================================================
fep                      interpreter, libraries, agent, unit, man pages, completion
fep-connector-postgres   the connector, its drivers and its entry point
fep-connector-mysql      the same for MySQL, MariaDB and what speaks like them
fep-sandbox              reference exchange, sample department, ``fep demo``
=======================  ==========================================================

A command is a module, a connector an entry point: a package that brings the file brings
the command, and nothing has to be switched on.
"""

from __future__ import annotations

import configparser
import gzip
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from maker import native, runtime, sbom, wheels
from maker.place import PACKAGING, PREFIX, ROOT, SITE, Words, epoch, run, version

FILES = PACKAGING / "files"


@dataclass(frozen=True)
class Part:
    """One package.

    Args:
        name: of the package.
        about: what it is, in one line.
        libraries: distributions of the lock that it brings; None for all others.
        sources: paths of the sources that it brings; None for all others.
        connectors: entry points that it brings.
        any_machine: whether the same files serve every machine.
    """

    name: str
    about: str
    libraries: tuple[str, ...] | None
    sources: tuple[str, ...] | None
    connectors: tuple[str, ...]
    any_machine: bool = False


CORE = Part(
    "fep",
    "front-end processor agent for government data sharing (政务数据共享前置机代理)",
    libraries=None,
    sources=None,
    connectors=("sqlite",),
)
PARTS = (
    CORE,
    Part(
        "fep-connector-postgres",
        "PostgreSQL connector of the FEP agent",
        libraries=("psycopg", "psycopg-binary"),
        sources=("connectors/postgres",),
        connectors=("postgres",),
    ),
    Part(
        "fep-connector-mysql",
        "MySQL and MariaDB connector of the FEP agent",
        libraries=("pymysql",),
        sources=("connectors/mysql",),
        connectors=("mysql",),
        any_machine=True,
    ),
    Part(
        "fep-sandbox",
        "reference exchange and sample department of FEP, not for production",
        libraries=(),
        sources=("sandbox", "agent/demo", "agent/cli/demo.py", "agent/cli/sandbox.py"),
        connectors=(),
        any_machine=True,
    ),
)
PACKAGES = ("agent", "connectors", "sandbox")


def trees(arch: str, folder: Path) -> dict[str, Path]:
    """Every part's files below ``folder``; part -> its root."""
    shutil.rmtree(folder, ignore_errors=True)
    roots = {part.name: folder / part.name for part in PARTS}
    libraries = wheels.wheels(arch)
    shutil.copytree(
        runtime.runtime(arch), roots["fep"] / PREFIX / "python", symlinks=True
    )
    for part in PARTS:
        site = roots[part.name] / SITE
        _copy_libraries(part, libraries, site)
        copy_sources(part, site)
        _write_metadata(part, site)
    native.build(arch, roots[CORE.name] / SITE / native.NAME)
    _system_files(roots["fep"])
    for root in roots.values():
        _compile(root)
    _pages(roots)
    for part in PARTS:
        documents = roots[part.name] / "usr/share/doc" / part.name
        _put(ROOT / "LICENSE", documents / "copyright")
        machine = "any" if part.any_machine else arch
        bill = sbom.bill(part.name, machine, roots[part.name])
        (documents / "sbom.cdx.json").write_text(bill, "utf-8")
    for root in roots.values():
        _settle(root)
    return roots


# --- libraries ------------------------------------------------------------------------


def _copy_libraries(part: Part, libraries: Path, site: Path) -> None:
    """The libraries of a part, without the lists that pip keeps of them."""
    site.mkdir(parents=True, exist_ok=True)
    owners = {
        name: _normal(info.name.partition("-")[0])
        for info in sorted(libraries.glob("*.dist-info"))
        for name in _top_level(info)
    }
    elsewhere = {lib for other in PARTS for lib in other.libraries or ()}
    for item in sorted(libraries.iterdir()):
        owner = owners.get(item.name, "")
        wanted = (
            owner in part.libraries
            if part.libraries is not None
            else (owner not in elsewhere)
        )
        if not wanted:
            continue
        if item.is_dir():
            drop = shutil.ignore_patterns("RECORD", "__pycache__")
            shutil.copytree(item, site / item.name, symlinks=True, ignore=drop)
        else:
            shutil.copy2(item, site / item.name)


def _top_level(info: Path) -> set[str]:
    lines = (info / "RECORD").read_text("utf-8").splitlines()
    return {line.partition(",")[0].partition("/")[0] for line in lines} | {info.name}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# --- our sources ----------------------------------------------------------------------


def copy_sources(part: Part, site: Path) -> None:
    """What a part brings of the sources, without those of the readers' library."""
    elsewhere = [
        ROOT / p for other in PARTS if other is not part for p in other.sources or ()
    ]
    wanted = [ROOT / p for p in (part.sources or PACKAGES)]
    for top in wanted:
        for path in [top] if top.is_file() else sorted(top.rglob("*")):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            if path.suffix in native.NOT_SHIPPED:
                continue
            if any(path == other or other in path.parents for other in elsewhere):
                continue
            _put(path, site / path.relative_to(ROOT))


def _write_metadata(part: Part, site: Path) -> None:
    """What ``importlib.metadata`` reads: name, version, entry points."""
    name = "fep_agent" if part is CORE else _normal(part.name).replace("-", "_")
    info = site / f"{name}-{version()}.dist-info"
    info.mkdir()
    told = ["Metadata-Version: 2.1", f"Name: {name.replace('_', '-')}"]
    told += [f"Version: {version()}", "License: Apache-2.0"]
    (info / "METADATA").write_text("\n".join(told) + "\n", "utf-8")
    (info / "INSTALLER").write_text("fep package\n", "utf-8")
    if part.connectors:
        known = _entry_points("fep.connectors")
        lines = [f"{c} = {known[c]}" for c in part.connectors]
        text = "\n".join(["[fep.connectors]", *lines]) + "\n"
        (info / "entry_points.txt").write_text(text, "utf-8")


def _entry_points(group: str) -> Mapping[str, str]:
    cfg = configparser.ConfigParser()
    cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = cfg["options.entry_points"][group].strip().splitlines()
    pairs = (line.partition("=") for line in lines)
    return {name.strip(): place.strip() for name, _, place in pairs}


# --- the system's files ---------------------------------------------------------------


def _system_files(root: Path) -> None:
    for source, to in (
        (FILES / "fep", f"{PREFIX}/bin/fep"),
        (FILES / "setup", f"{PREFIX}/lib/setup"),
        (ROOT / "agent.service", "usr/lib/systemd/system/fep.service"),
        (FILES / "fep.sysusers", "usr/lib/sysusers.d/fep.conf"),
        (FILES / "fep.tmpfiles", "usr/lib/tmpfiles.d/fep.conf"),
        (FILES / "vendor-driver.conf", "usr/share/fep/vendor-driver.conf"),
        *(
            (path, f"usr/share/fep/{path.relative_to(ROOT / 'config')}")
            for path in sorted((ROOT / "config").rglob("*"))
            if path.is_file()
        ),
    ):
        _put(source, root / to)
    link = root / "usr/bin/fep"
    link.parent.mkdir(parents=True)
    link.symlink_to(f"/{PREFIX}/bin/fep")


def _pages(roots: Mapping[str, Path]) -> None:
    """Man pages and completion; a command's page goes where the command is."""
    out = roots["fep"].with_name("pages")
    libraries = wheels.wheels(runtime.host())
    words: Words = [runtime.python(), "-sB", PACKAGING / "maker" / "pages.py", out]
    env = {"PYTHONPATH": f"{ROOT}:{libraries}", "PYTHONDONTWRITEBYTECODE": "1"}
    run(words, env=env)
    for page in sorted(out.glob("**/man1/*.1")):
        owner = "fep-sandbox" if page.stem in {"fep-demo", "fep-sandbox"} else "fep"
        folder = roots[owner] / "usr/share/man" / page.parent.relative_to(out)
        folder.mkdir(parents=True, exist_ok=True)
        packed = gzip.compress(page.read_bytes(), 9, mtime=0)
        (folder / f"{page.name}.gz").write_bytes(packed)
    share = roots["fep"] / "usr/share"
    for source, to in (
        ("bash/fep", "bash-completion/completions/fep"),
        ("zsh/_fep", "zsh/site-functions/_fep"),
        ("fish/fep.fish", "fish/vendor_completions.d/fep.fish"),
    ):
        _put(out / "completion" / source, share / to)
    shutil.rmtree(out)


def _compile(root: Path) -> None:
    """Byte code beside every module: the service cannot write it, and starts sooner.

    It is never compared with its source again, and its bytes depend on nothing but it.
    """
    site = root / PREFIX / "python/lib"
    words = [
        "-s",
        "-m",
        "compileall",
        "-f",  # also what the interpreter left in its own folder when it last ran
        "-q",
        "-j1",
        "--invalidation-mode=unchecked-hash",
    ]
    words += ["-s", str(root), "-p", "/", "-x", r"/lib2to3/tests/|/bad_", str(site)]
    env = {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
    env["PYTHONDONTWRITEBYTECODE"] = (
        "1"  # the interpreter that is copied stays as it is
    )
    run([runtime.python(), *words], env=env)


# --- all alike ------------------------------------------------------------------------


def _put(source: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, to)


def _settle(root: Path) -> None:
    """Modes and times that do not depend on who builds, when, or with which umask."""
    stamp = epoch()
    for path in [root, *_all(root)]:
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)
        os.utime(path, (stamp, stamp), follow_symlinks=False)


def _all(root: Path) -> Iterable[Path]:
    return sorted(root.rglob("*"))
