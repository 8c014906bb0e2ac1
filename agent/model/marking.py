# SPDX-License-Identifier: Apache-2.0
"""Secrecy markings in texts (辽阳办法 article 26: nothing secret is shared)."""

from __future__ import annotations

import re

MARKING = "(绝密|机密|秘密)[ \u3000]*★"
"""A marking such as 机密★10年; for RE2 and for ``re`` alike."""

_MARKING = re.compile(MARKING)


def marked(text: str | None) -> bool:
    """Whether a text carries a marking; nearly none has a star."""
    return text is not None and "★" in text and _MARKING.search(text) is not None
