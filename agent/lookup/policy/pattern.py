# SPDX-License-Identifier: Apache-2.0
"""Patterns of a legal basis: RE2, so that no pattern and no text takes long.

The home of ``re2``. RE2 has neither back-references nor look-around; its time grows
with the length of the text only, and its memory is bounded by :data:`MEMORY`.
"""

from __future__ import annotations

import re2  # type: ignore[import-untyped]

LONGEST = 512
"""Most characters of a pattern."""

MEMORY = 1 << 20
"""Most bytes of one compiled pattern, states that are made while matching included."""


class BadPattern(ValueError):
    """RE2 does not take a pattern; the text says why."""


class Pattern:
    """A compiled pattern.

    Args:
        text: in RE2's syntax; ``^`` and ``$`` may stand, a match is whole anyway.

    Raises:
        BadPattern: too long, not RE2's syntax, or too large when compiled.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        if len(text) > LONGEST:
            raise BadPattern(f"more than {LONGEST} characters")
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        options.max_mem = MEMORY
        try:
            self._compiled = re2.compile(text, options)
        except re2.error as e:
            raise BadPattern(_words(e)) from None
        except UnicodeEncodeError:
            raise BadPattern("half of a character (lone surrogate)") from None

    def matches(self, text: str) -> bool:
        """Whether a text is ASCII and the pattern matches the whole of it.

        Digits and letters of other scripts only look like those of a case number.
        """
        return text.isascii() and self._compiled.fullmatch(text) is not None


def _words(error: Exception) -> str:
    """What RE2 says; its Python binding gives bytes."""
    said = error.args[0] if error.args else b""
    return said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
