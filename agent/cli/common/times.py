# SPDX-License-Identifier: Apache-2.0
"""Times as people type them."""

from __future__ import annotations

from datetime import UTC, datetime

from agent.errors import UsageFault


def since(text: str | None) -> str | None:
    """A day, or a time, as the wire has it; without a zone it is the terminal's.

    Raises:
        UsageFault: it is neither.
    """
    return None if text is None else _wire("--since", text)


def until(text: str) -> str:
    """The same of ``--until``.

    Raises:
        UsageFault: as for :func:`since`.
    """
    return _wire("--until", text)


def _wire(option: str, text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
        at = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise UsageFault(
            f"{option}: expected a day or a time like 2026-11-21T08:00, got {text!r}"
        ) from None
    return at.isoformat() + "Z"
