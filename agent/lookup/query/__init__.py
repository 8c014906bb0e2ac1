# SPDX-License-Identifier: Apache-2.0
"""Query: rows by exact keys from a source, through one long-lived child a source.

``gather.Sources`` is the whole of it for others, with the values of ``ask``. In the
daemon ``gather`` joins what waits and ``process`` watches the child; in the child
``worker`` asks the connector and ``texts`` makes canonical texts. They speak ``talk``.
"""

from agent.lookup.query.ask import BAD, TWICE, Answer, Ask, Row, Value

__all__ = ["BAD", "TWICE", "Answer", "Ask", "Row", "Value"]
