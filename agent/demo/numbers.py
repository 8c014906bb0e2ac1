# SPDX-License-Identifier: Apache-2.0
"""Numbers of persons and organisations that pass their checks and belong to nobody.

The check characters are computed here and not by ``agent.catalog.identifiers``, so that
builder and checker cannot share an error.
"""

from __future__ import annotations

_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_ORG_WEIGHTS = (3, 7, 9, 10, 5, 8, 4, 2)


def citizen_id(body: str) -> str:
    """17 digits with their GB 11643 check character."""
    total = sum(int(d) * w for d, w in zip(body, _ID_WEIGHTS, strict=True))
    return body + "10X98765432"[total % 11]


def uscc(body: str) -> str:
    """17 characters with their GB 32100 check character."""
    total = sum(USCC_ALPHABET.index(c) * pow(3, i, 31) for i, c in enumerate(body))
    return body + USCC_ALPHABET[(31 - total % 31) % 31]


def organisation(body: str) -> str:
    """8 characters with their GB 11714 check character."""
    total = sum(int(c, 36) * w for c, w in zip(body, _ORG_WEIGHTS, strict=True))
    return body + "0123456789X0"[11 - total % 11]
