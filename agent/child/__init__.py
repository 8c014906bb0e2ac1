# SPDX-License-Identifier: Apache-2.0
"""Child processes that touch a source: ``process`` is our side, ``inside`` theirs."""
