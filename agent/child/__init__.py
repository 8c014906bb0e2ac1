# SPDX-License-Identifier: Apache-2.0
"""Child processes: ``process`` is our side of one, ``inside`` is its own."""
