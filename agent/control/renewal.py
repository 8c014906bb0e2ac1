# SPDX-License-Identifier: Apache-2.0
"""When a certificate is renewed, and when people are warned that it was not. Pure.

A certificate is renewed at two thirds of its life. Before that nobody is warned,
however short its life is; after it people hear 30, 7 and 1 days before the end.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from agent.crypto.certificates import Certificate
from agent.errors import CertificateExpired, CertificateExpiring, FepError
from agent.wire.grammar import format_time

WARN_DAYS = (30, 7, 1)
"""So many days before its end people are warned."""
ENDED = 0
"""The warning that it has ended."""


def renew_at(certificate: Certificate) -> datetime:
    """Two thirds of its life."""
    life = certificate.not_after - certificate.not_before
    return certificate.not_before + life * 2 / 3


def due(certificate: Certificate, now: datetime) -> bool:
    """Whether it is to be renewed now."""
    return now >= renew_at(certificate)


def warning(certificate: Certificate, now: datetime) -> int | None:
    """The tightest of :data:`WARN_DAYS` that has come, :data:`ENDED`, or None."""
    if now >= certificate.not_after:
        return ENDED
    if not due(certificate, now):
        return None
    left = certificate.not_after - now
    reached = [days for days in WARN_DAYS if left <= timedelta(days=days)]
    return min(reached) if reached else None


def trouble(certificate: Certificate, now: datetime) -> FepError | None:
    """What status shows of it."""
    found = warning(certificate, now)
    if found is None:
        return None
    end = format_time(certificate.not_after)
    if found == ENDED:
        return CertificateExpired(f"it ended at {end}")
    return CertificateExpiring(f"it ends at {end}, within {found} days")
