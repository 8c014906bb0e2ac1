# SPDX-License-Identifier: Apache-2.0
"""Child processes, at a source or at the network: ``process`` is our side, ``inside``
theirs."""
