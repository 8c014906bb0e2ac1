# SPDX-License-Identifier: Apache-2.0
"""The child processes that touch a source, and how the daemon starts and guards them.

``spawn`` is the daemon's side; ``run`` joins the stages of a pull inside the child, and
``probe`` answers questions about a source. A child holds no keys.
"""
