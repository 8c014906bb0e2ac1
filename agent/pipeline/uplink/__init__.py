# SPDX-License-Identifier: Apache-2.0
"""To the exchange over HTTPS with mutual TLS; ``exchange.Exchange`` is the whole of it.

``endpoint`` makes the TLS context, ``reply`` reads what comes back, and ``faults`` has
the exceptions of libraries in our words.
"""
