# SPDX-License-Identifier: Apache-2.0
"""Lookups (联机查询): a signed question comes in, a signed answer goes out.

Stages are strangers and meet in ``flow``: ``relay`` and ``door`` bring requests,
``intake`` bounds them, ``verify`` says who asks, ``policy`` whether, ``query`` fetches,
``mask`` hides and ``reply`` answers.
"""
