# SPDX-License-Identifier: Apache-2.0
"""The centre's configuration on this machine's disk: what runs, and what ran well.

Rules

1. ``running.json`` is the overlay that runs, ``good.json`` the last one that ran well.
   A file that is not there is no overlay: the local settings alone.
2. While the two differ a probation is open. So beginning one, ending it well and going
   back are one rename each, and nothing between them can be lost.
3. ``trial.json`` says how the probation stands: how often the daemon died in it, and
   whether it has been given up. It is written before what it tells of is done, and one
   of another overlay than the one that runs tells nothing.
4. A damaged ``running.json`` counts as what ran well; a damaged ``good.json`` as none.
5. A disk that refuses is asked once more after the reserve was given up.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from agent.control import overlay as overlays
from agent.control.identity import make_folder, writing
from agent.control.overlay import Overlay
from agent.errors import RunningDamaged, SpoolWriteFailed

CAP = 1024 * 1024
"""So much of ``trial.json`` is read, bytes."""


@dataclass(frozen=True)
class Standing:
    """How a probation stands.

    Args:
        generation: of the overlay on probation.
        digest: of the overlay on probation.
        began: when, wire grammar.
        watched: streams that it changes and that worked before.
        deaths: how often the daemon died in it.
        stopped: the daemon was stopped in good order and has not begun again, or has
            lived so long that its end is no death.
        reason: code of the error for which it was given up, or None.
        detail: of that error.
    """

    generation: int
    digest: str
    began: str
    watched: tuple[str, ...] = ()
    deaths: int = 0
    stopped: bool = False
    reason: str | None = None
    detail: str = ""


class Applied:
    """The overlays of one state folder.

    Args:
        folder: ``<state>/config``.
        full: gives up the reserve of the disk.
        step: called with the name of each step before it is taken; a test dies there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        full: Callable[[], None] = lambda: None,
        step: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._running = folder / "running.json"
        self._good = folder / "good.json"
        self._trial = folder / "trial.json"
        self._full = full
        self._step = step

    # --- what there is --------------------------------------------------------------

    def running(self) -> Overlay | None:
        """What runs, rule 4."""
        if not self._running.exists():
            return None
        return _read(self._running) or self.good()

    def good(self) -> Overlay | None:
        """What ran well last."""
        return _read(self._good)

    def open(self) -> bool:
        """Whether a probation is open."""
        return _digest(self.running()) != _digest(self.good())

    def standing(self) -> Standing | None:
        """How the probation stands; None if none is open or nothing is known of it."""
        found = _standing(self._trial)
        running = self.running()
        if found is None or running is None or found.digest != running.digest:
            return None
        return found if self.open() else None

    # --- what becomes of it ---------------------------------------------------------

    def begin(self, overlay: Overlay, *, at: str, watched: Collection[str]) -> None:
        """Let an overlay run, on probation.

        Raises:
            SpoolWriteFailed: the disk refused; then the old one runs, or this one.
        """
        self.note(
            Standing(overlay.generation, overlay.digest, at, tuple(sorted(watched)))
        )
        self._put(self._running, overlay.as_json())

    def note(self, standing: Standing) -> None:
        """Keep how the probation stands.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        self._put(self._trial, json.dumps(asdict(standing)).encode())

    def prove(self) -> None:
        """What runs has run well.

        Raises:
            SpoolWriteFailed: the disk refused; then the probation is still open.
        """
        self._copy(self.running(), self._good)

    def revert(self, reason: str, detail: str) -> None:
        """Go back to what ran well; why is kept until the next :meth:`begin`.

        Raises:
            SpoolWriteFailed: the disk refused; :meth:`restart` goes back all the same.
        """
        running = self.running()
        if running is None:
            return
        found = self.standing() or _unknown(running)
        self.note(replace(found, reason=reason, detail=detail))
        self._copy(self.good(), self._running)

    def withdraw(self) -> None:
        """Go back to what ran well, and hold nothing against the other one.

        Raises:
            SpoolWriteFailed: the disk refused; then its probation is open.
        """
        self._copy(self.good(), self._running)

    def given_up(self) -> Standing | None:
        """The probation that was given up last; None if there was none since."""
        found = _standing(self._trial)
        return None if found is None or found.reason is None else found

    def restart(self, *, most: int, reason: str) -> Standing | None:
        """The daemon begins: count how it ended, go back if that is too often.

        Args:
            most: so often it may die in a probation.
            reason: code for one that dies too often.

        Returns:
            How the probation stands; None if none is open any more.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        running = self.running()
        if self._running.exists() and _read(self._running) is None:
            self._copy(self.good(), self._running)  # rule 4
        if running is None or not self.open():
            return None
        found = self.standing() or _unknown(running)
        if found.reason is not None:
            self._copy(self.good(), self._running)
            return None
        deaths = found.deaths + (0 if found.stopped else 1)
        found = replace(found, deaths=deaths, stopped=False)
        self.note(found)
        if deaths >= most:
            self.revert(reason, f"the daemon died {deaths} times")
            return None
        return found

    def stop(self) -> None:
        """The daemon ends in good order: that is no death.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        found = self.standing()
        if found is not None:
            self.note(replace(found, stopped=True))

    def lived(self) -> None:
        """The daemon has lived long enough: however it ends, that is no death.

        Raises:
            SpoolWriteFailed: the disk refused.
        """
        found = self.standing()
        if found is not None:
            self.note(replace(found, deaths=0, stopped=True))

    # --- the disk -------------------------------------------------------------------

    def _copy(self, overlay: Overlay | None, path: Path) -> None:
        if overlay is not None:
            self._put(path, overlay.as_json())
            return
        with writing(path):
            self._step(f"unlink {path.name}")
            path.unlink(missing_ok=True)
            self._sync(path.parent)

    def _put(self, path: Path, data: bytes) -> None:
        """Put a file in place; rule 5."""
        try:
            self._put_whole(path, data)
        except SpoolWriteFailed:
            self._full()
            self._put_whole(path, data)

    def _put_whole(self, path: Path, data: bytes) -> None:
        """It is the old one or the new one at any moment."""
        tmp = path.with_name(path.name + ".tmp")
        with writing(path):
            make_folder(path.parent)
            self._step(f"write {path.name}")
            fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(data)
                file.flush()
                self._step(f"sync {path.name}")
                os.fsync(fd)
            self._step(f"rename {path.name}")
            tmp.replace(path)
            self._sync(path.parent)

    def _sync(self, folder: Path) -> None:
        self._step("sync folder")
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _read(path: Path) -> Overlay | None:
    """The overlay of a file, None if there is none or it is damaged."""
    try:
        return overlays.read(path)
    except RunningDamaged:
        return None


def _standing(path: Path) -> Standing | None:
    try:
        with path.open("rb") as file:
            body = json.loads(file.read(CAP))
        found = Standing(**{**body, "watched": tuple(body["watched"])})
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    texts = (found.digest, found.began, found.detail, *found.watched)
    numbers = (found.generation, found.deaths)
    whole = (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, int) for number in numbers)
        and isinstance(found.reason, str | None)
    )
    return found if whole else None


def _unknown(running: Overlay) -> Standing:
    """Of a probation that nothing is known of."""
    return Standing(running.generation, running.digest, "")


def _digest(overlay: Overlay | None) -> str | None:
    return None if overlay is None else overlay.digest
