# SPDX-License-Identifier: Apache-2.0
"""A department that asks by programs alone, as docs/lookup.md shows its developer.

``python -m sandbox.consumer`` has the keys and makes and opens messages, curl carries
them. All run where the exchange runs.

::

    asker = AskingProcess(folder, exchange)
    asker.enrol()
    signed = asker.seal(question)
    asker.open(signed, asker.send(signed))
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.answering import ASKER
from tests.support.sandbox_process import SandboxProcess


@dataclass(frozen=True)
class Signed:
    """One question in two files: signed, and sealed for its way."""

    jws: Path
    jwe: Path


@dataclass(frozen=True)
class Answer:
    """What came back, unopened.

    Args:
        status: of HTTP.
        body: a sealed reply, or a problem.
    """

    status: int
    body: bytes

    @property
    def problem(self) -> str:
        """The problem's code; empty for a reply."""
        if self.status == 200:
            return ""
        return str(json.loads(self.body)["type"]).rpartition(":")[2]


def _kept(signed: Signed) -> Path:
    return signed.jwe.with_suffix(".opened")


class AskingProcess:
    """The department.

    Args:
        folder: for its keys and messages.
        exchange: where it asks.
    """

    def __init__(self, folder: Path, exchange: SandboxProcess) -> None:
        self.folder = folder
        self.exchange = exchange
        self._keys = folder / "keys"
        self._count = 0
        folder.mkdir()

    def enrol(self) -> None:
        """Become a node."""
        self._consumer("enrol", "--node", ASKER)

    def ask(self, question: Mapping[str, Any]) -> Any:
        """The members of the checked reply to a new question."""
        signed = self.seal(question)
        return self.open(signed, self.send(signed))[0]

    def seal(self, question: Mapping[str, Any]) -> Signed:
        """Sign and seal; nothing is sent."""
        self._count += 1
        base = self.folder / f"{self._count}"
        signed = Signed(base.with_suffix(".jws"), base.with_suffix(".jwe"))
        said = self._consumer("seal", "--save", signed.jws, body=question)
        signed.jwe.write_text(said, "ascii")
        return signed

    def send(self, signed: Signed, *, url: str = "", insecure: bool = False) -> Answer:
        """Carry it to the exchange, or elsewhere; what comes back.

        Args:
            signed: what to carry.
            url: where to, if not to the exchange.
            insecure: whoever answers there is believed.
        """
        reply = signed.jwe.with_suffix(".reply")
        reply.unlink(missing_ok=True)
        keys = self._keys
        words: list[str | Path] = [
            "curl",
            "-sS",
            "--max-time",
            "45",
            "--cacert",
            keys / "ca.pem",
        ]
        words += ["--cert", keys / "tls.pem", "--key", keys / "tls.key"]
        words += ["-H", "Content-Type: application/jose", "-w", "%{http_code}"]
        words += ["--data-binary", f"@{signed.jwe}", "-o", reply]
        words += ["--insecure"] if insecure else []
        said = self._run(*words, url or f"{self.exchange.url}/v1/relay")
        return Answer(int(said), reply.read_bytes())

    def open(self, signed: Signed, answer: Answer) -> tuple[Any, bytes]:
        """Open and check a reply; its members, and the signed message itself."""
        assert answer.status == 200, answer
        kept = _kept(signed)
        words = ("open", "--request", signed.jws, "--save", kept)
        said = self._consumer(*words, signed.jwe.with_suffix(".reply"))
        return json.loads(said), kept.read_bytes()

    def kept(self, signed: Signed) -> bytes:
        """The signed reply that was opened last."""
        return _kept(signed).read_bytes()

    def _consumer(
        self, *words: str | Path, body: Mapping[str, Any] | None = None
    ) -> str:
        told = self.exchange.folder / "sandbox.json"
        options: list[str | Path] = ["--dir", self._keys, "--exchange", told]
        program = [sys.executable, "-m", "sandbox.consumer"]
        return self._run(*program, *options, *words, text=json.dumps(body))

    def _run(self, *words: str | Path, text: str = "") -> str:
        done = subprocess.run(
            [*self.exchange.within, *map(str, words)],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout
