# SPDX-License-Identifier: Apache-2.0
"""Connectors: each reads one kind of database, and knows nothing of the agent."""
