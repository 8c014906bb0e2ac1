# SPDX-License-Identifier: Apache-2.0
"""The daemon.

``life`` goes from the start to the signal, ``assembly`` makes the parts in one place,
and ``loops`` turn beside the flow.
"""
