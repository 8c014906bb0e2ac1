# SPDX-License-Identifier: Apache-2.0
"""A department that asks: its keys, its questions, what it checks in an answer.

It is the other side of a lookup, for trying out, demo, tests and measuring, and shares
no process with the provider's agent or the exchange.
"""

from __future__ import annotations

from sandbox.consumer.client import Consumer, Heard, Question
from sandbox.consumer.home import Home, Target
from sandbox.consumer.line import Line, Refusal, connected

__all__ = [
    "Consumer",
    "Heard",
    "Home",
    "Line",
    "Question",
    "Refusal",
    "Target",
    "connected",
]
