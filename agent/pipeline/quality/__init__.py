# SPDX-License-Identifier: Apache-2.0
"""Quality: what a row must be to leave, judged a column at a time in the worker.

``check.Checker`` is the whole of it for others; ``agent.values`` makes exact types,
``rules`` judge them, ``reasons`` names why a row is withheld.
"""
