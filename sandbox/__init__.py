# SPDX-License-Identifier: Apache-2.0
"""A small real exchange: what the agent is tried out, shown and tested against."""
