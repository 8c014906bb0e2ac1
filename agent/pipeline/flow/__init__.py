# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of the push; ``push.PushFlow`` is the whole of it for others.

``reading`` and ``sending`` are the two loops of a resource's ``lane``; ``judge``
decides what positions, receipts and counts mean; ``report`` and ``status`` tell;
``sweep`` deletes what is settled; ``seams`` names what is passed in.
"""
