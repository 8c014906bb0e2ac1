# SPDX-License-Identifier: Apache-2.0
"""What ``fep enrol`` asks of a person, and what it shows while somebody decides."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import typer

from agent.cli.common.context import Asked
from agent.crypto.jose import message_digest
from agent.errors import UsageFault
from agent.wire.enrolment import TEXT_CAP, Code
from agent.wire.fingerprint import Fingerprint

_STEPS = {
    "ca": ("comparing the exchange's CA with the slip", "核对交换中心 CA 与凭条"),
    "keys": ("keys of this machine", "本机密钥"),
    "certificate": ("certificate", "申请证书"),
    "statement": ("key statement", "提交密钥声明"),
    "directory": ("directory", "获取目录"),
}


def read_code(file: str) -> Code:
    """The code of a file, ``-`` standard input.

    Raises:
        UsageFault: it cannot be read.
        CodeMistyped: there is no code in it.
    """
    try:
        if file == "-":
            return Code.parse(sys.stdin.read(TEXT_CAP + 1))
        with Path(file).open(encoding="utf-8") as text:
            return Code.parse(text.read(TEXT_CAP + 1))
    except (OSError, UnicodeDecodeError) as e:
        raise UsageFault(f"--code-file {file}: {e}") from e


def ask_code(ask: Asked) -> Code:
    """The code as somebody types it at the terminal.

    Raises:
        CodeMistyped: it cannot be one.
    """
    return Code.parse(
        typer.prompt(ask.say("One-time code of the slip", "凭条上的注册码"), err=True)
    )


class Progress:
    """Says each step on stderr; while a request waits, who has to do what.

    Args:
        ask: the call; with ``--json`` only what a person must know is said.
        node: this machine.
        statement: file of its key statement 1, which is there once it waits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ask: Asked,
        node: str,
        statement: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._node = node
        self._statement = statement
        self._clock = clock
        self._since: float | None = None
        self._minute = -1

    def __call__(self, step: str) -> None:
        """A step has begun, or goes on."""
        if step in _STEPS:
            if not self._ask.json:
                self._say(f"… {self._ask.say(*_STEPS[step])}")
            return
        if self._since is None:
            self._since = self._clock()
            self._explain()
        waited = int(self._clock() - self._since)
        if sys.stderr.isatty() or waited // 60 > self._minute:
            self._minute = waited // 60
            self._say(f"… {self._waiting(step)} {waited // 60}:{waited % 60:02}")

    def _waiting(self, step: str) -> str:
        if step == "away":
            return self._ask.say(
                "the exchange does not answer now, trying on",
                "交换中心暂无应答，继续尝试",
            )
        return self._ask.say("waiting for approval", "等待中心审批")

    def _explain(self) -> None:
        text = self._statement.read_text("ascii")
        found = Fingerprint(self._node, message_digest(text))
        self._say(
            self._ask.say(
                "Central ops must approve this machine. Ring them, read these words:",
                "须由中心审批本机。请致电中心并报读以下文字：",
            )
        )
        self._say(fingerprint_text(found))
        self._say(
            self._ask.say(
                "They must see the same. Ctrl-C stops this; call it again at any time.",
                "对方所见须完全一致。可中断（Ctrl-C）后重新执行，不影响审批。",
            )
        )

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def fingerprint_text(found: Fingerprint) -> str:
    """The words in both languages; on a terminal the QR code, too."""
    lines = [f"  {' '.join(found.zh)}", f"  {' '.join(found.en)}"]
    if sys.stderr.isatty():
        lines.append(qr_code(found.uris))
    return "\n".join(lines)


def qr_code(text: str) -> str:
    """A QR code in half blocks, dark on light."""
    import io

    import segno

    out = io.StringIO()
    segno.make(text, error="l", micro=False).terminal(out, compact=True)
    return out.getvalue()


class NewFile:
    """A file that must not exist yet, opened before rights are given up.

    Raises:
        UsageFault: it exists, or cannot be made.
    """

    def __init__(self, path: Path) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._path = path
        try:
            self._handle = os.open(path, flags, 0o600)
        except OSError as e:
            raise UsageFault(f"{path}: {e.strerror}") from e

    def discard(self) -> None:
        """Nothing was written: the file goes, if it may."""
        os.close(self._handle)
        with suppress(OSError):
            self._path.unlink()

    def write(self, data: bytes) -> None:
        """Write all of it, durably.

        Raises:
            UsageFault: the medium refused.
        """
        try:
            with os.fdopen(self._handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as e:
            raise UsageFault(f"{self._path}: {e.strerror}") from e
