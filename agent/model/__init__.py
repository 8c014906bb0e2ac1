# SPDX-License-Identifier: Apache-2.0
"""Frozen values that cross a border between stages; standard library only."""
