# SPDX-License-Identifier: Apache-2.0
"""A city's repository, people who hold keys, and a reference client that reads it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from agent.central import draft, keys, standing
from agent.central.change import Change
from agent.central.disk import Disk, RealDisk
from agent.central.keys import FileSigner
from agent.central.publish import Live, Press
from agent.central.roles import Holders, Terms
from agent.central.workspace import Workspace
from agent.crypto.metakey import MetadataKey

DEPARTMENT = "11990100MB0000027F"
OTHER = "11990100000000019F"
NODE = f"{DEPARTMENT}/fep1"
GROUP_FILE = "groups/all/config.json"
NODE_FILE = f"nodes/{NODE}/config.json"
HELD = {
    "root": (5, 3),
    "targets": (3, 2),
    "directory": (3, 2),
    "releases": (1, 1),
    "snapshot": (1, 1),
    "timestamp": (1, 1),
    "brake": (1, 1),
}
"""People and threshold of each role, as wire.md has them."""


def document(generation: int, text: str = "") -> bytes:
    """A configuration document."""
    settings = f'{{"log":{{"level":"{text}"}}}}' if text else "{}"
    body = f'"generation":{generation},"settings":{settings},"off":[]'
    return f'{{"v":1,{body}}}'.encode()


class City:
    """A workspace, and every person's signer by name such as ``root-1``."""

    def __init__(self, folder: Path, disk: Disk | None = None) -> None:
        self.workspace = Workspace(folder)
        self.disk = RealDisk() if disk is None else disk
        self.now = datetime.now(UTC)
        self.people: dict[str, FileSigner] = {}
        for role, (count, _) in HELD.items():
            for i in range(1, count + 1):
                self.person(f"{role}-{i}")
        self.workspace.make(Terms(), RealDisk())
        self.first: bytes = b""

    def person(self, name: str) -> FileSigner:
        """A signer of this name; made if there is none."""
        if name not in self.people:
            self.people[name] = FileSigner(MetadataKey.generate(), name)
        return self.people[name]

    def holders(self, names: str, threshold: int) -> Holders:
        """Those of these names, with blanks between."""
        found = tuple(self.person(name).public_key for name in names.split())
        return Holders(found, threshold)

    def online(self) -> dict[str, FileSigner]:
        """Keys of the roles that lie online."""
        names = [n for n in self.people if n.startswith(("snap", "time", "brake"))]
        found = [self.people[name] for name in names]
        return {signer.public_key.keyid: signer for signer in found}

    def press(self, disk: Disk | None = None) -> Press:
        """What publishes."""
        disk = self.disk if disk is None else disk
        return Press(self.workspace.published, self.online(), disk)

    def begun(self) -> Change:
        """The first words, unsigned."""
        change = Change(None, Terms(), self.now)
        change.begin(
            {
                role: self.holders(
                    " ".join(f"{role}-{i}" for i in range(1, count + 1)), threshold
                )
                for role, (count, threshold) in HELD.items()
            }
        )
        return change

    def begin(self) -> Live:
        """The first publication, signed by as few as must."""
        change = self.begun()
        self.sign(change, "root-1 root-2 root-3 targets-1 targets-2")
        self.sign(change, "directory-1 directory-2 releases-1")
        live = self.press().publish(change)
        self.first = (self.metadata / "1.root.json").read_bytes()
        return live

    @property
    def metadata(self) -> Path:
        """What is served."""
        return self.workspace.published / "metadata"

    def change(self) -> Change:
        """What may be changed now."""
        return Change(standing.read(self.workspace.published), Terms(), self.now)

    def sign(self, change: Change, names: str) -> Change:
        """Let people sign every word in which they have a part."""
        for name in names.split():
            signer = self.person(name)
            for role in change.words:
                if signer.public_key.keyid in change.holders(role):
                    change.words[role].sign(signer, append=True)
        return change

    def put(self, path: str, content: bytes, names: str) -> Live:
        """A file goes live, signed by these."""
        change = self.change()
        change.put(path, content)
        return self.press().publish(self.sign(change, names))

    def member(self, department: str = DEPARTMENT) -> Live:
        """A department gets a role with one key, ``<department>-1``."""
        change = self.change()
        name = f"{department}-1"
        change.hold(f"department-{department}", self.holders(name, 1))
        return self.press().publish(self.sign(change, f"targets-1 targets-2 {name}"))

    def drafted(self, change: Change) -> Path:
        """The change as a folder to carry."""
        draft.save(change, self.workspace.draft, self.disk)
        return self.workspace.draft

    def key_file(self, folder: Path, name: str, passphrase: bytes | None) -> Path:
        """A new person's key as a file; :meth:`person` knows it too."""
        path = folder / f"{name}.key"
        keys.generate(path, name=name, passphrase=passphrase, disk=self.disk)
        found = keys.load(path, passphrase=passphrase, environ={})
        self.people[name] = found
        return path


class FolderFetcher(FetcherInterface):
    """Reads a published folder as if it were served at ``http://city/``."""

    def __init__(self, published: Path) -> None:
        self._published = published

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self._published / unquote(urlsplit(url).path).lstrip("/")
        if not path.is_file():
            raise DownloadHTTPError(f"no {path.name}", 404)
        yield path.read_bytes()


class Client:
    """python-tuf's own client, with what it has kept.

    Args:
        folder: what it keeps.
        root: the first root, which it trusts.
        base: where the repository is.
        fetcher: None takes the library's own.
    """

    def __init__(
        self, folder: Path, root: bytes, *, base: str, fetcher: FetcherInterface | None
    ) -> None:
        (folder / "targets").mkdir(parents=True, exist_ok=True)
        self._folder, self._root = folder, root
        self._base, self._fetcher = base, fetcher

    @classmethod
    def of(cls, city: City, folder: Path) -> Client:
        """A client that reads the folder itself."""
        fetcher = FolderFetcher(city.workspace.published)
        return cls(folder, city.first, base="http://city", fetcher=fetcher)

    def read(self, *paths: str) -> dict[str, bytes]:
        """Refresh, then the files of these paths."""
        updater = Updater(
            metadata_dir=str(self._folder),
            metadata_base_url=f"{self._base}/metadata/",
            target_dir=str(self._folder / "targets"),
            target_base_url=f"{self._base}/targets/",
            fetcher=self._fetcher,
            config=UpdaterConfig(prefix_targets_with_hash=True),
            bootstrap=self._root,
        )
        updater.refresh()
        found = {}
        for path in paths:
            info = updater.get_targetinfo(path)
            if info is not None:
                name = str(self._folder / "targets" / path.replace("/", "%2F"))
                found[path] = Path(updater.download_target(info, name)).read_bytes()
        return found


def fresh(city: City) -> Client:
    """A client that knows only the first root."""
    folder = Path(tempfile.mkdtemp(dir=city.workspace.folder))
    return Client.of(city, folder)
