# SPDX-License-Identifier: Apache-2.0
"""What the commands of ``fep central`` share: workspace, keys, documents' judge."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from agent.central import draft, keys, publish, shapes, standing
from agent.central.change import Change
from agent.central.disk import Disk, RealDisk
from agent.central.publish import Live, Press
from agent.central.workspace import Workspace
from agent.cli.common.context import Asked
from agent.cli.common.language import say
from agent.errors import DocumentInvalid, Fault, SpoolWriteFailed, UsageFault
from agent.wire import configuration
from agent.wire.grammar import format_time

Folder = Annotated[
    str,
    typer.Argument(
        metavar="WORKSPACE", help=say("The publisher's folder.", "发布工作目录。")
    ),
]
PassphraseFile = Annotated[
    str | None,
    typer.Option(
        "--passphrase-file",
        metavar="FILE",
        help=say(
            "File whose first line is the passphrase; asked for without it.",
            "口令文件，取首行；省略则交互输入。",
        ),
    ),
]


@dataclass(frozen=True)
class Bench:
    """A workspace that this process holds."""

    workspace: Workspace
    now: datetime
    disk: Disk

    def change(self, *, anew: bool = False) -> Change:
        """What waits for signatures; else nothing but what is published.

        Raises:
            UsageFault: here is no workspace.
            CentralStale: what waits is out of date.
            CentralInvalid: what is published, or waits, is damaged.
        """
        before = standing.read(self.workspace.published)
        terms = self.workspace.terms()
        if anew or not self.workspace.draft.is_dir():
            return Change(before, terms, self.now)
        found = draft.load(
            self.workspace.draft, before=before, terms=terms, now=self.now
        )
        publish.check_versions(found)
        return found

    def published(self) -> Change:
        """Nothing but what is published.

        Raises:
            UsageFault: nothing is.
            CentralInvalid: it is damaged.
        """
        found = self.change(anew=True)
        if found.before is None:
            raise UsageFault(
                f"{self.workspace.folder}: nothing is published yet; sign the first"
                " draft, then `fep central publish`"
            )
        return found

    def press(self) -> Press:
        """What publishes, with the keys that lie online.

        Raises:
            SecretUnreadable: one cannot be read.
        """
        signers = keys.online(self.workspace.online, os.environ)
        return Press(self.workspace.published, signers, self.disk, judge)

    def keep(self, change: Change) -> None:
        """Let a change wait for signatures."""
        draft.save(change, self.workspace.draft, self.disk)


@contextmanager
def bench(folder: str) -> Iterator[Bench]:
    """The workspace of a command, alone.

    Raises:
        UsageFault: here is none.
        CentralBusy: somebody else publishes.
        SpoolWriteFailed: the disk refused.
    """
    workspace = Workspace(Path(folder).absolute())
    workspace.terms()
    with disk_faults(), workspace.alone():
        yield Bench(workspace, now(), RealDisk())


def unlocked(folder: str) -> Bench:
    """The workspace of a command that only looks.

    Raises:
        UsageFault: here is none.
    """
    workspace = Workspace(Path(folder).absolute())
    workspace.terms()
    return Bench(workspace, now(), RealDisk())


@contextmanager
def disk_faults() -> Iterator[None]:
    """Say what the disk refused.

    Raises:
        SpoolWriteFailed: instead of OSError.
    """
    try:
        yield
    except OSError as e:
        raise SpoolWriteFailed(f"{e.filename}: {e.strerror}") from e


def now() -> datetime:
    """The clock of this machine."""
    return datetime.now(UTC)


def judge(path: str, content: bytes) -> Iterable[Fault]:
    """Every fault of a document, as an agent would judge it."""
    try:
        configuration.parse(path, content)
    except ValueError:
        return shapes.faults(path, content)
    except DocumentInvalid as e:
        return e.faults
    return ()


def show_live(ask: Asked, live: Live, root_sha256: str) -> None:
    """What is served now."""
    if ask.json:
        ask.print_json(live_json(live, root_sha256))
        return
    for role, version in sorted(live.versions.items()):
        until = live.expires[role].date().isoformat()
        print(f"  {role:<32} {version:>6}  → {until}")
    print(ask.say("Served from now on.", "已发布生效。"))


def live_json(live: Live, root_sha256: str) -> dict[str, object]:
    """The documented form of what is served."""
    return {
        "root_sha256": root_sha256,
        "roles": [
            {
                "role": role,
                "version": version,
                "expires": format_time(live.expires[role]),
            }
            for role, version in sorted(live.versions.items())
        ],
    }


def root_sha256(workspace: Workspace) -> str:
    """What agents pin: SHA-256 of the first root."""
    import hashlib

    first = workspace.published / "metadata" / "1.root.json"
    return hashlib.sha256(first.read_bytes()).hexdigest()
