# SPDX-License-Identifier: Apache-2.0
"""Which language a command speaks.

``--lang``, else the locale when it names Chinese or English, else ``agent.language`` of
the settings, else Chinese. Help texts are chosen when a command's module is imported,
so this reads the arguments itself, before they are parsed.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agent.errors import Text

Language = Literal["zh", "en"]

CONFIG = "/etc/fep/agent.toml"
RUN = "/run/fep"


@dataclass(frozen=True)
class Peek:
    """The two settings that a command needs before, or without, all others.

    A broken file is not judged here: ``fep config check`` does that.
    """

    language: Language | None
    run: Path


def peek(config: Path) -> Peek:
    """Read ``agent.language`` and ``paths.run``, with their defaults."""
    try:
        body = tomllib.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        body = {}
    language = _member(body, "agent", "language")
    run = _member(body, "paths", "run")
    return Peek(_language(str(language)), config.parent / str(run or RUN))


def language(argv: Sequence[str], environ: Mapping[str, str]) -> Language:
    """The language of a call.

    Args:
        argv: arguments without the program's name.
        environ: LC_ALL, LC_MESSAGES, LANG and FEP_CONFIG are looked at.
    """
    asked = _language(_option(argv, "--lang") or "")
    if asked:
        return asked
    locale = next(
        (environ[k] for k in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(k)), ""
    )
    if spoken := _language(locale[:2]):
        return spoken
    config = _option(argv, "--config") or environ.get("FEP_CONFIG") or CONFIG
    return peek(Path(config)).language or "zh"


def say(en: str, zh: str) -> str:
    """One of two texts, for help that is chosen at import."""
    chosen = language(sys.argv[1:], os.environ)
    return zh if chosen == "zh" else en


def pick(text: Text, spoken: Language) -> str:
    """The sentence in one language."""
    return text.zh if spoken == "zh" else text.en


def _language(text: str) -> Language | None:
    match text:
        case "zh":
            return "zh"
        case "en":
            return "en"
        case _:
            return None


def _option(argv: Sequence[str], name: str) -> str | None:
    for i, word in enumerate(argv):
        if word == name and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith(name + "="):
            return word.partition("=")[2]
    return None


def _member(body: object, *path: str) -> object:
    for name in path:
        body = body.get(name) if isinstance(body, dict) else None
    return body
